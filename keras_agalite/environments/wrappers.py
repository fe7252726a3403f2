"""Wrappers that policies with a memory want."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from keras_agalite.previous import add_previous, flatten_actions, previous_space


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
        self.observation_space = previous_space(env.observation_space, env.action_space)
        self.size = spaces.flatdim(env.action_space)

    def reset(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        observation, info = self.env.reset(**kwargs)
        zeros = [np.zeros(size, np.float32) for size in (self.size, 1)]
        return add_previous(observation, *zeros), info

    def step(self, action: Any) -> tuple[dict[str, Any], Any, bool, bool, Any]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        flat = flatten_actions(self.env.action_space, np.asarray(action))
        observation = add_previous(observation, flat, np.asarray([reward], np.float32))
        return observation, reward, terminated, truncated, info
