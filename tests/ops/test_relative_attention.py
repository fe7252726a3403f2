import functools

import keras
import numpy as np
import pytest

from keras_agalite.ops import relative_attention
from keras_agalite.ops.relative_attention import distance_encoding
from tests.helpers import (
    compiled,
    gradients,
    largest_kept_array,
    random_starts,
    to_numpy,
)
from tests.oracles import assert_gradients_match, naive

BATCH, HEADS, HEAD_DIM = 2, 2, 3


def random_arrays(time, length, sliding_window=True):
    """Inputs in the order of `relative_attention`, up to the episodes."""
    random = np.random.default_rng(time)
    distances = length + 1 if sliding_window else length + time
    shapes = [
        (BATCH, time, HEADS, HEAD_DIM),
        (BATCH, length + time, HEADS, HEAD_DIM),
        (BATCH, length + time, HEADS, HEAD_DIM),
        (distances, HEADS, HEAD_DIM),
        (HEADS, HEAD_DIM),
        (HEADS, HEAD_DIM),
    ]
    return [random.normal(size=shape).astype("float32") for shape in shapes]


def episodes(time, length):
    """Numbers of episodes: row 0 remembers all of its memory, row 1 but one item."""
    number = np.cumsum(random_starts(BATCH, time, 0.1), axis=1)
    memory = np.zeros((BATCH, length), int)
    memory[1, :-1] = -1
    return np.concatenate([memory, number], axis=1).astype("int32")


@pytest.mark.parametrize(
    ("time", "length", "sliding_window"),
    [
        (1, 3, True),
        (2, 1, True),
        (3, 3, True),
        (7, 3, True),
        (63, 8, True),
        (64, 8, True),
        (100, 7, True),
        (1, 3, False),
        (7, 3, False),
        (20, 4, False),
    ],
)
def test_matches_the_oracle(time, length, sliding_window):
    options = {
        "episode": episodes(time, length),
        "memory_length": length,
        "sliding_window": sliding_window,
    }
    arrays = random_arrays(time, length, sliding_window)

    [y], grads = gradients(lambda *x: [relative_attention(*x, **options)], arrays)

    plain = functools.partial(naive.relative_attention, **options)
    np.testing.assert_allclose(y, plain(*arrays), atol=1e-5)
    assert_gradients_match(plain, arrays, grads)


def test_half_precision_stays_close():
    arrays = random_arrays(7, 3)
    options = {"episode": episodes(7, 3), "memory_length": 3}

    y = compiled(functools.partial(relative_attention, **options))(
        *(keras.ops.cast(x, "bfloat16") for x in arrays)
    )

    assert keras.backend.standardize_dtype(y.dtype) == "bfloat16"
    y = to_numpy(keras.ops.cast(y, "float32"))
    np.testing.assert_allclose(
        y, naive.relative_attention(*arrays, **options), atol=0.1
    )


def test_scores_of_a_window_grow_with_time_alone():
    time, length = 512, 4
    options = {"episode": episodes(time, length), "memory_length": length}

    def loss(*arrays):
        return keras.ops.sum(relative_attention(*arrays, **options) ** 2)

    squared = BATCH * HEADS * time * time
    assert largest_kept_array(loss, random_arrays(time, length)) < squared / 4


@pytest.mark.parametrize("dim", [4, 5])
def test_distances_are_encoded_the_furthest_first(dim):
    encoding = to_numpy(distance_encoding(6, dim))

    frequency = 1 / 10000 ** (np.arange(0, dim, 2) / dim)
    angle = np.arange(6, -1, -1)[:, None] * frequency
    expected = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)[:, :dim]
    np.testing.assert_allclose(encoding, expected, atol=1e-6)
