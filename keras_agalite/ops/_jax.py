"""Scans over time for JAX, and convolutions whose gradients a CPU is quick at."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp

# Of `parallel_scan`: the most steps of a chunk, and what their carries may take.
LONGEST_CHUNK, CHUNK_BYTES = 128, 2**28
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


def on_accelerator() -> bool:
    """Whether programs run elsewhere than on a CPU, unless their inputs say so."""
    device = jax.config.jax_default_device  # type: ignore[attr-defined]
    if device is None:
        return jax.default_backend() != "cpu"
    return str(getattr(device, "platform", device)).split(":")[0] != "cpu"


def parallel_scan(
    gates: Any, read: Any, product: Any, carry: Any, xs: Any, start: Any, mask: Any
) -> tuple[Any, Any]:
    """See `keras_agalite.ops._backend.parallel_scan`; here time is the first axis.

    The backward pass recomputes chunks, as that of `scan` does.
    """

    def run(carry: Any, inputs: Any) -> tuple[Any, Any]:
        xs, start, mask = inputs
        decays, updates = jax.vmap(gates)(xs)
        updates = [
            jnp.broadcast_to(u, (len(u), *c.shape))
            for u, c in zip(updates, carry, strict=True)
        ]
        if start is not None or mask is not None:
            decays = [
                jnp.broadcast_to(a, (len(a), len(c), *a.shape[2:]))
                for a, c in zip(decays, carry, strict=True)
            ]
        if mask is not None:
            ones = product.one(decays)
            decays = [_where(mask, a, b) for a, b in zip(decays, ones, strict=True)]
            updates = [_where(mask, u, 0.0) for u in updates]
        states = _states(product, decays, updates, carry, start)
        return [s[-1] for s in states], jax.vmap(read)(states, xs)

    length, inputs = len(xs[0]), (xs, start, mask)
    step_bytes = sum(c.size * c.dtype.itemsize for c in carry)
    if not isinstance(step_bytes, int):  # an exporter's symbol
        step_bytes = CHUNK_BYTES
    longest = min(max(CHUNK_BYTES // step_bytes, 16), LONGEST_CHUNK)
    size = math.ceil(length / math.ceil(length / longest))
    number = length // size
    outputs = []
    if number > 1:
        chunks = jax.tree.map(
            lambda x: x[: number * size].reshape(number, size, *x.shape[1:]), inputs
        )
        carry, ys = jax.lax.scan(jax.checkpoint(run, prevent_cse=False), carry, chunks)
        outputs.append(ys.reshape(number * size, *ys.shape[2:]))
        inputs = jax.tree.map(lambda x: x[number * size :], inputs)
    if len(inputs[0][0]):
        carry, ys = jax.checkpoint(run)(carry, inputs)
        outputs.append(ys)
    return jnp.concatenate(outputs), carry


def _where(flags: Any, x: Any, y: Any) -> Any:
    """x where the flags of its first axes are True, else y."""
    return jnp.where(flags.reshape(*flags.shape, *[1] * (x.ndim - flags.ndim)), x, y)


def _empty(start: Any, tensors: Any) -> Any:
    return tensors if start is None else [_where(~start, x, 0.0) for x in tensors]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _states(product: Any, decays: Any, updates: Any, carry: Any, start: Any) -> Any:
    """The carry after each step, for `(time, batch, ...)`."""
    decay = [a[0] for a in decays]
    before = product.apply(decay, _empty(None if start is None else start[0], carry))
    # The carry joins the first update.
    later = len(updates[0]) - 1
    updates = [
        u + jnp.pad(b[None], [(0, later), *[(0, 0)] * b.ndim])
        for u, b in zip(updates, before, strict=True)
    ]
    return _prefixes(product, decays, updates, start)


def _prefixes(
    product: Any, decays: Any, updates: Any, start: Any, reverse: bool = False
) -> Any:
    def combine(earlier: Any, later: Any) -> Any:
        decays, updates, starts = earlier
        later_decays, later_updates, later_starts = later
        # A product with zero would leave what is NaN.
        decays, updates = _empty(later_starts, decays), _empty(later_starts, updates)
        kept = product.apply(later_decays, updates)
        if start is not None:
            starts = starts | later_starts
        return (
            product.apply(later_decays, decays),
            [k + u for k, u in zip(kept, later_updates, strict=True)],
            starts,
        )

    with jax.default_matmul_precision("float32"):
        return jax.lax.associative_scan(
            combine, (decays, updates, start), reverse=reverse
        )[1]


def _states_forward(
    product: Any, decays: Any, updates: Any, carry: Any, start: Any
) -> Any:
    states = _states(product, decays, updates, carry, start)
    return states, (decays, carry, start, states)


def _states_backward(product: Any, kept: Any, gradients: Any) -> Any:
    """The same recurrence, backwards in time, of the gradients of the states."""
    decays, carry, start, states = kept
    # Nothing comes after the last step, whatever stands there.
    following = [jnp.roll(a, -1, axis=0) for a in product.adjoint(decays)]
    starts = None if start is None else jnp.roll(start, -1, axis=0)
    d_updates = _prefixes(product, following, gradients, starts, reverse=True)
    before = [
        jnp.concatenate([c[None], s[:-1]]) for c, s in zip(carry, states, strict=True)
    ]
    before = _empty(start, before)
    _, pull = jax.vjp(lambda decays: product.apply(decays, before), decays)
    with jax.default_matmul_precision("float32"):
        (d_decays,) = pull(d_updates)
        d_carry = product.apply(
            product.adjoint([a[0] for a in decays]), [d[0] for d in d_updates]
        )
    d_carry = _empty(None if start is None else start[0], d_carry)
    return d_decays, d_updates, d_carry, None


_states.defvjp(_states_forward, _states_backward)


def custom_gradient(forward: Any, keep: Any, backward: Any, *inputs: Any) -> Any:
    """See `keras_agalite.ops._backend.custom_gradient`."""

    def run_and_keep(*inputs: Any) -> tuple[Any, Any]:
        output = forward(*inputs)
        return output, keep(inputs, output)

    # A lambda, since a custom_vjp would pass the defaults of `forward` on.
    run = jax.custom_vjp(lambda *inputs: forward(*inputs))
    run.defvjp(run_and_keep, lambda kept, d_output: tuple(backward(kept, d_output)))
    return run(*inputs)


def _plain(x: Any, kernel: Any, stride: int) -> Any:
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _places(x: Any, kernel: Any, stride: int) -> Any:
    """What each place of a kernel of whole strides sees, and its matrix.

    Squares of `stride` pixels become channels first.
    """
    size, _, channels, filters = kernel.shape
    parts, number = size // stride, len(x)
    height, width = (n // stride for n in x.shape[1:3])
    x = x[:, : height * stride, : width * stride]
    x = x.reshape(number, height, stride, width, stride, channels).swapaxes(2, 3)
    x = x.reshape(number, height, width, -1)
    height, width = height - parts + 1, width - parts + 1
    kernel = kernel.reshape(parts, stride, parts, stride, channels, filters)
    kernel = kernel.swapaxes(1, 2).reshape(parts**2, -1, filters)
    places = [(i, j) for i in range(parts) for j in range(parts)]
    return [x[:, i : i + height, j : j + width] for i, j in places], kernel


def _in_products(x: Any, kernel: Any, stride: int) -> Any:
    """The same as a sum of products of matrices."""
    views, matrices = _places(x, kernel, stride)
    return sum(view @ matrix for view, matrix in zip(views, matrices, strict=True))


def _in_one_product(x: Any, kernel: Any, stride: int) -> Any:
    """The same as one product of matrices, which has the quicker gradient."""
    views, matrices = _places(x, kernel, stride)
    return jnp.concatenate(views, -1) @ matrices.reshape(-1, matrices.shape[-1])


_convolution = jax.custom_vjp(_in_products, nondiff_argnums=(2,))


def _forward(x: Any, kernel: Any, stride: int) -> Any:
    return jax.vjp(lambda x, kernel: _in_one_product(x, kernel, stride), x, kernel)


def _backward(stride: int, gradient: Any, y: Any) -> Any:
    return gradient(y)


_convolution.defvjp(_forward, _backward)


def convolution(x: Any, kernel: Any, stride: int) -> Any:
    """See `keras_agalite.ops._backend.convolution`.

    XLA runs a convolution of few channels slowly on a CPU, and the gradient of one with
    strides: there both are products of matrices, about twice as fast.
    """
    if jax.default_backend() == "cpu" and kernel.shape[0] % stride == 0:
        return _convolution(x, kernel, stride)
    return _plain(x, kernel, stride)
