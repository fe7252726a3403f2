import numpy as np

from keras_agalite.ops.relative_attention import distance_encoding
from keras_agalite.ops.segment_attention import distance_scores, segment_attention
from tests.helpers import compiled, to_numpy

BATCH, TOKENS, CACHED, HEADS, SIZE = 2, 3, 2, 2, 4
LENGTH = CACHED + TOKENS


def test_matches_a_plain_loop():
    random = np.random.default_rng(0)
    shape = (BATCH, LENGTH, HEADS, SIZE)
    query = random.normal(size=(BATCH, TOKENS, HEADS, SIZE)).astype("float32")
    key, value = random.normal(size=(2, *shape)).astype("float32")
    position = random.normal(size=(LENGTH + TOKENS - 1, HEADS, SIZE)).astype("float32")
    visible = np.ones((1, TOKENS, LENGTH), bool)
    visible[0, 0, [1, 4]] = visible[0, 2, 0] = False

    y = compiled(
        lambda q, k, v, p: segment_attention(
            q, k, v, distance_scores(q, p, LENGTH), visible
        )
    )(query, key, value, position)

    for b, i, h in np.ndindex(BATCH, TOKENS, HEADS):
        seen = np.flatnonzero(visible[0, i])
        # Later tokens have distances below zero, the last rows of `position`.
        rows = [position[LENGTH - 1 - (CACHED + i - j), h] for j in seen]
        scores = (key[b, seen, h] + rows) @ query[b, i, h] / 2.0
        weights = np.exp(scores - scores.max())
        expected = weights / weights.sum() @ value[b, seen, h]
        np.testing.assert_allclose(to_numpy(y)[b, i, h], expected, 1e-5, 1e-5)


def test_distances_below_zero_are_encoded():
    encoding = to_numpy(distance_encoding(2, 4, -1))

    assert encoding.shape == (4, 4)
    np.testing.assert_allclose(encoding[:, 0], np.sin([2, 1, 0, -1]), atol=1e-6)
    np.testing.assert_allclose(encoding[:, 2], np.cos([2, 1, 0, -1]), atol=1e-6)
    np.testing.assert_allclose(encoding[:3], to_numpy(distance_encoding(2, 4)))
