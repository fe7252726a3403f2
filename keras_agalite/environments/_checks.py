"""What our environments refuse: numbers, render modes they lack, illegal actions."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

# Beyond it an environment takes minutes to make, or more memory than there is.
MAX_SIZE = 2**20


def check_integer(name: str, value: Any, low: int = 1) -> None:
    """Raises a ValueError unless an argument is an integer from `low` to `MAX_SIZE`."""
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if not is_integer or not low <= value <= MAX_SIZE:
        raise ValueError(
            f"`{name}` must be an integer from {low} to {MAX_SIZE:,}. Received: "
            f"{name}={value!r}"
        )


def check_num_envs(num_envs: int) -> None:
    """Raises a ValueError unless the number of environments is positive."""
    if num_envs < 1:
        raise ValueError(f"`num_envs` must be at least 1. Received: {num_envs=}")


def check_render_mode(render_mode: Any, modes: Sequence[str]) -> None:
    """Raises a ValueError unless `render_mode` is None or one of `modes`."""
    if render_mode is not None and render_mode not in modes:
        legal = "one of None, " + ", ".join(map(repr, modes)) if modes else "None"
        raise ValueError(
            f"`render_mode` must be {legal}. Received: render_mode={render_mode!r}"
        )


def check_action(action: Any, space: gymnasium.Space[Any]) -> None:
    """Raises a ValueError if an action is illegal.

    An action of a Box needs its shape and finite numbers; its bounds are left to the
    environment, since the noise of a policy may well leave them.
    """
    value = np.asarray(action)
    if isinstance(space, spaces.Box):
        legal = value.shape == space.shape and value.dtype.kind in "fiu"
        legal = legal and bool(np.isfinite(value).all())
    else:
        legal = value.dtype.kind in "iu" and space.contains(value)
    if not legal:
        raise ValueError(f"`action` must be in {space}. Received: action={action!r}")
