"""The gated linear recurrence, with episode starts and masked steps."""

from typing import Any

import keras
from keras import ops

from keras_agalite.ops import _backend
from keras_agalite.ops.checks import check_inputs
from keras_agalite.ops.precision import at_least_float32
from keras_agalite.ops.starts import empty_at_start


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
    state_dtype = keras.backend.standardize_dtype(state.dtype)
    dtype = at_least_float32(update.dtype)
    decay, update, state = (ops.cast(x, dtype) for x in (decay, update, state))
    if mask is not None:
        mask = ops.cast(mask, "bool")
        valid = ops.reshape(mask, (*ops.shape(mask), *[1] * (len(decay.shape) - 2)))
        decay, update = ops.where(valid, decay, 1.0), ops.where(valid, update, 0.0)
    inputs = [decay, update]
    if start is not None:
        start = ops.cast(start, "bool")
        first = start if mask is None else ops.logical_and(start, mask)
        inputs.append(1.0 - ops.cast(first, dtype))

    def step(carry: Any, inputs: Any) -> tuple[list[Any], Any]:
        decay, update, *keep = inputs
        (state,) = empty_at_start(carry, keep[0]) if keep else carry
        state = decay * state + update
        return [state], state

    form = _backend.own_form("linear_recurrence")
    if form is None or decay.shape[1] == 1:
        states, (state,) = _backend.scan(step, [state], inputs)
    else:
        keep = inputs[2] if start is not None else None
        states, state = form(decay, update, state, keep)
    return states, ops.cast(state, state_dtype)
