"""The previous action and reward as parts of an observation, zeros at a start.

Importing this imports no backend: environments, policies and recordings build with it.
"""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

PREVIOUS = ("previous_action", "previous_reward")
# In a trial of several episodes: whether the previous action ended one of them.
END = "previous_end"


def previous_space(
    observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
) -> spaces.Dict:
    """The space of observations with the previous action and reward.

    Args:
        observation_space: Space of the observations without.
        action_space: Space of the actions.

    Returns:
        A Dict with the parts of the observation, `observation` if it is none, and with
        `previous_action`, of shape `(flatdim(action_space),)`, and `previous_reward`,
        of shape `(1,)`.

    Raises:
        ValueError: If the actions are not Discrete, MultiDiscrete, MultiBinary or Box,
            or the observation is a Dict that already has one of the two parts.

    Example:

    >>> sorted(previous_space(spaces.Box(0, 1, (16,)), spaces.Discrete(4)))
    ['observation', 'previous_action', 'previous_reward']
    """
    kinds = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary, spaces.Box)
    if not isinstance(action_space, kinds):
        raise ValueError(
            "Expected a Discrete, MultiDiscrete, MultiBinary or Box action space. "
            f"Received: action_space={action_space}"
        )
    parts: dict[str, Any] = {"observation": observation_space}
    if isinstance(observation_space, spaces.Dict):
        parts = dict(observation_space.spaces)
    if set(PREVIOUS) & set(parts):
        raise ValueError(
            f"Expected an observation without the keys {' and '.join(PREVIOUS)}, which "
            f"are added to it. Received: keys={sorted(parts)}"
        )
    infinity = np.float32(np.inf)
    sizes = (spaces.flatdim(action_space), 1)
    for key, size in zip(PREVIOUS, sizes, strict=True):
        parts[key] = spaces.Box(-infinity, infinity, (size,), np.float32)
    return spaces.Dict(parts)


def trial_space(
    observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
) -> spaces.Dict:
    """The space of observations in a trial of several episodes.

    Args:
        observation_space: Space of the observations of an episode.
        action_space: Space of the actions.

    Returns:
        `previous_space`, with the part `previous_end` of shape `(1,)`: 1 where the
        previous action ended an episode of the trial, else 0.

    Raises:
        ValueError: As `previous_space`, and if the observation has `previous_end`.

    Example:

    >>> sorted(trial_space(spaces.Box(0, 1, (16,)), spaces.Discrete(4)))
    ['observation', 'previous_action', 'previous_end', 'previous_reward']
    """
    parts = previous_space(observation_space, action_space).spaces
    if END in parts:
        raise ValueError(
            f"Expected an observation without the key {END}, which is added to it. "
            f"Received: keys={sorted(parts)}"
        )
    return spaces.Dict({**parts, END: spaces.Box(0.0, 1.0, (1,), np.float32)})


def add_previous(observation: Any, action: Any, reward: Any) -> dict[str, Any]:
    """An observation of `previous_space`.

    Args:
        observation: The observation without; a dict if its space is a Dict.
        action: The previous action as `flatten_actions` gives it, or zeros.
        reward: The previous reward, of shape `(..., 1)`, or zeros.
    """
    is_dict = isinstance(observation, Mapping)
    parts = observation if is_dict else {"observation": observation}
    return {**parts, **dict(zip(PREVIOUS, (action, reward), strict=True))}


def flatten_actions(space: gymnasium.Space[Any], actions: Any) -> Any:
    """`gymnasium.spaces.flatten` of many actions at once.

    Args:
        space: Their Discrete, MultiDiscrete, MultiBinary or Box space.
        actions: NumPy or JAX array of shape `(..., *space.shape)`.

    Returns:
        An array of shape `(..., flatdim(space))`, float32, of the same library.
    """
    outer = actions.shape[: actions.ndim - len(space.shape or ())]
    if isinstance(space, spaces.Discrete):
        flat = actions[..., None] - space.start == np.arange(int(space.n))
    elif isinstance(space, spaces.MultiDiscrete):
        counts = space.nvec.ravel().tolist()
        which = np.repeat(np.arange(len(counts)), counts)
        categories = np.concatenate([np.arange(n) for n in counts])
        flat = actions.reshape(*outer, -1) - space.start.ravel()
        flat = flat[..., which] == categories
    else:
        flat = actions.reshape(*outer, -1)
    return flat.astype(np.float32)
