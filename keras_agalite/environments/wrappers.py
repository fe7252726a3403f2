"""Wrappers that policies with a memory want."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from keras_agalite.environments._checks import check_integer
from keras_agalite.previous import (
    END,
    add_previous,
    flatten_actions,
    previous_space,
    trial_space,
)


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


class Trial(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Several episodes of one task as one episode, for learning to learn.

    A policy keeps its memory over them: `start` is given once a trial, and what it has
    found out about the task in one episode is of use in the next. The environment
    draws a task in `reset`, says which in `info["task"]`, and takes it again as
    `reset(options={"task": task})`; what is drawn besides may differ.

    The observation is that of `PreviousActionReward`, with the key `previous_end` of
    shape `(1,)`: 1 where the previous action ended an episode of the trial. Such an
    observation is the first of the next episode; the previous action and reward are
    still those of the last one. A trial terminates with its last episode, whether
    that terminated or was truncated.

    Duan et al., "RL^2: Fast Reinforcement Learning via Slow Reinforcement Learning",
    arXiv 1611.02779, section 2.2; Melo, arXiv 2206.06614, for TrMRL.

    Args:
        env: Environment whose tasks vary, with a time limit or episodes that end, and
            with a Discrete, MultiDiscrete, MultiBinary or Box action space.
        num_episodes: Episodes of a trial.

    Raises:
        ValueError: If the action space is none of these, the observation is a Dict
            that already has one of the three keys, or `num_episodes` is not a
            positive integer; at a reset, if the environment does not report its task.

    Example:
        >>> env = Trial(env, num_episodes=3)  # whose infos have "task"
        >>> observation, info = env.reset(seed=0)
        >>> observation["previous_end"]
        array([0.], dtype=float32)
    """

    def __init__(self, env: gymnasium.Env[Any, Any], num_episodes: int = 2) -> None:
        super().__init__(env)
        check_integer("num_episodes", num_episodes)
        self.observation_space = trial_space(env.observation_space, env.action_space)
        self.size = spaces.flatdim(env.action_space)
        self.num_episodes = num_episodes
        self.episodes = 0
        self.task: Any = None

    def reset(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        observation, info = self.env.reset(**kwargs)
        if "task" not in info:
            raise ValueError(
                'Expected an environment that reports `info["task"]` at a reset and '
                "takes it as an option. Received: an info with the keys "
                f"{sorted(info)}"
            )
        self.episodes, self.task = 0, info["task"]
        return self._add(observation, np.zeros(self.size, np.float32), 0.0, False), info

    def step(self, action: Any) -> tuple[dict[str, Any], Any, bool, bool, Any]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        ended = bool(terminated or truncated)
        self.episodes += ended
        over = self.episodes == self.num_episodes
        if ended and not over:
            observation, _ = self.env.reset(options={"task": self.task})
        flat = flatten_actions(self.env.action_space, np.asarray(action))
        return self._add(observation, flat, reward, ended), reward, over, False, info

    def _add(self, observation: Any, action: Any, reward: Any, end: bool) -> Any:
        parts = add_previous(observation, action, np.asarray([reward], np.float32))
        return {**parts, END: np.asarray([end], np.float32)}
