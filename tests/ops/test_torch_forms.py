"""The forms that torch has of its own, against the plain loop over time."""

import functools

import numpy as np
import pytest

from keras_agalite.ops import _backend, gated_delta_rule, linear_recurrence
from tests.helpers import BACKEND, gradients, random_starts
from tests.ops.test_gated_linear_attention import attend, random_arrays

if BACKEND != "torch":
    pytest.skip("torch alone has these forms", allow_module_level=True)

import torch

from keras_agalite.ops import _torch_attention, _torch_recurrence


@pytest.fixture
def plain(monkeypatch):
    """Runs a function with the loop over time that the other backends have."""

    def run(function, *arguments, **options):
        with monkeypatch.context() as patch:
            for name in (
                "oscillating_attention",
                "linear_recurrence",
                "gated_delta_rule",
            ):
                patch.delattr(_backend._implementation, name)
            return function(*arguments, **options)

    return run


@pytest.fixture(params=["steps", "pieces"])
def form(request, monkeypatch):
    """On a CPU and on what is none."""
    parallel = request.param == "pieces"
    monkeypatch.setattr(_torch_recurrence, "_is_parallel", lambda x: parallel)
    monkeypatch.setitem(_torch_attention.CHUNK_SIZES, "cpu", 24)
    return request.param


def at_their_limits(arrays):
    """Gates that are exactly 0 and 1, among others."""
    random = np.random.default_rng(9)
    for i in (3, 4, 7):
        for limit in (0.0, 1.0):
            arrays[i] = np.where(random.random(arrays[i].shape) < 0.2, limit, arrays[i])
    return arrays


def assert_same(ours, plain, tolerance):
    for a, b in zip(ours, plain, strict=True):
        assert np.all(np.isfinite(a))
        np.testing.assert_allclose(a, b, atol=tolerance * max(1.0, abs(b).max()))


@pytest.mark.parametrize("limits", [False, True])
@pytest.mark.parametrize(("time", "r", "starts"), [(60, 2, True), (25, 7, False)])
def test_attention_is_as_the_loop(time, r, starts, limits, plain, form):
    start = random_starts(3, time, 0.1) if starts else None
    arrays = random_arrays(time, r, batch=3, dtype="float64")
    arrays = at_their_limits(arrays) if limits else arrays
    function = functools.partial(attend, r=r, start=start)

    outputs, grads = gradients(function, arrays)

    expected, expected_grads = plain(gradients, function, arrays)
    assert_same(outputs, expected, 1e-9)
    assert_same(grads, expected_grads, 1e-9)


@pytest.mark.parametrize("time", [5, 41])
def test_recurrence_is_as_the_loop(time, plain, form):
    random = np.random.default_rng(time)
    decay = random.uniform(size=(3, time, 4))
    decay = np.where(random.random(decay.shape) < 0.2, np.round(decay), decay)
    arrays = [decay, random.normal(size=decay.shape), random.normal(size=(3, 4))]
    function = functools.partial(linear_recurrence, start=random_starts(3, time, 0.1))

    outputs, grads = gradients(function, arrays)

    expected, expected_grads = plain(gradients, function, arrays)
    assert_same(outputs, expected, 1e-12)
    assert_same(grads, expected_grads, 1e-12)


@pytest.mark.parametrize(("time", "masked"), [(7, False), (70, True)])
def test_delta_rule_is_as_the_loop(time, masked, plain):
    random = np.random.default_rng(time)
    query, key = random.normal(size=(2, 3, time, 2, 4))
    key /= np.linalg.norm(key, axis=-1, keepdims=True)
    alpha, beta = random.uniform(size=(2, 3, time, 2))
    alpha, beta = (
        np.where(random.random(x.shape) < 0.2, np.round(x), x) for x in (alpha, beta)
    )
    value, state = random.normal(size=(3, time, 2, 5)), random.normal(size=(3, 2, 5, 4))
    arrays = [query, key, value, alpha, beta, state]
    mask = random.random((3, time)) < 0.8 if masked else None
    start = random_starts(3, time, 0.1)

    def function(*arrays):
        y, state = gated_delta_rule(*arrays, start=start, mask=mask)
        return (y if mask is None else y * torch.tensor(mask)[:, :, None, None]), state

    outputs, grads = gradients(function, arrays)

    expected, expected_grads = plain(gradients, function, arrays)
    assert_same(outputs, expected, 1e-10)
    assert_same(grads, expected_grads, 1e-10)


@pytest.mark.parametrize("size", [1, 7, 31])
def test_parts_of_a_sequence_are_as_the_whole(size, form):
    *inputs, state = random_arrays(50, 3, dtype="float64")
    start = random_starts(2, 50, 0.1)

    def in_parts(*arrays):
        *inputs, state = arrays
        ys = []
        for i in range(0, 50, size):
            part = [x[:, i : i + size] for x in inputs]
            y, state = attend(*part, state, r=3, start=start[:, i : i + size])
            ys.append(y)
        return torch.cat(ys, 1), state

    outputs, grads = gradients(in_parts, [*inputs, state])

    whole = functools.partial(attend, r=3, start=start)
    expected, expected_grads = gradients(whole, [*inputs, state])
    assert_same(outputs, expected, 1e-9)
    assert_same(grads, expected_grads, 1e-9)


def test_gradients_are_those_of_finite_differences(form, monkeypatch):
    monkeypatch.setitem(_torch_attention.CHUNK_SIZES, "cpu", 18)
    arrays = [torch.tensor(x) for x in random_arrays(20, 3, batch=1, dtype="float64")]
    start = np.zeros((1, 20), bool)
    start[0, 11] = True
    # The clock is no number that gradients flow through.
    *inputs, state = arrays
    clock = state[:, -1:]

    def function(*arrays):
        *inputs, sums = arrays
        y, state = attend(*inputs, torch.cat([sums, clock], 1), r=3, start=start)
        return y, state[:, :-1]

    moved = [x.requires_grad_() for x in (*inputs, state[:, :-1].clone())]
    assert torch.autograd.gradcheck(function, moved, fast_mode=True)


@pytest.mark.parametrize("name", ["attention", "recurrence"])
def test_a_start_keeps_out_what_is_no_number(name, form):
    """In both directions of time; bit for bit, but pieces then take turns."""
    time, first = 40, 30
    same = np.testing.assert_array_equal
    if form == "pieces":
        same = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    start = np.zeros((2, time), bool)
    start[0, first] = True
    if name == "attention":
        arrays = random_arrays(time, 2)
        function = functools.partial(attend, r=2, start=start)
    else:
        random = np.random.default_rng(0)
        arrays = [random.uniform(size=(2, time, 3)) for _ in range(2)]
        arrays.append(random.normal(size=(2, 3)))
        function = functools.partial(linear_recurrence, start=start)

    def run(arrays, late=1.0):
        def cotangents(outputs):
            y, state = (np.ones(x.shape) for x in outputs)
            y[0, first:] = late
            y[0, :first] = 1.0 if np.isnan(late) else 0.0
            return y, state * (0.0 if np.isnan(late) else 1.0)

        outputs, grads = gradients(function, arrays, cotangents=cotangents)
        return outputs, grads

    broken = [x.copy() for x in arrays]
    for i, x in enumerate(broken[:-1]):
        x[0, i + 2] = (np.nan, np.inf, -np.inf)[i % 3]
    broken[-1][0, :-1] = np.nan

    (y, state), grads = run(broken)

    (expected, expected_state), expected_grads = run(arrays)
    assert np.isnan(y[0, first - 1]).any()
    same(y[0, first:], expected[0, first:])
    same(y[1], expected[1])
    same(state, expected_state)
    for grad, whole in zip(grads[:-1], expected_grads[:-1], strict=True):
        same(grad[0, first:], whole[0, first:])
        same(grad[1], whole[1])

    _, grads = run(arrays, late=np.nan)
    for grad in grads[:-1]:
        assert np.all(np.isfinite(grad[0, :first]))
        assert np.all(np.isfinite(grad[1]))
    assert np.all(np.isfinite(grads[-1]))


def test_the_second_derivative_is_refused():
    arrays = [torch.tensor(x, requires_grad=True) for x in random_arrays(3, 2)]
    y, _ = attend(*arrays, r=2)
    loss = y.square().sum()
    (grad,) = torch.autograd.grad(loss, arrays[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()
