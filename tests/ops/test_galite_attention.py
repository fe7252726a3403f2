import functools

import keras
import numpy as np
import pytest

from keras_agalite.ops import galite_attention, galite_state_size
from tests import oracles
from tests.helpers import (
    compiled,
    float64,
    gradients,
    largest_kept_array,
    random_starts,
    to_numpy,
)
from tests.oracles import assert_gradients_match

HEADS, HEAD_DIM, ETA = 2, 3, 2


def random_arrays(time, batch=2, dtype="float32"):
    """Inputs in the order of `galite_attention`, the state last."""
    random = np.random.default_rng(time)
    wide, narrow = (batch, time, HEADS, HEAD_DIM), (batch, time, HEADS, ETA)
    query, key, p_query, p_key = (
        random.uniform(0.1, 1.0, s) for s in (wide, wide, narrow, narrow)
    )
    beta, gamma, p_gamma = (random.uniform(0.05, 0.95, s) for s in (wide, wide, narrow))
    value = random.normal(size=wide)
    # Not negative, since a normaliser never is.
    size = galite_state_size(HEADS, HEAD_DIM, ETA)
    state = random.uniform(0.1, 1.0, (batch, size))
    arrays = [query, key, value, beta, gamma, p_query, p_key, p_gamma, state]
    return [x.astype(dtype) for x in arrays]


def attend(query, key, value, beta, gamma, *rest, start=None, mask=None):
    *expansions, state = rest
    return galite_attention(
        query, key, value, beta, gamma, expansions, state, start=start, mask=mask
    )


@pytest.mark.parametrize("time", [1, 3, 63, 64, 100])
def test_matches_the_oracle(time):
    options = {"start": random_starts(2, time)}
    arrays = random_arrays(time)

    outputs, grads = gradients(functools.partial(attend, **options), arrays)

    plain = functools.partial(oracles.galite_attention, **options)
    for ours, theirs in zip(outputs, plain(*arrays), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert_gradients_match(plain, arrays, grads)


@pytest.mark.parametrize("time", [1, 20])
def test_a_masked_token_is_as_if_it_were_not_there(time):
    mask = np.random.default_rng(3).random((3, time)) < 0.6
    mask[0], mask[1] = True, False
    options = {"start": random_starts(3, time), "mask": mask}
    arrays = random_arrays(time, batch=3)

    def kept(*arrays):
        y, state = attend(*arrays, **options)
        return keras.ops.where(mask[:, :, None, None], y, 0.0), state

    outputs, grads = gradients(kept, arrays)

    plain = functools.partial(oracles.galite_attention, **options)
    for ours, theirs in zip(outputs, plain(*arrays), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert_gradients_match(plain, arrays, grads)


def test_a_start_empties_the_memory():
    *inputs, state = random_arrays(1)
    start = np.ones((2, 1), bool)

    outputs = [to_numpy(attend(*inputs, s, start=start)) for s in (state, 0 * state)]

    for restarted, fresh in zip(*outputs, strict=True):
        np.testing.assert_array_equal(restarted, fresh)


def test_half_precision_computes_in_float32():
    arrays = [keras.ops.cast(x, "bfloat16") for x in random_arrays(7)]

    y, state = compiled(attend)(*arrays)

    rounded = [to_numpy(keras.ops.cast(x, "float32")) for x in arrays]
    expected, _ = oracles.galite_attention(*rounded)
    assert keras.backend.standardize_dtype(y.dtype) == "float32"
    assert keras.backend.standardize_dtype(state.dtype) == "bfloat16"
    np.testing.assert_allclose(to_numpy(y), expected, atol=1e-5)


def test_float64_is_kept():
    arrays = random_arrays(20, dtype="float64")
    with float64():
        outputs = to_numpy(compiled(attend)(*arrays))

    for ours, theirs in zip(outputs, oracles.galite_attention(*arrays), strict=True):
        assert ours.dtype == "float64"
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_no_state_is_kept_per_time_step():
    arrays = random_arrays(512)

    def loss(*arrays):
        y, state = attend(*arrays)
        return keras.ops.sum(y) + keras.ops.sum(state)

    states = 2 * 512 * HEADS * ETA * HEAD_DIM * HEAD_DIM
    assert largest_kept_array(loss, arrays) < states
