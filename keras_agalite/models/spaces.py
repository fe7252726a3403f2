"""Gymnasium spaces as plain data, and observations of them as tensors."""

import json
import math
import reprlib
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from keras import ops

# A space with bounds for each element takes memory when it is made.
MAX_ELEMENTS = 2**22
SUPPORTED = "Box, Discrete, MultiBinary, MultiDiscrete, or a Dict of them"


def space_to_config(space: gymnasium.Space[Any]) -> dict[str, Any]:
    """Describes a space in JSON's types.

    Raises:
        ValueError: If the space is not one of those supported.
    """
    match space:
        case spaces.Dict():
            return {"type": "Dict", "spaces": dict(_configs(space))}
        case spaces.Box():
            return {
                "type": "Box",
                "shape": list(space.shape),
                "dtype": np.dtype(space.dtype).name,
                "low": _compact(space.low),
                "high": _compact(space.high),
            }
        case spaces.Discrete():
            return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
        case spaces.MultiDiscrete() if space.nvec.ndim == 1 and not space.start.any():
            return {"type": "MultiDiscrete", "nvec": space.nvec.tolist()}
        case spaces.MultiBinary():
            return {"type": "MultiBinary", "n": np.asarray(space.n).tolist()}
    raise ValueError(f"Expected a space that is {SUPPORTED}. Received: space={space}")


def _configs(space: spaces.Dict) -> Iterator[tuple[str, Any]]:
    for name, part in space.spaces.items():
        yield name, space_to_config(part)


def _compact(bound: np.ndarray) -> Any:
    """One number where all are equal; infinities as text, which JSON lacks."""
    if bound.size and (bound == bound.flat[0]).all():
        value = bound.flat[0].item()
        return str(value) if np.isinf(value) else value
    return [str(x) if np.isinf(x) else x for x in bound.ravel().tolist()]


def space_from_config(config: dict[str, Any]) -> gymnasium.Space[Any]:
    """The inverse of `space_to_config`.

    Raises:
        ValueError: If the description is not one that `space_to_config` writes.
    """
    try:
        if _elements(config) > MAX_ELEMENTS:
            raise ValueError(f"it has more than {MAX_ELEMENTS:,} elements")
        space = _space(config)
        if _text(space_to_config(space)) != _text(config):
            raise ValueError(f"it is written {reprlib.repr(space_to_config(space))}")
    except (
        AssertionError,
        AttributeError,
        LookupError,
        OverflowError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise ValueError(
            f"Expected the description of a space that is {SUPPORTED}. Received: "
            f"config={reprlib.repr(config)} ({type(error).__name__}: {error})"
        ) from error
    return space


def _text(config: Any) -> str:
    return json.dumps(config, sort_keys=True, allow_nan=False)


def _elements(config: dict[str, Any]) -> int:
    """Size of a space: its numbers, or its categories."""
    match config["type"]:
        case "Dict":
            return sum(_elements(part) for part in config["spaces"].values())
        case "Box":
            return math.prod(_sizes(config["shape"]))
        case "MultiBinary":
            return math.prod(_sizes(np.atleast_1d(config["n"]).tolist()))
        case "Discrete":
            if abs(config["start"]) >= 2**31:
                raise ValueError("its start is no number of 32 bits")
            return sum(_sizes([config["n"]]))
    return sum(_sizes(config["nvec"]))


def _sizes(sizes: Any) -> list[int]:
    if not all(type(n) is int and n >= 0 for n in sizes):
        raise ValueError("its sizes are no numbers")
    return list(sizes)


def _space(config: dict[str, Any]) -> gymnasium.Space[Any]:
    match config["type"]:
        case "Dict":
            return spaces.Dict({k: _space(v) for k, v in config["spaces"].items()})
        case "Box":
            shape, dtype = tuple(config["shape"]), np.dtype(config["dtype"])
            if dtype.kind not in "fiub":
                raise ValueError("its elements are no numbers")
            low, high = (
                np.broadcast_to(np.asarray(config[x], dtype), shape)
                if np.ndim(config[x]) == 0
                else np.asarray(config[x], dtype).reshape(shape)
                for x in ("low", "high")
            )
            return spaces.Box(low, high, shape, dtype.type)
        case "Discrete":
            return spaces.Discrete(config["n"], start=config["start"])
        case "MultiDiscrete":
            return spaces.MultiDiscrete(config["nvec"])
        case "MultiBinary":
            return spaces.MultiBinary(config["n"])
    raise ValueError("its type is another")


def leaves(space: gymnasium.Space[Any], path: tuple[str, ...] = ()) -> Iterator[Any]:
    """Yields `(path, space)` of every part, Dict keys in sorted order."""
    if isinstance(space, spaces.Dict):
        for name in sorted(space.spaces):
            yield from leaves(space.spaces[name], (*path, name))
    else:
        space_to_config(space)  # raises if it is not supported
        yield path, space


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
            -1 in a uint8 Box, or the category 3 of three.
    """
    received, dtype = np.asarray(observation), np.dtype(space.dtype)
    if received.dtype.kind not in "biuf":
        try:  # Python's integers beyond 64 bits are numbers, too
            received = received.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"`observation` must hold numbers of {space}. Received: {name}="
                f"{observation!r}"
            ) from error
    with np.errstate(over="ignore", invalid="ignore"):
        x = received.astype(dtype, copy=False)
    left: Any = np.False_
    if not np.can_cast(received.dtype, dtype):  # else every number is kept
        overflow = np.isinf(x) & np.isfinite(received)
        left = overflow if dtype.kind == "f" else x != received
    low, high = _categories(space)
    if low is not None:
        left = left | (x < low) | (x > high)
    if np.any(left):
        worst = received[left].flat[0].item()
        raise ValueError(
            f"`observation` must hold numbers of {space}, whose dtype is {dtype.name}. "
            f"Received: {worst} in {name} (of dtype {received.dtype.name})"
        )
    return x


def _categories(space: gymnasium.Space[Any]) -> tuple[Any, Any]:
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
    """Whether a space is a uint8 Box of shape (height, width, channels)."""
    return (
        isinstance(space, spaces.Box)
        and len(space.shape) == 3
        and space.dtype == np.uint8
    )


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
            parts = [
                ops.one_hot(ops.cast(observation[:, i], "int32"), int(n), dtype=dtype)
                for i, n in enumerate(space.nvec)
            ]
            return ops.concatenate(parts, axis=-1)
    features = ops.reshape(ops.cast(observation, dtype), (-1, feature_size(space)))
    return features / 255.0 if space.dtype == np.uint8 else features
