"""A causal convolution over the last few steps, which remembers what it needs."""

from typing import Any

from keras import ops

from keras_agalite.ops.episodes import last_true
from keras_agalite.ops.precision import number_like


def short_convolution(
    x: Any, kernel: Any, window: Any, start: Any = None, mask: Any = None
) -> tuple[Any, Any]:
    """Computes `y_t = sum_j kernel[j] * x_(t-j)`, each channel for itself.

    Args:
        x: Tensor of shape `(batch, time, channels)`.
        kernel: Tensor of shape `(size, channels)`.
        window: Tensor of shape `(batch, size - 1, channels)`: the inputs before the
            first step, the oldest first; zeros where there were none.
        start: Optional boolean tensor `(batch, time)`: a step with a start and those
            after it see nothing before it.
        mask: Optional boolean tensor `(batch, time)`, in which each row is True
            first, then False; starts are on True. What comes out where it is False
            means nothing.

    Returns:
        A tuple `(y, window)`.
    """
    size, length = kernel.shape[0], ops.shape(x)[1]
    items = ops.concatenate([window, x], axis=1)
    if start is None:
        started = age = None
    else:
        count, last = last_true(start)
        steps = ops.arange(length, dtype="int32")[None, :]
        age = ops.where(count > 0, steps - last, number_like(last, size))
        started = ops.where(
            count[:, -1:] > 0, last[:, -1:], number_like(last[:, -1:], 1 - size)
        )
    y = kernel[0] * x
    for j in range(1, size):
        past = items[:, size - 1 - j : size - 1 - j + length]
        if age is not None:  # before the product: the kernel's gradient reads it
            past = ops.where((age >= j)[:, :, None], past, 0.0)
        y = y + kernel[j] * past
    # Places in `items` of the new window.
    places = ops.arange(size - 1, dtype="int32")[None, :]
    if mask is None:
        window = items[:, length:]
        places = places + length
    else:
        places = places + ops.sum(ops.cast(mask, "int32"), axis=1, keepdims=True)
        window = ops.take_along_axis(items, places[:, :, None], axis=1)
    if started is not None:
        kept = places - (size - 1) >= started
        window = ops.where(kept[:, :, None], window, 0.0)
    return y, window
