"""The form of accelerators: the tests of the loop once more, on a CPU."""

import functools

import keras
import numpy as np
import pytest

from keras_agalite.ops import _backend, gated_delta_rule
from tests.helpers import gradients, random_starts
from tests.layers import test_recurrences, test_starts_empty
from tests.ops import (
    test_galite_attention,
    test_gated_linear_attention,
    test_linear_recurrence,
)

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX alone has it"),
]
LINEAR = ("agalite", "galite", "mingru", "lru", "ffm", "gated_delta_net", "shm")


@pytest.fixture(autouse=True)
def accelerator(monkeypatch):
    """Chunks of at most 16 steps, as an accelerator runs them."""

    def set_form(**values):
        for name, value in values.items():
            monkeypatch.setattr(_backend._implementation, name, value)

    set_form(on_accelerator=lambda: True, LONGEST_CHUNK=16)
    return set_form


@pytest.mark.parametrize(("time", "r"), [(2, 1), (16, 3), (37, 7)])
def test_agalite_matches_the_oracle(time, r):
    test_gated_linear_attention.test_matches_the_oracle(time, r)


def test_galite_matches_the_oracle():
    test_galite_attention.test_matches_the_oracle(37)


@pytest.mark.parametrize("masked", [False, True])
def test_linear_recurrence_matches_the_oracle(masked):
    test_linear_recurrence.test_matches_the_oracle(64, masked)


@pytest.mark.parametrize("name", test_recurrences.RECURRENCES)
def test_recurrences_match_the_oracle(name):
    test_recurrences.test_matches_the_oracle(name)


@pytest.mark.parametrize("name", LINEAR)
def test_what_a_start_empties_is_gone(name):
    test_starts_empty.test_what_earlier_steps_read_is_gone(name, masked=True)
    test_starts_empty.test_no_gradient_reaches_what_was_emptied(
        name, test_starts_empty.TIME
    )


def of_both_forms(function, arrays, accelerator):
    received = gradients(function, arrays)
    accelerator(on_accelerator=lambda: False)
    return received, gradients(function, arrays)


def assert_same(received, expected):
    received, expected = (keras.tree.flatten(x) for x in (received, expected))
    for a, b in zip(received, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * max(1.0, np.abs(b).max()))


def test_gates_that_are_closed_and_open(accelerator):
    *arrays, state = test_gated_linear_attention.random_arrays(37, 3)
    random = np.random.default_rng(0)
    for i in (3, 4, 7):  # beta, gamma and the expansion of gamma
        arrays[i] = random.choice([0.0, 0.5, 1.0], arrays[i].shape).astype("float32")
    run = functools.partial(
        test_gated_linear_attention.attend, r=3, start=random_starts(2, 37, 0.1)
    )

    assert_same(*of_both_forms(run, [*arrays, state], accelerator))


def test_gates_of_the_delta_rule_that_are_closed_and_open(accelerator):
    random = np.random.default_rng(0)
    query, key, value = random.normal(size=(3, 2, 37, 2, 4)).astype("float32")
    key /= np.linalg.norm(key, axis=-1, keepdims=True)
    alpha, beta = random.choice([0.0, 0.5, 1.0], (2, 2, 37, 2)).astype("float32")
    state = random.normal(size=(2, 2, 4, 4)).astype("float32")
    arrays = [query, key, value, alpha, beta, state]

    assert_same(*of_both_forms(gated_delta_rule, arrays, accelerator))


def test_the_device_chooses_the_form(monkeypatch):
    import jax

    monkeypatch.undo()
    on_accelerator = _backend._implementation.on_accelerator
    assert not on_accelerator()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert on_accelerator()
    with keras.device("cpu"):  # of a program on a machine with a GPU
        assert not on_accelerator()
    assert not _backend.runs_in_parallel(1)
    assert _backend.runs_in_parallel(2)


def count_operations(jaxpr):
    """How many operations a program runs, those of a loop in each of its rounds."""
    total = 0
    for equation in jaxpr.eqns:
        rounds = equation.params.get("length", 1)
        bodies = list(jax_bodies(equation))
        total += rounds * sum(map(count_operations, bodies)) if bodies else 1
    return total


def jax_bodies(equation):
    from jax import tree

    for part in tree.leaves(list(equation.params.values()), is_leaf=is_jaxpr):
        if is_jaxpr(part):
            yield getattr(part, "jaxpr", part)


def is_jaxpr(part):
    return hasattr(part, "eqns") or hasattr(part, "jaxpr")


def test_few_operations_wait_for_each_other(accelerator):
    import jax

    accelerator(LONGEST_CHUNK=128)
    arrays = test_gated_linear_attention.random_arrays(128, 2)
    start = random_starts(2, 128)

    def loss(*arrays):
        y, state = test_gated_linear_attention.attend(*arrays, r=2, start=start)
        return keras.ops.sum(y) + keras.ops.sum(state)

    def count():
        gradient = jax.grad(loss, argnums=tuple(range(9)))
        return count_operations(jax.make_jaxpr(gradient)(*arrays).jaxpr)

    at_once = count()
    accelerator(on_accelerator=lambda: False)
    in_turn = count()

    # Measured: 2,088 and 29,193, forward and backward.
    assert at_once <= 2_300
    assert in_turn >= 10 * at_once


def test_no_state_is_kept_per_time_step():
    test_gated_linear_attention.test_no_state_is_kept_per_time_step(517)


def test_one_program_for_all_platforms():
    import jax

    arrays = test_gated_linear_attention.random_arrays(37, 2)
    run = jax.jit(functools.partial(test_gated_linear_attention.attend, r=2))
    exported = jax.export.export(run, platforms=["cpu", "cuda", "tpu"])(*arrays)

    for received, expected in zip(exported.call(*arrays), run(*arrays), strict=True):
        np.testing.assert_allclose(received, expected, atol=1e-6)
