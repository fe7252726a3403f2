"""A scan over time for JAX, and convolutions whose gradients a CPU is quick at."""

from typing import Any

import jax
import jax.numpy as jnp

# Whether gradients reach what a step reads besides its arguments.
READS_AROUND = True


def scan(step: Any, carry: Any, xs: Any, chunk_size: int) -> tuple[Any, Any]:
    """See `keras_agalite.ops._backend.scan`; here time is the first axis.

    `jax.lax.scan` over chunks that are recomputed.
    Inside a chunk each step is recomputed once more, fused with its own gradient:
    writing down what it computed costs a CPU more than computing it again.
    """
    # A loop keeps XLA from merging the two computations; no other fence is needed.
    step = jax.checkpoint(step, prevent_cse=False)

    def run(carry: Any, xs: Any) -> tuple[Any, Any]:
        return jax.lax.scan(step, carry, xs)

    length = xs[0].shape[0]
    if not isinstance(length, int):  # an exporter's symbol is in no chunks
        carry, ys = run(carry, xs)
        return ys, carry
    whole = length - length % chunk_size
    outputs = []
    if whole:
        chunks = [
            x[:whole].reshape(whole // chunk_size, chunk_size, *x.shape[1:]) for x in xs
        ]
        carry, ys = jax.lax.scan(jax.checkpoint(run, prevent_cse=False), carry, chunks)
        outputs.append(ys.reshape(whole, *ys.shape[2:]))
    if whole < length:
        carry, ys = run(carry, [x[whole:] for x in xs])
        outputs.append(ys)
    return jnp.concatenate(outputs), carry


def _plain(x: Any, kernel: Any, stride: int) -> Any:
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _in_patches(x: Any, kernel: Any, stride: int) -> Any:
    """The same as one product of matrices, for kernels of whole strides."""
    size, _, channels, filters = kernel.shape
    parts, number = size // stride, len(x)
    height, width = (n // stride for n in x.shape[1:3])
    x = x[:, : height * stride, : width * stride]
    x = x.reshape(number, height, stride, width, stride, channels).swapaxes(2, 3)
    x = x.reshape(number, height, width, -1)
    height, width = height - parts + 1, width - parts + 1
    places = [(i, j) for i in range(parts) for j in range(parts)]
    x = jnp.concatenate([x[:, i : i + height, j : j + width] for i, j in places], -1)
    kernel = kernel.reshape(parts, stride, parts, stride, channels, filters)
    kernel = kernel.swapaxes(1, 2).reshape(-1, filters)
    y = x.reshape(-1, x.shape[-1]) @ kernel
    return y.reshape(number, height, width, filters)


_convolution = jax.custom_vjp(_plain, nondiff_argnums=(2,))


def _forward(x: Any, kernel: Any, stride: int) -> Any:
    return jax.vjp(lambda x, kernel: _in_patches(x, kernel, stride), x, kernel)


def _backward(stride: int, gradient: Any, y: Any) -> Any:
    return gradient(y)


_convolution.defvjp(_forward, _backward)


def convolution(x: Any, kernel: Any, stride: int) -> Any:
    """See `keras_agalite.ops._backend.convolution`.

    XLA runs the gradient of a convolution with strides slowly on a CPU: there it is
    that of a product of matrices, about twice as fast.
    """
    if jax.default_backend() == "cpu" and kernel.shape[0] % stride == 0:
        return _convolution(x, kernel, stride)
    return _plain(x, kernel, stride)
