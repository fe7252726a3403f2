"""The floor of learning: the matrix products of the paper's network, and nothing else.

`python -m benchmarks.products [--tokens 2048] [--rounds 15]`, under each KERAS_BACKEND:
each kernel times its inputs, and the two products of its backward pass.
"""

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from benchmarks.forms import make_form
from benchmarks.measure import BACKEND, median_ms


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Prints and returns the milliseconds of all products, and GFLOP/s."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=2048, help="batch times steps")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args(arguments)

    random = np.random.default_rng(0)
    kernels = [w.numpy() for w in make_form("ours").weights if len(w.shape) == 2]
    products = []
    for kernel in kernels:
        rows, columns = kernel.shape
        inputs = random.normal(size=(options.tokens, rows)).astype("float32")
        gradients = random.normal(size=(options.tokens, columns)).astype("float32")
        products.append([inputs, kernel, gradients])
    run = compiled(products)
    run()
    ms = statistics.median(median_ms(run, 1) for _ in range(options.rounds))
    flops = sum(6 * options.tokens * kernel.size for kernel in kernels)
    print(f"{BACKEND}: {ms:.0f} ms, {flops / ms / 1e6:.0f} GFLOP/s")
    return {"median_ms": ms, "gflops": flops / ms / 1e6}


def _all(products: Any) -> Any:
    matmul, transpose = keras.ops.matmul, keras.ops.transpose
    return [
        (matmul(x, w), matmul(d, transpose(w)), matmul(transpose(x), d))
        for x, w, d in products
    ]


def compiled(products: Any) -> Callable[[], Any]:
    """A call makes the three products of each list of inputs, kernel and gradient."""
    products = keras.tree.map_structure(keras.ops.convert_to_tensor, products)
    if BACKEND == "jax":
        import jax

        function = jax.jit(_all)
        return lambda: jax.block_until_ready(function(products))
    if BACKEND == "tensorflow":
        import tensorflow as tf

        function = tf.function(_all)
        return lambda: function(products)
    return lambda: _all(products)


if __name__ == "__main__":
    main()
