"""Numbers in 8 bits: a code for each, a range for each row.

Pan et al., "Mesa: A Memory-saving Training Framework for Transformers", 2021, arXiv
2111.11124. There a range belongs to a group of channels and is a moving average of
the ranges of earlier steps. Here it is that of a row (the last axis) of the present
tensor and is kept with the codes: no code is out of range, a layer may be used several
times before a backward pass, no row depends on another, and a sequence step by step,
in chunks or whole gives the same.
"""

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_agalite.ops._backend import row_bounds
from keras_agalite.ops.precision import at_least_float32

_LEVELS = 255


def encode(x: Any, low: Any = None) -> list[Any]:
    """The nearest of 256 values, evenly from the least to the greatest of each row.

    A row of equal numbers comes back as it is, and so do the least and the greatest
    number of each row; another number comes back with an error of half a step, a
    510th of the range, at most.

    Args:
        x: Tensor of shape `(..., n)`.
        low: Where ranges begin, instead of at the least number of each row: a tensor
            that broadcasts to x, nowhere greater than it.

    Returns:
        `[codes, step, low]`, as `decode` takes it: codes of 8 bits in the shape of x,
        and in float32 at least the difference between two codes and the value of code
        0, of shape `(..., 1)`.
    """
    x = ops.cast(x, at_least_float32(x.dtype))
    least, greatest = row_bounds(x)
    low = least if low is None else ops.cast(low, x.dtype)
    step = (greatest - low) / _LEVELS
    codes = ops.round((x - low) / ops.where(step > 0.0, step, 1.0))
    return [ops.cast(ops.clip(codes, 0.0, float(_LEVELS)), "uint8"), step, low]


def decode(encoded: Sequence[Any], dtype: Any) -> Any:
    """What `encode` gave as numbers again, in this dtype."""
    codes, step, low = encoded
    return ops.cast(ops.cast(codes, step.dtype) * step + low, dtype)
