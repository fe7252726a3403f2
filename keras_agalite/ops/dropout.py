"""Dropout whose noise is a function of a seed: no state, the same on every backend."""

import math
from typing import Any

from keras import ops

# Wellons, "Prospecting for Hash Functions", 2018: lowbias32, as signed integers.
_FACTORS = (0x7FEB352D, 0x846CA68B - 2**32)
_GOLDEN = 0x9E3779B9 - 2**32
_BITS = 24


def _shift(x: Any, bits: int) -> Any:
    """A shift to the right that brings zeros."""
    return ops.bitwise_and(ops.right_shift(x, bits), 2 ** (32 - bits) - 1)


def _hash(x: Any) -> Any:
    for bits, factor in zip((16, 15), _FACTORS, strict=True):
        x = ops.bitwise_xor(x, _shift(x, bits)) * ops.convert_to_tensor(factor, "int32")
    return ops.bitwise_xor(x, _shift(x, 16))


class Dropout:
    """The dropout of one call of a model: every use of it draws other noise.

    Args:
        seed: An int, or an integer tensor without axes.

    Call arguments:
        x: Tensor.
        rate: Probability with which a number becomes zero; the others are divided by
            one less the rate.

    Example:

    >>> drop = Dropout(seed=7)
    >>> x = drop(x, 0.1)
    """

    def __init__(self, seed: Any) -> None:
        if isinstance(seed, int):
            seed = (seed + 2**31) % 2**32 - 2**31
        self.seed = ops.cast(ops.convert_to_tensor(seed), "int32")

    def __call__(self, x: Any, rate: float) -> Any:
        if not rate:
            return x
        self.seed = self.seed + ops.convert_to_tensor(_GOLDEN, "int32")
        shape = ops.shape(x)
        size = math.prod(shape)
        number = ops.reshape(ops.arange(size, dtype="int32"), shape)
        noise = _hash(ops.bitwise_xor(_hash(number), _hash(self.seed)))
        keep = 1.0 - rate
        kept = ops.bitwise_and(noise, 2**_BITS - 1) < int(keep * 2**_BITS)
        return ops.where(kept, x / keep, ops.zeros_like(x))
