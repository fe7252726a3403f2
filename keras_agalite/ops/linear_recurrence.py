"""The gated linear recurrence with episode starts."""

from typing import Any

from keras import ops

from keras_agalite.ops import _backend
from keras_agalite.ops.checks import check_inputs
from keras_agalite.ops.starts import empty_at_start


def linear_recurrence(
    decay: Any, update: Any, initial_state: Any, start: Any = None
) -> tuple[Any, Any]:
    """Computes `h_t = a_t * h_(t-1) + x_t`, emptied where an episode starts.

    The token of a start still counts.

    Args:
        decay: Tensor `a` of shape `(batch, time, ...)`.
        update: Tensor `x` of the same shape.
        initial_state: Tensor of shape `(batch, ...)`, the state before the first
            step.
        start: Optional boolean tensor of shape `(batch, time)`: this step is the
            first of an episode.

    Returns:
        A tuple `(states, final_state)` of shapes `(batch, time, ...)` and
        `(batch, ...)`.

    Raises:
        ValueError: If the shapes of `decay` and `update` differ, or the batch size of
            the state or the shape of `start` is another.
    """
    decay, update, initial_state = (
        ops.convert_to_tensor(x) for x in (decay, update, initial_state)
    )
    if tuple(decay.shape) != tuple(update.shape):
        raise ValueError(
            "`decay` and `update` must have the same shape. "
            f"Received: decay.shape={tuple(decay.shape)}, "
            f"update.shape={tuple(update.shape)}"
        )
    check_inputs(initial_state, start, None, decay=decay)
    inputs = [decay, update]
    if start is not None:
        inputs.append(1.0 - ops.cast(start, decay.dtype))

    def step(carry: Any, inputs: Any) -> tuple[list[Any], Any]:
        decay, update, *keep = inputs
        (state,) = empty_at_start(carry, keep[0]) if keep else carry
        state = decay * state + update
        return [state], state

    states, (final_state,) = _backend.scan(step, [initial_state], inputs)
    return states, final_state
