"""The read-out of Gated DeltaNet.

Yang et al., "Gated Delta Networks: Improving Mamba2 with Delta Rule", ICLR 2025,
arXiv 2412.06464.
"""

from typing import Any

from keras import ops

from keras_agalite.ops import _backend
from keras_agalite.ops.checks import check_inputs
from keras_agalite.ops.episodes import memory_scan
from keras_agalite.ops.precision import at_least_float32


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

    The loop contracts with the query as it goes: no state is kept per time step.

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

    def step(carry: Any, inputs: Any) -> tuple[list[Any], Any]:
        (s,), (q, k, v, alpha, beta) = carry, inputs
        s = alpha[:, :, None, None] * s
        error = v - ops.sum(s * k[:, :, None, :], axis=-1)
        s = s + (beta[:, :, None] * error)[..., None] * k[:, :, None, :]
        return [s], ops.sum(s * q[:, :, None, :], axis=-1)

    inputs = [query, key, value, alpha, beta]
    form = _backend.own_form("gated_delta_rule")
    if form is not None and value.shape[1] != 1:
        result = form(*_without_mask(inputs, state, start, mask))
        if result is not None:
            return result[0], ops.cast(result[1], state.dtype)
    y, (state,) = memory_scan(step, [state], inputs, start, mask)
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
