"""The recurrence h_t = a_t h_(t-1) + x_t on torch, forward and backward in few calls.

A step is one call, in place. Where a call costs more than its work, on a GPU, pieces
of the sequence take their steps together, and are then joined.
"""

from typing import Any

import torch

# Steps of a piece.
PIECE_SIZE = 16


def _is_parallel(x: Any) -> bool:
    return x.device.type not in ("cpu", "meta")


def fill_states(decay: Any, states: Any, carry: Any, kept: Any = None) -> None:
    """Turns updates into states, in place.

    Args:
        decay: Tensor of shape `(time, ...)`.
        states: Tensor of the same shape: x before, h after.
        carry: Tensor of shape `(...)`: h before the first step.
        kept: None, or a boolean tensor that can be broadcast to `decay`: where it is
            False, the carry is not read. It is needed where NaN or infinity may be
            carried; otherwise a decay of zero does the same.
    """
    begin = 0
    if kept is None and _is_parallel(states):
        begin = len(states) - len(states) % PIECE_SIZE
        if begin:
            _fill_pieces(decay[:begin], states[:begin], carry)
            carry = states[begin - 1]
    rows = zip(decay[begin:].unbind(), states[begin:].unbind(), strict=True)
    for t, (a, state) in enumerate(rows, begin):
        if kept is not None:
            carry = torch.where(kept[t], carry, 0.0)
        carry = state.addcmul_(a, carry)


def _fill_pieces(decay: Any, states: Any, carry: Any) -> None:
    """`fill_states` where time is a multiple of `PIECE_SIZE`."""
    decay, states = (x.unflatten(0, (-1, PIECE_SIZE)) for x in (decay, states))
    reach = torch.cumprod(decay, 1)
    for t in range(1, PIECE_SIZE):
        states[:, t].addcmul_(decay[:, t], states[:, t - 1])
    before = [carry]
    for last, through in zip(states[:-1, -1], reach[:-1, -1], strict=True):
        before.append(torch.addcmul(last, through, before[-1]))
    states.addcmul_(reach, torch.stack(before)[:, None])


def fill_gradients(decay: Any, gradients: Any, kept: Any = None) -> Any:
    """Turns the gradients of the reads of all states into those of the states.

    Args:
        decay: Tensor of shape `(time, ...)`.
        gradients: Tensor of the same shape, changed in place. What comes from after
            the last step has been added to the last one.
        kept: As in `fill_states`.

    Returns:
        The gradient of the state before the first step.
    """
    if kept is None and _is_parallel(gradients):
        after = torch.cat([torch.zeros_like(decay[:1]), decay[1:].flip(0)])
        backwards = gradients.flip(0)
        fill_states(after, backwards, torch.zeros_like(backwards[0]))
        gradients.copy_(backwards.flip(0))
        return decay[0] * gradients[0]
    rows = list(zip(decay.unbind(), gradients.unbind(), strict=True))
    carried: tuple[Any, ...] = ()
    for t in reversed(range(len(rows))):
        a, gradient = rows[t]
        if carried:
            gradient.addcmul_(*carried)
        if kept is not None:
            gradient = torch.where(kept[t], gradient, 0.0)
        carried = a, gradient
    return torch.mul(*carried)


def multiply_by_states_before(
    gradients: Any, states: Any, carry: Any, kept: Any = None
) -> None:
    """Writes the gradients of the decays over those of the states."""
    gradients[0].mul_(carry)
    gradients[1:].mul_(states[:-1])
    if kept is not None:
        gradients.masked_fill_(~kept, 0.0)


def all_finite(*tensors: Any) -> bool:
    """True of tensors without data, too: Keras asks for shapes with them."""
    return all(x.is_meta or bool(torch.isfinite(x.sum())) for x in tensors)


class _Recurrence(torch.autograd.Function):
    """See `linear_recurrence`; time comes first."""

    @staticmethod
    def forward(ctx: Any, decay: Any, update: Any, carry: Any, kept: Any) -> Any:
        states = update.clone()
        fill_states(decay, states, carry)
        ctx.kept = None
        if kept is not None and not all_finite(states):
            states.copy_(update)
            fill_states(decay, states, carry, kept)
            ctx.kept = kept
        ctx.save_for_backward(decay, states, carry, kept)
        return states

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, d_states: Any) -> Any:
        decay, states, carry, kept = ctx.saved_tensors
        if ctx.kept is None and (kept is None or all_finite(d_states)):
            kept = None
        gradients = d_states.clone(memory_format=torch.contiguous_format)
        d_carry = fill_gradients(decay, gradients, kept)
        d_update = gradients.clone()
        multiply_by_states_before(gradients, states, carry, kept)
        return gradients, d_update, d_carry, None


def linear_recurrence(
    decay: Any, update: Any, carry: Any, start: Any
) -> tuple[Any, Any]:
    """Every h of `h_t = a_t * h_(t-1) + x_t`, and the last one.

    Args:
        decay: Tensor `a` of shape `(batch, time, ...)`.
        update: Tensor `x` of the same shape.
        carry: Tensor of shape `(batch, ...)`.
        start: None, or a boolean tensor of shape `(batch, time)`.
    """
    decay, update = (x.transpose(0, 1).contiguous() for x in (decay, update))
    kept = None
    if start is not None:
        kept = ~start.T.reshape(*start.T.shape, *[1] * (carry.ndim - 1))
        # A start takes no gradient to its decay, and reads nothing that was carried.
        decay = torch.where(kept, decay, 0.0)
        carry = torch.where(kept[0], carry, 0.0)
    states = _Recurrence.apply(decay, update, carry, kept)
    return states.transpose(0, 1), states[-1]
