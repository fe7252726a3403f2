"""Gymnasium spaces as plain data, and the parts they are made of."""

import json
import math
import reprlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from keras_agalite.action_masks import ACTION_MASK

# A space with bounds for each element takes memory when it is made.
MAX_ELEMENTS = 2**22
SUPPORTED = "Box, Discrete, MultiBinary, MultiDiscrete, or a Dict or Tuple of them"
# The part of a Dict that a memory of places reads.
PLACE_ID = "place_id"
# Keys in a nested observation: names of Dicts, places in Tuples.
Keys = tuple[str | int, ...]


def space_to_config(space: gymnasium.Space[Any]) -> dict[str, Any]:
    """Describes a space in JSON's types.

    Raises:
        ValueError: If the space is not one of those supported; with the reason.
    """
    config = _config(space)
    try:
        _check_elements(config)
    except ValueError as error:
        raise _unsupported(space, str(error)) from None
    return config


def _config(space: gymnasium.Space[Any]) -> dict[str, Any]:
    _check_supported(space)
    match space:
        case spaces.Dict():
            parts = {name: _config(part) for name, part in space.spaces.items()}
            return {"type": "Dict", "spaces": parts}
        case spaces.Tuple():
            return {"type": "Tuple", "spaces": list(map(_config, space.spaces))}
        case spaces.Box():
            return {
                "type": "Box",
                "shape": list(space.shape),
                "dtype": np.dtype(space.dtype).name,
                "low": _compact(space.low),
                "high": _compact(space.high),
            }
        case spaces.Discrete():
            config = {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
            return config | _integers(space)
        case spaces.MultiDiscrete():
            config = {"type": "MultiDiscrete", "nvec": space.nvec.tolist()}
            start = {"start": space.start.tolist()} if space.start.any() else {}
            return config | start | _integers(space)
        case spaces.MultiBinary():
            return {"type": "MultiBinary", "n": np.asarray(space.n).tolist()}
    raise _unsupported(space)


def _unsupported(space: Any, reason: str = "") -> ValueError:
    return ValueError(
        f"Expected a space that is {SUPPORTED}. Received: space={space}"
        + (f"; {reason}" if reason else "")
    )


def _check_supported(space: gymnasium.Space[Any]) -> None:
    reason = ""
    match space:
        case spaces.Dict() if not all(isinstance(key, str) for key in space.spaces):
            reason = "its keys are not all text: TransformObservation can rename them"
        case spaces.Dict() | spaces.Tuple() if not space.spaces:
            reason = "it has no part"
        case spaces.Box() | spaces.MultiDiscrete() | spaces.MultiBinary() if (
            not math.prod(space.shape)
        ):
            reason = "it has no element"
    if space_dtype(space) == np.uint64:
        reason = "not all backends have uint64: use uint32, int64 or float32"
    if reason:
        raise _unsupported(space, reason)


def space_dtype(space: Any) -> np.dtype[Any] | None:
    """The dtype of a space without parts; None of another, or of no space at all."""
    dtype = getattr(space, "dtype", None)
    return None if dtype is None else np.dtype(dtype)


def _integers(space: gymnasium.Space[Any]) -> dict[str, str]:
    """The dtype of categories, where it is not gymnasium's default."""
    dtype = np.dtype(space.dtype)
    return {} if dtype == np.int64 else {"dtype": dtype.name}


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
        _check_elements(config)
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


def _check_elements(config: dict[str, Any]) -> None:
    if _elements(config) > MAX_ELEMENTS:
        raise ValueError(f"it has more than {MAX_ELEMENTS:,} elements")


def _elements(config: dict[str, Any]) -> int:
    """Size of a space: its numbers, or its categories."""
    match config["type"]:
        case "Dict":
            return sum(map(_elements, config["spaces"].values()))
        case "Tuple":
            return sum(map(_elements, config["spaces"]))
        case "Box":
            return math.prod(_sizes(config["shape"]))
        case "MultiBinary":
            return math.prod(_sizes(np.atleast_1d(config["n"]).tolist()))
        case "Discrete":
            _check_starts([config["start"]])
            return sum(_sizes([config["n"]]))
    _check_starts(_flat(config.get("start", [])))
    return sum(_sizes(_flat(config["nvec"])))


def _flat(numbers: Any) -> Iterator[Any]:
    for x in numbers:
        yield from _flat(x) if isinstance(x, list) else [x]


def _check_starts(starts: Iterable[Any]) -> None:
    if not all(type(x) is int and abs(x) < 2**31 for x in starts):
        raise ValueError("its start is no number of 32 bits")


def _sizes(sizes: Iterable[Any]) -> list[int]:
    sizes = list(sizes)
    if not all(type(n) is int and n >= 0 for n in sizes):
        raise ValueError("its sizes are no numbers")
    return sizes


def _space(config: dict[str, Any]) -> gymnasium.Space[Any]:
    match config["type"]:
        case "Dict":
            return spaces.Dict({k: _space(v) for k, v in config["spaces"].items()})
        case "Tuple":
            return spaces.Tuple([_space(part) for part in config["spaces"]])
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
            return spaces.Discrete(
                config["n"], start=config["start"], **_integer_dtype(config)
            )
        case "MultiDiscrete":
            start: Any = {
                k: np.array(config[k], np.int64) for k in config if k == "start"
            }
            nvec = np.array(config["nvec"], np.int64)
            return spaces.MultiDiscrete(nvec, **start, **_integer_dtype(config))
        case "MultiBinary":
            return spaces.MultiBinary(config["n"])
    raise ValueError("its type is another")


def _integer_dtype(config: dict[str, Any]) -> dict[str, Any]:
    if "dtype" not in config:
        return {}
    dtype = np.dtype(config["dtype"])
    if dtype.kind not in "iu":
        raise ValueError("its categories are no integers")
    return {"dtype": dtype.type}


def leaves(space: gymnasium.Space[Any]) -> list[tuple[Keys, Any]]:
    """`(path, space)` of every part, Dict keys in sorted order.

    Raises:
        ValueError: If a space is not one of those supported.
    """
    space_to_config(space)  # raises if it is not supported
    found: list[tuple[Keys, Any]] = []
    map_leaves(space, lambda path, part: found.append((path, part)))
    return found


def map_leaves(
    space: gymnasium.Space[Any], function: Callable[[Keys, Any], Any], path: Keys = ()
) -> Any:
    """The dicts and tuples of a space, with `function(path, space)` for each part."""
    match space:
        case spaces.Dict():
            return {
                name: map_leaves(space.spaces[name], function, (*path, name))
                for name in sorted(space.spaces)
            }
        case spaces.Tuple():
            return tuple(
                map_leaves(part, function, (*path, i))
                for i, part in enumerate(space.spaces)
            )
    return function(path, space)


def feature_parts(space: gymnasium.Space[Any]) -> list[tuple[Keys, Any]]:
    """`leaves` that an encoder sees: all but an action mask and a place.

    Raises:
        ValueError: If a space is not one of those supported, or nothing is left.
    """
    others = [(ACTION_MASK,), (PLACE_ID,)]
    parts = [part for part in leaves(space) if part[0] not in others]
    if not parts:
        raise ValueError(
            f"Expected an observation of more than its `{ACTION_MASK}` and its "
            f"`{PLACE_ID}`. Received: observation_space={space}"
        )
    return parts


def has_place(space: gymnasium.Space[Any]) -> bool:
    """Whether observations are Dicts with the number of a place, `place_id`.

    Raises:
        ValueError: If the part is there and not one number.
    """
    part = space.spaces.get(PLACE_ID) if isinstance(space, spaces.Dict) else None
    if part is None:
        return False
    if not isinstance(part, spaces.Discrete) and math.prod(part.shape or (0,)) != 1:
        raise ValueError(
            f"Expected a `{PLACE_ID}` that is one number: a Discrete, or a Box of one "
            f"element. Received: {PLACE_ID}={part}"
        )
    return True


def pick(observation: Any, path: Keys) -> Any:
    """The part of a nested observation at a path."""
    for key in path:
        observation = observation[key]
    return observation
