"""Observations of a space without parts: checked arrays, images, features."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from keras import ops


def to_array(space: gymnasium.Space[Any], observation: Any, name: str) -> np.ndarray:
    """Observations of a space in its dtype, with the same values.

    Numbers are taken where a cast keeps them: 3.0 for an integer, and for a float the
    nearest one. A float Box's bounds are not insisted on, since environments miss
    them by rounding.

    Args:
        space: A space without parts.
        observation: NumPy array, or what becomes one.
        name: What the message calls it.

    Raises:
        ValueError: If a number is none that the space can hold, such as 0.5, 300 or
            -1 in a uint8 Box, or the category 3 of three; or an integer beyond 32
            bits, which not all backends have.
    """
    received, dtype = np.asarray(observation), np.dtype(space.dtype)
    if received.dtype.kind not in "biuf":
        try:  # Python's integers beyond 64 bits are numbers, too
            received = received.astype(np.float64)
        except (OverflowError, TypeError, ValueError) as error:
            raise ValueError(
                f"`observation` must hold numbers of {space}. Received: {name}="
                f"{observation!r}"
            ) from error
    with np.errstate(over="ignore", invalid="ignore"):
        x = received.astype(dtype, copy=False)
    left: Any = np.False_
    has_64_bits = dtype.kind in "iu" and dtype.itemsize == 8
    if has_64_bits:  # JAX would wrap them around
        left = (received < -(2**31)) | (received >= 2**31)
    if not np.can_cast(received.dtype, dtype):  # else every number is kept
        overflow = np.isinf(x) & np.isfinite(received)
        left = left | (overflow if dtype.kind == "f" else x != received)
    low, high = categories(space)
    if low is not None:
        left = left | (x < low) | (x > high)
    if np.any(left):
        worst = received[left].flat[0].item()
        limit = " and whose numbers have 32 bits at most" if has_64_bits else ""
        raise ValueError(
            f"`observation` must hold numbers of {space}, whose dtype is {dtype.name}"
            f"{limit}. "
            f"Received: {worst} in {name} (of dtype {received.dtype.name})"
        )
    return x


def categories(space: gymnasium.Space[Any]) -> tuple[Any, Any]:
    """The first and the last category, None where numbers are no categories."""
    match space:
        case spaces.Discrete():
            return int(space.start), int(space.start) + int(space.n) - 1
        case spaces.MultiDiscrete():
            first: Any = space.start
            return first, first + space.nvec - 1
        case spaces.MultiBinary():
            return 0, 1
    return None, None


def is_image(space: gymnasium.Space[Any]) -> bool:
    """Whether a space is a Box of three axes, of uint8 or floats."""
    return (
        isinstance(space, spaces.Box)
        and len(space.shape) == 3
        and (space.dtype == np.uint8 or np.dtype(space.dtype).kind == "f")
    )


def has_channels_first(image: spaces.Box) -> bool:
    """Whether the first axis of an image is the shortest: as PyTorch has them."""
    channels, *size = image.shape
    return channels < min(size)


def image_shape(image: spaces.Box) -> tuple[int, int, int]:
    """`(height, width, channels)` of an image, wherever its channels are."""
    a, b, c = image.shape
    return (b, c, a) if has_channels_first(image) else (a, b, c)


def image_range(image: spaces.Box) -> tuple[float, float]:
    """What becomes 0 and what becomes 1 in the encoders; 0 and 1 change nothing.

    Bytes go from 0 to 255, floats from the lower to the upper bound of their space. A
    space of floats within -1 to 1, or without bounds, is taken to be scaled already.
    """
    if image.dtype == np.uint8:
        return 0.0, 255.0
    low, high = float(image.low.min()), float(image.high.max())
    is_scaled = low >= -1.0 and high <= 1.0
    if is_scaled or not np.isfinite(high - low):
        return 0.0, 1.0
    return low, high


def feature_size(space: gymnasium.Space[Any]) -> int:
    """Width of `to_features(space, ...)`."""
    return spaces.flatdim(space)


def to_features(space: gymnasium.Space[Any], observation: Any, dtype: str) -> Any:
    """Turns observations `(n, ...)` of a space into features `(n, feature_size)`.

    Categories become one-hot vectors, uint8 Boxes are divided by 255.
    """
    match space:
        case spaces.Discrete():
            return ops.one_hot(
                ops.cast(observation, "int32") - int(space.start), space.n, dtype=dtype
            )
        case spaces.MultiDiscrete():
            flat = ops.reshape(ops.cast(observation, "int32"), (-1, space.nvec.size))
            numbers = zip(space.nvec.flat, space.start.flat, strict=True)
            parts = [
                ops.one_hot(flat[:, i] - int(start), int(n), dtype=dtype)
                for i, (n, start) in enumerate(numbers)
            ]
            return ops.concatenate(parts, axis=-1)
    features = ops.reshape(ops.cast(observation, dtype), (-1, feature_size(space)))
    return features / 255.0 if space.dtype == np.uint8 else features
