"""Loops over time and positions in time, where episodes start and steps are masked."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_agalite.ops import _backend
from keras_agalite.ops.precision import at_least_float32, number_like
from keras_agalite.ops.starts import empty_at_start


def memory_scan(
    step: _backend.Step,
    carry: Sequence[Any],
    xs: Sequence[Any],
    start: Any = None,
    mask: Any = None,
    weights: Sequence[Any] = (),
) -> tuple[Any, list[Any]]:
    """Runs a recurrence over time: a start empties it, a masked step is skipped.

    It computes in float32 at least, and keeps few carries for the backward pass, as
    `keras_agalite.ops._backend.scan` does.

    Args:
        step: Function of the carry, the inputs of one step and, if there are any, the
            weights, as in `scan`.
        carry: List of tensors of shape `(batch, ...)`; zeros are the empty memory.
        xs: List of tensors of shape `(batch, time, ...)` or `(1, time, ...)`.
        start: Optional boolean tensor of shape `(batch, time)`.
        mask: Optional boolean tensor of shape `(batch, time)`.
        weights: Tensors that every step reads.

    Returns:
        A tuple `(ys, carry)`, the carry in the dtypes that it came in.
    """
    dtype = at_least_float32(xs[0].dtype)
    dtypes = [keras.backend.standardize_dtype(c.dtype) for c in carry]
    flags = []
    if start is not None:
        if mask is not None:
            start = ops.logical_and(start, mask)
        flags.append(1.0 - ops.cast(start, dtype))
    if mask is not None:
        flags.append(ops.cast(mask, dtype))

    def by_row(flag: Any, like: Any) -> Any:
        return ops.reshape(flag, (-1, *[1] * (len(like.shape) - 1)))

    def whole_step(carry: Sequence[Any], inputs: Sequence[Any], *weights: Any) -> Any:
        inputs, flags = inputs[: len(xs)], inputs[len(xs) :]
        if start is not None:
            carry = empty_at_start(carry, flags[0])
        new, y = step(carry, inputs, *weights)
        if mask is not None:
            new = [
                ops.where(by_row(flags[-1], n) > 0, n, c)
                for n, c in zip(new, carry, strict=True)
            ]
        return new, y

    ys, carry = _backend.scan(
        whole_step,
        [ops.cast(c, dtype) for c in carry],
        [*(ops.cast(x, dtype) for x in xs), *flags],
        [ops.cast(w, dtype) for w in weights],
    )
    return ys, [ops.cast(c, d) for c, d in zip(carry, dtypes, strict=True)]


def repeat_in_time(weight: Any, like: Any) -> Any:
    """A weight as an input of every step, `(1, time, ...)`: loops read nothing else.

    Args:
        weight: Tensor of any shape.
        like: Tensor of shape `(batch, time, features)`.
    """
    ones = ops.cast(ops.ones_like(like[:1, :, 0]), weight.dtype)
    return ops.reshape(ones, (1, -1, *[1] * len(weight.shape))) * weight


def last_true(flags: Any) -> tuple[Any, Any]:
    """How many are True up to each step, and the position of the last of them.

    Args:
        flags: Boolean tensor of shape `(batch, time)`.

    Returns:
        Two integer tensors of that shape; where there is none yet, the position
        says nothing.
    """
    length = ops.shape(flags)[1]
    count = ops.cumsum(ops.cast(flags, "int32"), axis=1)
    if flags.shape[1] == 1:
        # Without what torch.export cannot follow.
        return count, ops.zeros_like(count)
    last = ops.take_along_axis(
        _true_first(flags), ops.maximum(count - 1, ops.zeros_like(count)), axis=1
    )
    return count, ops.minimum(last, number_like(last, length - 1))


def steps_of_episode(clock: Any, like: Any, start: Any, mask: Any) -> tuple[Any, Any]:
    """How many steps of its episode were taken before each step, and in the end.

    Args:
        clock: Integer tensor of shape `(batch,)`: steps before the first one.
        like: Any tensor of shape `(batch, time)`.
        start: Optional boolean tensor of that shape.
        mask: Optional boolean tensor of that shape; a masked step is not counted and
            its start is none.

    Returns:
        Integer tensors of shapes `(batch, time)` and `(batch,)`.
    """
    valid = ops.ones_like(like, dtype="int32")
    if mask is not None:
        valid = ops.cast(mask, "int32")
    before = ops.cumsum(valid, axis=1) - valid
    steps = clock[:, None] + before
    if start is not None:
        start = start if mask is None else ops.logical_and(start, mask)
        count, last = last_true(start)
        first = before
        if start.shape[1] != 1:
            first = ops.take_along_axis(before, last, axis=1)
        steps = ops.where(count > 0, before - first, steps)
    return steps, steps[:, -1] + valid[:, -1]


def valid_first(sequences: Any, start: Any, mask: Any) -> tuple[Any, Any, Any, Any]:
    """Moves the valid steps of each row to the front, where the others follow them.

    Returns:
        The sequences; the starts, None if there were none; the mask, True before it
        is False; and indices of shape `(batch, time, 1)` that bring the outputs back
        to their places.
    """
    length = ops.shape(mask)[1]
    count = ops.cumsum(ops.cast(mask, "int32"), axis=1)
    valid = ops.arange(length, dtype="int32")[None, :] < count[:, -1:]
    order = _true_first(mask)
    order = ops.minimum(order, number_like(order, length - 1))
    sequences = ops.take_along_axis(sequences, order[:, :, None], axis=1)
    if start is not None:
        start = ops.take_along_axis(ops.cast(start, "int32"), order, axis=1)
        start = ops.logical_and(start > 0, valid)
    return (
        sequences,
        start,
        valid,
        ops.maximum(count - 1, ops.zeros_like(count))[:, :, None],
    )


def _true_first(flags: Any) -> Any:
    """Positions of what is True, in order, then the length."""
    length = ops.shape(flags)[1]
    steps = ops.arange(length, dtype="int32")[None, :]
    return ops.sort(ops.where(flags, steps, number_like(steps, length)), axis=1)
