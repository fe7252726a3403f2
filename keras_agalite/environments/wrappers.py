"""Wrappers that policies with a memory want."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class PreviousActionReward(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Adds the previous action and reward to the observation.

    The observation becomes a Dict with the keys `observation` (or the keys of an
    observation that is a Dict already), `previous_action` (one-hot for Discrete and
    MultiDiscrete, the action itself for Box and MultiBinary) and `previous_reward`
    (shape `(1,)`). Both are zero at the start of an episode.

    Args:
        env: Environment with a Discrete, MultiDiscrete, MultiBinary or Box action
            space.

    Raises:
        ValueError: If the action space is none of these, or the observation is a Dict
            that already has one of the two keys.

    Example:
        >>> env = PreviousActionReward(TMaze())
        >>> observation, _ = env.reset(seed=0)
        >>> {name: part.shape for name, part in observation.items()}
        {'observation': (16,), 'previous_action': (4,), 'previous_reward': (1,)}
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        kinds = (
            spaces.Discrete,
            spaces.MultiDiscrete,
            spaces.MultiBinary,
            spaces.Box,
        )
        if not isinstance(env.action_space, kinds):
            raise ValueError(
                "Expected a Discrete, MultiDiscrete, MultiBinary or Box action space. "
                f"Received: action_space={env.action_space}"
            )
        space = env.observation_space
        self.nested = isinstance(space, spaces.Dict)
        parts: dict[str, Any] = {"observation": space}
        if isinstance(space, spaces.Dict):
            parts = dict(space.spaces)
        size = spaces.flatdim(env.action_space)
        taken = {"previous_action", "previous_reward"} & set(parts)
        if taken:
            raise ValueError(
                "Expected an observation without the keys that this wrapper adds. "
                f"Received: keys={sorted(parts)}"
            )
        infinity = np.float32(np.inf)
        parts["previous_action"] = spaces.Box(-infinity, infinity, (size,), np.float32)
        parts["previous_reward"] = spaces.Box(-infinity, infinity, (1,), np.float32)
        self.observation_space = spaces.Dict(parts)
        self.size = size

    def reset(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        observation, info = self.env.reset(**kwargs)
        return self._add(observation, np.zeros(self.size), 0.0), info

    def step(self, action: Any) -> tuple[dict[str, Any], Any, bool, bool, Any]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        flat = spaces.flatten(self.env.action_space, action)
        observation = self._add(observation, flat, reward)
        return observation, reward, terminated, truncated, info

    def _add(self, observation: Any, action: Any, reward: Any) -> dict[str, Any]:
        parts = dict(observation) if self.nested else {"observation": observation}
        parts["previous_action"] = np.asarray(action, np.float32)
        parts["previous_reward"] = np.asarray([reward], np.float32)
        return parts
