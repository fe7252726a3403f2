"""Mixed precision over long episodes: the state stays near float32's, without drift."""

import numpy as np
import pytest

import keras_agalite
from tests.helpers import to_numpy
from tests.models.conftest import ACTION_SPACES, VECTOR

PRECISIONS = {"mixed_float16": 0.01, "mixed_bfloat16": 0.04}


def make(dtype, **arguments):
    return keras_agalite.MemoryPolicy(
        keras_agalite.MLPEncoder(VECTOR, dtype=dtype),
        keras_agalite.AGaLiTe(
            hidden_dim=32,
            num_heads=2,
            head_dim=16,
            intermediate_dim=32,
            dtype=dtype,
            **arguments,
        ),
        ACTION_SPACES["discrete"],
    )


def state_error(state, exact):
    """Of the sums, relative to their norm: the largest over the blocks."""
    errors = []
    for a, b in zip(to_numpy(state), to_numpy(exact), strict=True):
        assert a[0, -1] == b[0, -1]  # the clocks
        difference = np.linalg.norm(a[:, :-1] - b[:, :-1])
        errors.append(difference / np.linalg.norm(b[:, :-1]))
    return max(errors)


def play(precision, steps, checks, **arguments):
    """The errors of the state after each of some steps of one episode."""
    exact, mixed = make("float32", **arguments), make(precision, **arguments)
    mixed.set_weights(exact.get_weights())
    states = [exact.initial_state(1), mixed.initial_state(1)]
    noise, errors = np.random.default_rng(0), []
    for step in range(1, steps + 1):
        observation = noise.normal(size=(1, *VECTOR.shape)).astype("float32")
        for i, policy in enumerate((exact, mixed)):
            logits, _, states[i] = policy.step(observation, states[i])
            assert np.isfinite(logits).all()
        if step in checks:
            errors.append(state_error(*reversed(states)))
    return errors


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_state_of_some_hundred_steps(precision):
    errors = play(precision, 300, {30, 100, 300}, num_layers=2)
    assert 0.0 < max(errors) < PRECISIONS[precision]


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_state_of_a_million_steps(precision):
    steps = 1_000_000
    checks = {*range(1000, 100_000, 1000), *range(steps - 99_000, steps + 1, 1000)}
    errors = play(precision, steps, checks)
    median, most, largest = np.quantile(errors, [0.5, 0.9, 1.0])
    print(f"{precision}: {median:.4f}, 9 of 10 {most:.4f}, largest {largest:.4f}")
    # Single steps are further off, and the error does not stay.
    assert most < PRECISIONS[precision]
    early, late = errors[: len(errors) // 2], errors[len(errors) // 2 :]
    assert np.median(late) < 1.2 * np.median(early)
