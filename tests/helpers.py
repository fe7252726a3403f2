"""The pieces of the tests that differ from backend to backend."""

import contextlib
import re

import keras
import numpy as np
from keras import tree

BACKEND = keras.backend.backend()

# Tests compile many small programs once: less optimisation, less time.
_QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
}


def to_numpy(structure):
    return tree.map_structure(keras.ops.convert_to_numpy, structure)


def random_starts(batch, time, probability=0.3):
    """Starts in mid-sequence, at least one a row where there is room for it."""
    starts = np.random.default_rng(time).random((batch, time)) < probability
    if time > 1:
        starts[:, time // 2] = True
    return starts


def random_cotangents(outputs):
    """One fixed random weight for each number of each output."""
    random = np.random.default_rng(1)
    return [random.normal(size=x.shape) for x in tree.flatten(outputs)]


def gradients(
    function, arrays, weights=(), cotangents=random_cotangents, options=_QUICK
):
    """Differentiates a function of arrays and layer weights, compiled on JAX.

    Args:
        function: Takes the arrays as tensors, returns a structure of tensors.
        arrays: Float NumPy arrays.
        weights: Keras variables that `function` reads.
        cotangents: Function of the flat list of outputs: NumPy weights of them.
        options: Compiler options of JAX.

    Returns:
        `(outputs, gradients)`: the structure that `function` returned, and the list
        of gradients of sum(outputs * cotangents) with respect to arrays and weights,
        both in NumPy.
    """
    arrays, weights = list(arrays), list(weights)

    def loss(outputs):
        outputs = tree.flatten(outputs)
        return sum(
            keras.ops.sum(x * keras.ops.cast(w, x.dtype))
            for x, w in zip(outputs, cotangents(outputs), strict=True)
        )

    outputs, grads = _DIFFERENTIATE[BACKEND](function, loss, arrays, weights, options)
    return to_numpy(outputs), to_numpy(list(grads))


def _jax(function, loss, arrays, weights, options):
    import jax

    def run(arrays, values):
        with keras.StatelessScope(list(zip(weights, values, strict=True))):
            outputs = function(*arrays)
        return loss(outputs), outputs

    differentiate = jax.value_and_grad(run, argnums=(0, 1), has_aux=True)
    values = [w.value for w in weights]
    (_, outputs), grads = jax.jit(differentiate, compiler_options=options)(
        arrays, values
    )
    return outputs, tree.flatten(grads)


def _tensorflow(function, loss, arrays, weights, options):
    import tensorflow as tf

    arrays = [tf.constant(x) for x in arrays]
    sources = [*arrays, *(w.value for w in weights)]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        outputs = function(*arrays)
        value = loss(outputs)
    return outputs, tape.gradient(value, sources, unconnected_gradients="zero")


def _torch(function, loss, arrays, weights, options):
    import torch

    arrays = [torch.tensor(x, requires_grad=True) for x in arrays]
    outputs = function(*arrays)
    sources = [*arrays, *(w.value for w in weights)]
    return outputs, torch.autograd.grad(
        loss(outputs), sources, allow_unused=True, materialize_grads=True
    )


_DIFFERENTIATE = {"jax": _jax, "tensorflow": _tensorflow, "torch": _torch}


def compiled(function):
    """The function of arrays, compiled where a single call is faster so: on JAX."""
    if BACKEND == "jax":
        import jax

        return jax.jit(function, compiler_options=_QUICK)

    def as_tensor(x):
        is_array = isinstance(x, np.ndarray)
        return keras.ops.convert_to_tensor(x, x.dtype.name) if is_array else x

    return lambda *arrays: function(*tree.map_structure(as_tensor, arrays))


def traced(function):
    """The function as a graph of TensorFlow; `gradients` compiles it on JAX anyway."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False)
    return function


def float64():
    """Lets JAX compute in float64; the others always do."""
    if BACKEND == "jax":
        import jax

        return jax.enable_x64(True)
    return contextlib.nullcontext()


def largest_kept_array(function, arrays):
    """Numbers in the largest array of the program `function` and its gradient.

    torch has no program to read: there, all numbers that are kept for the backward
    pass besides the arrays.
    """
    if BACKEND == "torch":
        import torch

        kept, arrays = [], [torch.tensor(x, requires_grad=True) for x in arrays]
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x: kept.append(x) or x, lambda x: x
        ):
            function(*arrays)
        sizes = {
            x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() // x.itemsize
            for x in kept
        }
        for x in arrays:
            sizes.pop(x.untyped_storage().data_ptr(), None)
        return sum(sizes.values())
    if BACKEND == "jax":
        import jax

        gradient = jax.grad(lambda arrays: function(*arrays))
        text = jax.jit(gradient).lower(arrays).as_text(dialect="hlo")
    else:
        import tensorflow as tf

        @tf.function(jit_compile=True)
        def gradient(arrays):
            with tf.GradientTape() as tape:
                tape.watch(arrays)
                loss = function(*arrays)
            return tape.gradient(loss, arrays)

        text = gradient.experimental_get_compiler_ir([tf.constant(x) for x in arrays])(
            stage="hlo"
        )
    shapes = re.findall(r"\b[fs]\d+\[([\d,]+)\]", text)
    return max(np.prod([int(n) for n in shape.split(",")]) for shape in shapes)
