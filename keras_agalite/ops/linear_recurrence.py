"""The gated linear recurrence, with episode starts and masked steps."""

from typing import Any

import keras
from keras import ops

from keras_agalite.ops import _backend
from keras_agalite.ops.precision import at_least_float32


def linear_recurrence(
    decay: Any, update: Any, state: Any, *, start: Any = None, mask: Any = None
) -> tuple[Any, Any]:
    """Computes `h_t = a_t * h_(t-1) + x_t` over a sequence.

    A start is a zero in the decay; a masked step has the decay 1 and the update 0. So
    neither costs anything in the loop.

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
        ValueError: If the shapes of `decay` and `update` differ.
    """
    decay, update, state = (ops.convert_to_tensor(x) for x in (decay, update, state))
    if tuple(decay.shape) != tuple(update.shape):
        raise ValueError(
            "`decay` and `update` must have the same shape. "
            f"Received: decay.shape={tuple(decay.shape)}, "
            f"update.shape={tuple(update.shape)}"
        )
    state_dtype = keras.backend.standardize_dtype(state.dtype)
    dtype = at_least_float32(update.dtype)
    decay, update, state = (ops.cast(x, dtype) for x in (decay, update, state))

    def by_step(flag: Any) -> Any:
        return ops.reshape(flag, (*ops.shape(flag), *[1] * (len(decay.shape) - 2)))

    if start is not None:
        decay = ops.where(by_step(start), 0.0, decay)
    if mask is not None:
        decay = ops.where(by_step(mask), decay, 1.0)
        update = ops.where(by_step(mask), update, 0.0)

    def step(carry: Any, inputs: Any) -> tuple[list[Any], Any]:
        (h,), (a, x) = carry, inputs
        h = a * h + x
        return [h], h

    states, (state,) = _backend.scan(step, [state], [decay, update])
    return states, ops.cast(state, state_dtype)
