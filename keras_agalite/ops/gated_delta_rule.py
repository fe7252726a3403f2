"""The read-out of Gated DeltaNet.

Yang et al., "Gated Delta Networks: Improving Mamba2 with Delta Rule", ICLR 2025,
arXiv 2412.06464.
"""

from typing import Any

from keras import ops

from keras_agalite.ops import _backend
from keras_agalite.ops.checks import check_inputs
from keras_agalite.ops.linear_scan import Product, linear_scan
from keras_agalite.ops.precision import at_least_float32

# The state is multiplied by a matrix from the right.
_MATRIX = Product(
    lambda decays, carry: [ops.matmul(carry[0], decays[0])],
    lambda decays: [ops.swapaxes(decays[0], -1, -2)],
    lambda decays: [ops.zeros_like(decays[0]) + _identity(decays[0])],
)


def _identity(like: Any) -> Any:
    return ops.eye(like.shape[-1], dtype=like.dtype)


def gated_delta_rule(
    query: Any,
    key: Any,
    value: Any,
    alpha: Any,
    beta: Any,
    state: Any,
    *,
    start: Any = None,
    mask: Any = None,
) -> tuple[Any, Any]:
    """Runs the memory of one block of Gated DeltaNet over a sequence.

        S = alpha S (I - beta k k^T) + beta v k^T
        y = S q

    What is carried is read as it goes: see `linear_scan`.

    Args:
        query: Tensor of shape `(batch, time, heads, head_dim)`.
        key: Tensor of the same shape, of length 1.
        value: Tensor of shape `(batch, time, heads, value_dim)`.
        alpha: Tensor of shape `(batch, time, heads)`, in (0, 1): what is kept.
        beta: Tensor of the same shape, in (0, 1): what is written.
        state: Tensor of shape `(batch, heads, value_dim, head_dim)`; zeros are the
            empty memory.
        start: Optional boolean tensor `(batch, time)`: empties the memory before
            the token is read.
        mask: Optional boolean tensor `(batch, time)`: where False, the token is
            skipped, its start included.

    Returns:
        A tuple `(y, state)`: `y` of shape `(batch, time, heads, value_dim)`, the
        state with the shape and dtype it came in. Both are computed in float32 at
        least.

    Raises:
        ValueError: If batch sizes differ, or the shape of `start` or `mask` is
            another.
    """
    check_inputs(
        state, start, mask, query=query, key=key, value=value, alpha=alpha, beta=beta
    )

    def gates(inputs: Any) -> tuple[list[Any], list[Any]]:
        _, k, v, alpha, beta = inputs
        alpha, beta = alpha[:, :, None, None], beta[:, :, None, None]
        key = k[:, :, None, :]
        decay = alpha * (_identity(k) - beta * k[..., None] * key)
        return [decay], [beta * v[..., None] * key]

    def read(carry: Any, inputs: Any) -> Any:
        return ops.sum(carry[0] * inputs[0][:, :, None, :], axis=-1)

    def step(carry: Any, inputs: Any) -> tuple[list[Any], Any]:
        (s,), (_, k, v, alpha, beta) = carry, inputs
        s = alpha[:, :, None, None] * s
        error = v - ops.sum(s * k[:, :, None, :], axis=-1)
        s = s + (beta[:, :, None] * error)[..., None] * k[:, :, None, :]
        return [s], read([s], inputs)

    inputs = [query, key, value, alpha, beta]
    form = _backend.own_form("gated_delta_rule")
    if form is not None and value.shape[1] != 1:
        result = form(*_without_mask(inputs, state, start, mask))
        if result is not None:
            return result[0], ops.cast(result[1], state.dtype)
    y, (state,) = linear_scan(
        gates, read, [state], inputs, start, mask, product=_MATRIX, step=step
    )
    return y, state


def _without_mask(inputs: Any, state: Any, start: Any, mask: Any) -> list[Any]:
    """In float32 at least; a masked token fades and writes nothing, be it NaN."""
    dtype = at_least_float32(inputs[0].dtype)
    inputs = [ops.cast(x, dtype) for x in inputs]
    if start is not None:
        start = ops.cast(start, "bool")
    if mask is not None:
        mask = ops.cast(mask, "bool")
        if start is not None:
            start = ops.logical_and(start, mask)
        inputs = [
            ops.where(ops.reshape(mask, (*mask.shape, *[1] * (len(x.shape) - 2))), x, z)
            for x, z in zip(inputs, (0.0, 0.0, 0.0, 1.0, 0.0), strict=True)
        ]
    return [*inputs, ops.cast(state, dtype), start]
