"""Which dtypes the memories compute in, and how far these count exactly."""

from typing import Any

import keras
from keras import ops

# Integers up to 2**bits are exact.
_EXACT_BITS = {"float16": 11, "bfloat16": 8}


def at_least_float32(dtype: Any) -> str:
    """float64 for float64, else float32 (`keras.backend.result_type` may lower)."""
    standard = keras.backend.standardize_dtype(dtype)
    return standard if standard == "float64" else "float32"


def number_like(x: Any, number: Any) -> Any:
    """A number as a tensor of the shape and dtype of `x`.

    With `floatx` bfloat16, Keras on JAX turns integers of Python and NumPy that come
    without a dtype into floats.
    """
    return ops.zeros_like(x) + number


def largest_count(dtype: Any) -> int:
    """Up to where `dtype` counts exactly; float64 counts as far as float32."""
    return 2 ** _EXACT_BITS.get(keras.backend.standardize_dtype(dtype), 24)
