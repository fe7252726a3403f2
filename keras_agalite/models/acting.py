"""The compiled acting path: one call a step on each backend."""

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops, tree


def compile_step(policy: Any) -> Callable[[Any, Any, dict[str, Any]], Any]:
    """Compiles one step of a policy.

    Returns:
        A function of NumPy observations `(batch, ...)`, a state and a dict of what
        else a call takes, by name, as NumPy arrays `(batch,)`. It returns the
        parameters of the action distribution `(batch, num_action_params)` and values
        `(batch,)` as NumPy arrays, the values None without a critic, and the new state
        in the backend's tensors. Weights are read anew at each call.
    """

    def step(observation: Any, state: Any, rows: Any) -> Any:
        observation, rows = tree.map_structure(
            lambda x: ops.expand_dims(x, 1), (observation, rows)
        )
        out, state = policy(observation, state, **rows)
        value = [] if out.value is None else [out.value[:, 0]]
        return out.logits[:, 0], *value, state

    compiled = COMPILERS[keras.backend.backend()](policy, step)

    def run(observation: Any, state: Any, rows: Any) -> Any:
        *outputs, state = compiled(observation, state, rows)
        logits, value, *_ = [*map(_to_numpy, outputs), None]
        return logits, value, state

    return run


def _to_numpy(x: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(x))


def _jax(policy: Any, step: Any) -> Any:
    import jax

    variables = policy.variables

    @jax.jit
    def compiled(weights: Any, *inputs: Any) -> Any:
        with keras.StatelessScope(list(zip(variables, weights, strict=True))):
            return step(*inputs)

    def read() -> list[Any]:
        # `value` asks Keras for its scopes, which for the 90 weights of the paper's
        # network takes a sixth of a step. A scope with weights has them all.
        stored = [v._value for v in variables]
        if variables and variables[0].value is not stored[0]:
            return [v.value for v in variables]
        return stored

    return lambda *inputs: compiled(read(), *inputs)


def _tensorflow(policy: Any, step: Any) -> Any:
    """A graph for each batch size, made when it is first seen, in about a second."""
    import tensorflow as tf

    graphs: dict[Any, Any] = {}

    def compiled(*inputs: Any) -> Any:
        inputs = tree.map_structure(tf.convert_to_tensor, inputs)
        key = tuple((tuple(x.shape), x.dtype) for x in tree.flatten(inputs))
        if key not in graphs:
            # One function for all sizes would warn that it is traced too often.
            function = tf.function(step, autograph=False, jit_compile=True)
            graphs[key] = function.get_concrete_function(*inputs)
        return graphs[key](*inputs)

    return compiled


def _torch(policy: Any, step: Any) -> Any:
    """A traced graph for each batch size, with the weights as inputs."""
    import torch

    variables = policy.variables
    weights: list[Any] = []
    graphs: dict[Any, Any] = {}

    def compiled(*inputs: Any) -> Any:
        if not weights:
            # Keras and torch write into these tensors, and never replace them. Asking
            # every variable for its value at each step takes 5% of a step's time.
            weights.extend(v.value for v in variables)
        device = weights[0].device
        # Torch takes no NumPy array that is read-only or runs backwards: copy.
        inputs = tree.map_structure(
            lambda x: torch.as_tensor(
                x.copy() if isinstance(x, np.ndarray) else x, device=device
            ),
            inputs,
        )
        flat = tree.flatten(inputs)
        key = tuple((x.shape, x.dtype) for x in flat)
        with torch.no_grad():
            if key not in graphs:

                def run(weights: Any, flat: Any) -> Any:
                    mapping = list(zip(variables, weights, strict=True))
                    arguments = tree.pack_sequence_as(inputs, flat)
                    with keras.StatelessScope(mapping):
                        *outputs, state = step(*arguments)
                    return *outputs, *tree.flatten(state)

                with warnings.catch_warnings():
                    # torch.compile gave no result in minutes; a trace takes a second.
                    warnings.simplefilter("ignore")
                    graphs[key] = torch.jit.trace(
                        run, (weights, flat), check_trace=False
                    )
                    # The first two runs of a graph are slow: they are profiled, and
                    # then compiled.
                    for _ in range(2):
                        graphs[key](weights, flat)
            result = graphs[key](weights, flat)
        split = len(result) - len(tree.flatten(inputs[1]))
        state = tree.pack_sequence_as(inputs[1], list(result[split:]))
        return *result[:split], state

    return compiled


# Each takes a layer, whose weights are read anew at each call, and a function of an
# observation, a state and more inputs that returns tensors, the state last.
COMPILERS = {"jax": _jax, "tensorflow": _tensorflow, "torch": _torch}
