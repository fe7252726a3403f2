"""The gated linear recurrence, with episode starts and masked steps."""

from typing import Any

from keras import ops

from keras_agalite.ops import _backend
from keras_agalite.ops.checks import check_inputs
from keras_agalite.ops.linear_scan import linear_scan
from keras_agalite.ops.precision import at_least_float32


def linear_recurrence(
    decay: Any, update: Any, state: Any, *, start: Any = None, mask: Any = None
) -> tuple[Any, Any]:
    """Computes `h_t = a_t * h_(t-1) + x_t` over a sequence.

    A masked step has the decay 1 and the update 0, so it costs nothing in the loop.

    Args:
        decay: Tensor `a` of shape `(batch, time, ...)`.
        update: Tensor `x` of the same shape.
        state: Tensor of shape `(batch, ...)`: h before the first step; zeros are the
            empty memory.
        start: Optional boolean tensor `(batch, time)`: empties the memory before the
            token is read.
        mask: Optional boolean tensor `(batch, time)`: where False, the token is
            skipped, its start included.

    Returns:
        A tuple `(states, state)`: every h, of shape `(batch, time, ...)`, and the last
        one, with the shape and dtype it came in. Both are computed in float32 at
        least.

    Raises:
        ValueError: If the shapes of `decay` and `update` differ, or the batch size of
            the state or the shape of `start` is another.
    """
    decay, update, state = (ops.convert_to_tensor(x) for x in (decay, update, state))
    if tuple(decay.shape) != tuple(update.shape):
        raise ValueError(
            "`decay` and `update` must have the same shape. "
            f"Received: decay.shape={tuple(decay.shape)}, "
            f"update.shape={tuple(update.shape)}"
        )
    check_inputs(state, start, mask, decay=decay)
    dtype = at_least_float32(update.dtype)
    decay, update = (ops.cast(x, dtype) for x in (decay, update))
    if mask is not None:
        mask = ops.cast(mask, "bool")
        valid = ops.reshape(mask, (*ops.shape(mask), *[1] * (len(decay.shape) - 2)))
        decay, update = ops.where(valid, decay, 1.0), ops.where(valid, update, 0.0)
        if start is not None:
            start = ops.logical_and(start, mask)
    form = _backend.own_form("linear_recurrence")
    if form is not None and decay.shape[1] != 1:
        if start is not None:
            start = ops.cast(start, "bool")
        states, last = form(decay, update, ops.cast(state, dtype), start)
        return states, ops.cast(last, state.dtype)
    states, (state,) = linear_scan(
        lambda inputs: ([inputs[0]], [inputs[1]]),
        lambda carry, inputs: carry[0],
        [state],
        [decay, update],
        start,
    )
    return states, state
