import functools

import keras
import numpy as np
import pytest

from keras_agalite.ops import agalite_attention, agalite_state_size
from keras_agalite.ops.gated_linear_attention import clock_modulus
from tests import oracles
from tests.helpers import (
    compiled,
    float64,
    gradients,
    largest_kept_array,
    random_starts,
    to_numpy,
    traced,
)
from tests.oracles import assert_gradients_match

HEADS, HEAD_DIM, ETA = 2, 3, 2


def state_size(r):
    return agalite_state_size(HEADS, HEAD_DIM, ETA, r)


def random_arrays(time, r, batch=2, clock=5, dtype="float32"):
    """Inputs in the order of `agalite_attention`, the state last."""
    random = np.random.default_rng(time)
    wide, narrow = (batch, time, HEADS, HEAD_DIM), (batch, time, HEADS, ETA)
    query, key, p_query, p_key = (
        random.uniform(0.1, 1.0, s) for s in (wide, wide, narrow, narrow)
    )
    beta, gamma, p_gamma = (random.uniform(0.05, 0.95, s) for s in (wide, wide, narrow))
    value = random.normal(size=wide)
    # Not negative, since a normaliser never is.
    state = random.uniform(0.1, 1.0, (batch, state_size(r)))
    state[:, -1] = clock + np.arange(batch)
    arrays = [query, key, value, beta, gamma, p_query, p_key, p_gamma, state]
    return [x.astype(dtype) for x in arrays]


def run(*arrays, **options):
    return to_numpy(compiled(functools.partial(attend, **options))(*arrays))


def attend(query, key, value, beta, gamma, *rest, **options):
    *expansions, state = rest
    return agalite_attention(
        query, key, value, beta, gamma, expansions, state, **options
    )


@pytest.mark.parametrize(
    ("time", "r"),
    [(1, 7), (2, 1), (3, 3), (63, 2), (64, 7), (100, 3)],
)
def test_matches_the_oracle(time, r):
    options = {"r": r, "start": random_starts(2, time)}
    arrays, function = random_arrays(time, r), functools.partial(attend, **options)

    outputs, grads = gradients(traced(function) if time == 3 else function, arrays)

    plain = functools.partial(oracles.agalite_attention, **options)
    for ours, theirs in zip(outputs, plain(*arrays), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert_gradients_match(plain, arrays, grads)


@pytest.mark.parametrize(("time", "masked"), [(1, False), (40, False), (40, True)])
def test_a_clock_that_restarts_matches_the_oracle(time, masked):
    start, mask = random_starts(2, time), np.ones((2, time), bool)
    start[0, -1] = True
    if masked:
        mask = np.random.default_rng(0).random((2, time)) < 0.6
    options = {"r": 7, "start": start, "mask": mask if masked else None}
    arrays = random_arrays(time, 7)

    def kept(*arrays):
        y, state = attend(*arrays, restart_clock=True, **options)
        return keras.ops.where(mask[:, :, None, None], y, 0.0), state

    outputs, grads = gradients(kept, arrays)

    plain = functools.partial(oracles.agalite_attention, restart_clock=True, **options)
    for ours, theirs in zip(outputs, plain(*arrays), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert_gradients_match(plain, arrays, grads)
    _, runs_on = oracles.agalite_attention(*arrays, **options)
    assert (runs_on[:, -1] != outputs[1][:, -1]).any()


@pytest.mark.slow
def test_matches_the_oracle_over_8192_steps():
    time, options = 8192, {"r": 2, "start": np.zeros((1, 8192), bool)}
    options["start"][0, 5000] = True
    arrays = random_arrays(time, 2, batch=1)

    outputs, grads = gradients(traced(functools.partial(attend, **options)), arrays)

    plain = functools.partial(oracles.agalite_attention, **options)
    for ours, theirs in zip(outputs, plain(*arrays), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert all(np.isfinite(grad).all() for grad in grads)
    assert_gradients_match(plain, arrays, grads)


@pytest.mark.parametrize("time", [1, 7, 64])
def test_a_masked_token_is_as_if_it_were_not_there(time):
    r = 3
    mask = np.random.default_rng(3).random((3, time)) < 0.6
    mask[0], mask[1] = True, False
    options = {"r": r, "start": random_starts(3, time), "mask": mask}
    arrays = random_arrays(time, r, batch=3)

    def kept(*arrays):
        y, state = attend(*arrays, **options)
        return keras.ops.where(mask[:, :, None, None], y, 0.0), state

    outputs, grads = gradients(kept, arrays)

    plain = functools.partial(oracles.agalite_attention, **options)
    for ours, theirs in zip(outputs, plain(*arrays), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert_gradients_match(plain, arrays, grads)


@pytest.mark.parametrize("r", [1, 2, 3, 7])
def test_clock_is_exact_after_ten_million_steps(r):
    *inputs, state = random_arrays(40, r, clock=10_000_000)
    start = random_starts(2, 40)

    outputs = run(*inputs, state, r=r, start=start)

    # The oracle's clock is one ahead: 10,000,001.
    expected = oracles.agalite_attention(*inputs, state, r=r, start=start)
    for ours, theirs in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("r", [1, 2, 3, 7])
def test_clock_wraps_where_float32_would_stop_counting(r):
    modulus = clock_modulus(r, "float32")
    *inputs, state = random_arrays(7, r, batch=1, clock=modulus - 3)

    y, final = run(*inputs, state, r=r)

    expected, expected_final = oracles.agalite_attention(*inputs, state, r=r)
    assert modulus <= 2**24
    assert modulus + 2 * r > 2**24
    assert final[0, -1] == expected_final[0, -1] - modulus == 4
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_start_keeps_the_clock_running():
    *inputs, state = random_arrays(7, 2, clock=11)
    start = np.ones((2, 7), bool)

    _, final = run(*inputs, state, r=2, start=start)

    np.testing.assert_array_equal(final[:, -1], [18, 19])


@pytest.mark.parametrize(("r", "equal"), [(1, True), (2, True), (3, True), (7, False)])
def test_restart_equals_a_fresh_state_up_to_three_oscillators(r, equal):
    *inputs, state = random_arrays(7, r, clock=5)
    start = np.zeros((2, 7), bool)
    start[:, 0] = True

    restarted, _ = run(*inputs, state, r=r, start=start)
    fresh, _ = run(*inputs, np.zeros_like(state), r=r)

    assert np.allclose(restarted, fresh, atol=1e-6) == equal


@pytest.mark.parametrize(("r", "floats"), [(1, 57), (2, 57), (3, 89), (7, 153)])
def test_state_holds_half_of_the_oscillators(r, floats):
    # Each kept oscillator: a key sum of eta d and a value sum of d; then s, clock.
    assert agalite_state_size(num_heads=2, head_dim=4, eta=3, r=r) == floats


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_computes_in_float32(dtype):
    arrays = [keras.ops.cast(x, dtype) for x in random_arrays(7, 2, clock=250)]

    y, state = compiled(functools.partial(attend, r=2))(*arrays)

    rounded = [to_numpy(keras.ops.cast(x, "float32")) for x in arrays]
    expected, expected_state = oracles.agalite_attention(*rounded, r=2)
    assert keras.backend.standardize_dtype(y.dtype) == "float32"
    assert keras.backend.standardize_dtype(state.dtype) == dtype
    np.testing.assert_allclose(to_numpy(y), expected, atol=1e-5)
    # bfloat16 counts to 256 and begins again, so 250 + 7 is 1.
    clock = expected_state[:, -1] % clock_modulus(2, dtype)
    state = to_numpy(keras.ops.cast(state, "float32"))
    np.testing.assert_array_equal(state[:, -1], clock)


def test_float64_is_kept():
    arrays = random_arrays(20, 3, dtype="float64")
    with float64():
        outputs = run(*arrays, r=3)

    for ours, theirs in zip(
        outputs, oracles.agalite_attention(*arrays, r=3), strict=True
    ):
        assert ours.dtype == "float64"
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("time", [512, 517])
def test_no_state_is_kept_per_time_step(time):
    arrays = random_arrays(time, 2)

    def loss(*arrays):
        y, state = attend(*arrays, r=2)
        return keras.ops.sum(y) + keras.ops.sum(state)

    states = 2 * time * HEADS * ETA * HEAD_DIM
    assert largest_kept_array(loss, arrays) < states


def test_the_measure_of_kept_arrays_sees_a_state_per_step():
    arrays = random_arrays(64, 2)

    def loss(query, key, *rest):
        outer = query[..., None] * key[..., None, :]
        return keras.ops.sum(keras.ops.square(keras.ops.tanh(outer)))

    states = 2 * 64 * HEADS * ETA * HEAD_DIM
    assert largest_kept_array(loss, arrays) > states
