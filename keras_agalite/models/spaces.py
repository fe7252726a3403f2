"""Gymnasium spaces as plain data, and observations of them as tensors."""

import math
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from keras import ops

# A space with bounds for each element takes memory when it is made.
MAX_ELEMENTS = 2**24
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
        match config["type"]:
            case "Dict":
                items = config["spaces"].items()
                return spaces.Dict({k: space_from_config(v) for k, v in items})
            case "Box":
                shape, dtype = _shape(config["shape"]), np.dtype(config["dtype"])
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
                _shape(np.atleast_1d(config["n"]).tolist())
                return spaces.MultiBinary(config["n"])
    except (
        AssertionError,
        AttributeError,
        KeyError,
        OverflowError,
        TypeError,
        ValueError,
    ) as error:
        raise ValueError(
            f"Expected the description of a space. Received: config={config!r}"
        ) from error
    raise ValueError(
        f"Expected the description of a space that is {SUPPORTED}. "
        f"Received: type={config['type']!r}"
    )


def _shape(shape: list[int]) -> tuple[int, ...]:
    if math.prod(shape) > MAX_ELEMENTS:
        raise ValueError(
            f"Expected a space of at most {MAX_ELEMENTS:,} elements. Received: "
            f"shape={shape}"
        )
    return tuple(shape)


def leaves(space: gymnasium.Space[Any], path: tuple[str, ...] = ()) -> Iterator[Any]:
    """Yields `(path, space)` of every part, Dict keys in sorted order."""
    if isinstance(space, spaces.Dict):
        for name in sorted(space.spaces):
            yield from leaves(space.spaces[name], (*path, name))
    else:
        space_to_config(space)  # raises if it is not supported
        yield path, space


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
