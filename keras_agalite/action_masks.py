"""Action masks: the part of an observation that says which actions are legal.

Importing this imports no backend: workers check what environments give with it.
"""

import functools
import operator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

ACTION_MASK = "action_mask"


def mask_sizes(
    observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
) -> list[int] | None:
    """Numbers of categories that a mask holds side by side; None without a mask.

    A mask is the part `action_mask` at the top of a Dict: n flags for `Discrete(n)`,
    `sum(nvec)` flags for `MultiDiscrete(nvec)`, one category after another.

    Args:
        observation_space: Space of the observations.
        action_space: Space of the actions.

    Raises:
        ValueError: If the part is there and no such mask.

    Example:

    >>> flags, board = spaces.MultiBinary(5), spaces.Box(0, 2, (9,), np.int8)
    >>> space = spaces.Dict({"board": board, "action_mask": flags})
    >>> mask_sizes(space, spaces.MultiDiscrete([2, 3]))
    [2, 3]
    """
    if not isinstance(observation_space, spaces.Dict):
        return None
    mask = observation_space.spaces.get(ACTION_MASK)
    if mask is None:
        return None
    sizes = category_counts(action_space)
    if not sizes or mask.shape != (sum(sizes),) or not _holds_flags(mask):
        fitting = (
            f"MultiBinary({sum(sizes)}) or a Box from 0 to 1 of shape ({sum(sizes)},)"
            if sizes
            else "Discrete or MultiDiscrete actions; for others rename the part"
        )
        raise ValueError(
            f"The part `{ACTION_MASK}` of an observation says which actions are legal "
            f"and must be {fitting}. Received: {ACTION_MASK}={mask}, "
            f"action_space={action_space}"
        )
    return sizes


def category_counts(action_space: gymnasium.Space[Any]) -> list[int]:
    """The number of categories of each action; empty where actions have none."""
    match action_space:
        case spaces.Discrete():
            return [int(action_space.n)]
        case spaces.MultiDiscrete() if action_space.nvec.ndim == 1:
            return [int(n) for n in action_space.nvec]
    return []


def _holds_flags(space: gymnasium.Space[Any]) -> bool:
    if isinstance(space, spaces.Box):
        return bool((space.low == 0).all() and (space.high == 1).all())
    return isinstance(space, spaces.MultiBinary)


def has_action(mask: Any, sizes: list[int]) -> Any:
    """Whether a mask leaves an action in each of its parts.

    Args:
        mask: Array of NumPy or JAX, of shape `(..., sum(sizes))`.
        sizes: What `mask_sizes` gave.

    Returns:
        Booleans of shape `(...)`.
    """
    ends = np.cumsum(sizes)
    parts = [
        (mask[..., int(end) - n : int(end)] != 0).any(axis=-1)
        for n, end in zip(sizes, ends, strict=True)
    ]
    return functools.reduce(operator.and_, parts)


def random_actions(
    mask: np.ndarray, action_space: gymnasium.Space[Any], rng: np.random.Generator
) -> np.ndarray:
    """Draws legal actions evenly.

    Args:
        mask: Array of shape `(batch, sum of the categories)`.
        action_space: Discrete or MultiDiscrete.
        rng: Source of the draws.

    Returns:
        Actions of shape `(batch,)` or `(batch, len(nvec))`.
    """
    space: Any = action_space
    order = np.where(mask != 0, rng.random(mask.shape), -1.0)
    ends = np.cumsum(category_counts(space))[:-1]
    drawn = [part.argmax(axis=-1) for part in np.split(order, ends, axis=-1)]
    if isinstance(space, spaces.Discrete):
        return drawn[0] + space.start
    return np.stack(drawn, axis=-1) + space.start


def allow_all(observation: dict[str, Any], rows: np.ndarray) -> dict[str, Any]:
    """A batch of observations, in some rows of which every action is legal.

    Where an episode is over, an environment may leave none; the action that a policy
    chooses there has no effect.

    Args:
        observation: Observations with a mask.
        rows: Booleans of shape `(batch,)`.
    """
    mask = np.where(rows[:, None], 1, observation[ACTION_MASK])
    return {**observation, ACTION_MASK: mask}
