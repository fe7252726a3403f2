"""Compiled work on each backend, its memory, and interleaved timing of it."""

import re
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from benchmarks.forms import FEATURES
from keras_agalite.models.acting import COMPILERS

BACKEND = keras.backend.backend()
# Of XLA's instructions: those that name what is there.
_NO_KERNEL = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast")


class Work(NamedTuple):
    """Something to be timed.

    Attributes:
        run: Does the work once and waits for it.
        result: Gives outputs, or gradients, as NumPy arrays, to be compared.
        compile_seconds: Time of tracing, compiling and the first run.
        temporaries_bytes: Memory of intermediates, where the backend tells it.
        kernels: Number of kernels of a step, those of loops counted once; on JAX.
    """

    run: Callable[[], Any]
    result: Callable[[], list[np.ndarray]]
    compile_seconds: float
    temporaries_bytes: int | None
    kernels: int | None = None


def sequences(
    batch: int, steps: int, features: int = FEATURES
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs, and starts in the middle of each sequence that has a middle."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(batch, steps, features)).astype("float32")
    start = np.zeros((batch, steps), bool)
    start[:, steps // 2] = steps > 1
    return inputs, start


def to_numpy(tensors: Any) -> list[np.ndarray]:
    return [ops.convert_to_numpy(x) for x in keras.tree.flatten(tensors)]


def state_bytes(layer: Any) -> int:
    """The state of one environment, in float32."""
    return 4 * sum(keras.tree.flatten(layer.state_size))


def act_work(layer: Any, batch: int) -> Work:
    """One step, compiled as `policy.act` is, NumPy in and out, the state in the
    backend's tensors."""
    inputs, start = sequences(batch, 1)

    def step(inputs: Any, state: Any, start: Any) -> Any:
        outputs, *state = layer(inputs, initial_state=state, start=start)
        return outputs, state

    compiled = COMPILERS[BACKEND](layer, step)
    held = [layer.initial_state(batch)]

    def run() -> np.ndarray:
        outputs, held[0] = compiled(inputs, held[0], start)
        return np.asarray(ops.convert_to_numpy(outputs))

    def result() -> list[np.ndarray]:
        held[0] = layer.initial_state(batch)
        return [run() for _ in range(3)]

    begin = time.perf_counter()
    run()
    seconds = time.perf_counter() - begin
    temporaries, kernels = None, None
    if BACKEND == "jax":
        program = jax_act(layer, batch)[0].compile()
        temporaries, kernels = _jax_temporaries(program), _jax_kernels(program)
    return Work(run, result, seconds, temporaries, kernels)


def learn_work(
    layer: Any,
    batch: int,
    steps: int,
    jit_compile: bool = False,
    features: int = FEATURES,
) -> Work:
    """Forward and backward over sequences: gradients of the sum of squared outputs."""
    inputs, start = sequences(batch, steps, features)
    gradients, temporaries = _COMPILE_LEARN[BACKEND](layer, inputs, start, jit_compile)
    begin = time.perf_counter()
    gradients()
    seconds = time.perf_counter() - begin
    return Work(gradients, lambda: to_numpy(gradients()), seconds, temporaries())


def _jax_weights(layer: Any) -> tuple[list[Any], list[Any]]:
    """The first arguments of `stateless_call`."""
    both = layer.trainable_variables, layer.non_trainable_variables
    return tuple([v.value for v in variables] for variables in both)


def _jax_temporaries(program: Any) -> int:
    return int(program.memory_analysis().temp_size_in_bytes)


def _jax_kernels(program: Any) -> int:
    text = program.as_text()
    names = re.findall(r"^.* = .*? ([\w-]+)\(", text[text.index("\nENTRY") :], re.M)
    return sum(name not in _NO_KERNEL for name in names)


def jax_act(layer: Any, batch: int) -> tuple[Any, Any]:
    """A step, lowered, and its arguments: weights, state, inputs and starts."""
    import jax

    inputs, start = sequences(batch, 1)
    variables = layer.variables

    def step(weights: Any, state: Any, inputs: Any, start: Any) -> Any:
        with keras.StatelessScope(list(zip(variables, weights, strict=True))):
            outputs, *state = layer(inputs, initial_state=state, start=start)
        return outputs, state

    weights = [v.value for v in variables]
    arguments = (weights, layer.initial_state(batch), inputs, start)
    return jax.jit(step).lower(*arguments), arguments


def _jax_learn(layer: Any, inputs: Any, start: Any, _: bool) -> Any:
    import jax

    def loss(weights: Any, rest: Any, inputs: Any, start: Any) -> Any:
        (outputs, *_), _ = layer.stateless_call(weights, rest, inputs, start=start)
        return ops.sum(ops.square(outputs))

    function = jax.jit(jax.grad(loss))
    arguments = *_jax_weights(layer), inputs, start
    return (
        lambda: jax.block_until_ready(function(*arguments)),
        lambda: _jax_temporaries(function.lower(*arguments).compile()),
    )


def _tensorflow_learn(layer: Any, inputs: Any, start: Any, jit_compile: bool) -> Any:
    import tensorflow as tf

    @tf.function(autograph=False, jit_compile=jit_compile)
    def function(inputs: Any, start: Any) -> Any:
        with tf.GradientTape() as tape:
            outputs, *_ = layer(inputs, start=start)
            loss = tf.reduce_sum(tf.square(outputs))
        return tape.gradient(
            loss,
            [v.value for v in layer.trainable_variables],
            unconnected_gradients="zero",
        )

    arguments = tf.constant(inputs), tf.constant(start)

    def run() -> Any:
        gradients = function(*arguments)
        for gradient in gradients:
            gradient.numpy()
        return gradients

    return run, lambda: None


def _torch_learn(layer: Any, inputs: Any, start: Any, _: bool) -> Any:
    import torch

    device = layer.variables[0].value.device
    inputs, start = (torch.as_tensor(x, device=device) for x in (inputs, start))
    weights = [v.value for v in layer.trainable_variables]

    def run() -> Any:
        outputs, *_ = layer(inputs, start=start)
        gradients = torch.autograd.grad(
            outputs.square().sum(), weights, allow_unused=True, materialize_grads=True
        )
        if device.type == "cuda":
            torch.cuda.synchronize()
        return gradients

    def temporaries() -> int | None:
        if device.type != "cuda":
            return None
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated() - before

    return run, temporaries


_COMPILE_LEARN = {
    "jax": _jax_learn,
    "tensorflow": _tensorflow_learn,
    "torch": _torch_learn,
}


def check_equal(works: dict[str, Work], steps: int, other: str = "textbook") -> float:
    """Raises a ValueError if `ours` and the other form do not compute the same.

    The more tokens, the likelier one ReLU stands at its kink, where rounding chooses
    the side of its gradient, in either form: longer sequences may differ more.

    Returns:
        The largest difference, relative to the norm of the array.
    """
    pairs = zip(works["ours"].result(), works[other].result(), strict=True)
    worst = max(
        float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-12)) for a, b in pairs
    )
    if not worst < 1e-4 * max(1.0, steps / 128):
        raise ValueError(
            "No speed is reported of forms that compute different things. Received: "
            f"relative difference {worst:.1e} between ours and {other}"
        )
    return worst


def interleave(
    works: dict[str, Work], rounds: int, calls: int, tick: Callable[[], None]
) -> dict[str, list[float]]:
    """Milliseconds of each work, in rounds, so that drift is shared.

    In a round each work is called `calls` times in a row, and the median counts: who
    acts in a loop finds its weights in the cache, where the call before left them.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work.run()
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(median_ms(work.run, calls))
            tick()
    return times


def median_ms(run: Callable[[], Any], calls: int) -> float:
    times = []
    for _ in range(calls):
        begin = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


def page_faults(run: Callable[[], Any]) -> int:
    """Pages of memory that the process had to ask the system for, to do the work."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    run()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def median_ratio(of: list[float], over: list[float]) -> float:
    """Median over the rounds of the ratio in one round."""
    return statistics.median(a / b for a, b in zip(of, over, strict=True))
