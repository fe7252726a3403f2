"""Wrappers of functional environments."""

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
from gymnasium import spaces

from keras_agalite.environments import wrappers
from keras_agalite.environments.functional.protocol import FunctionalEnv


class PreviousActionReward(FunctionalEnv):
    """Adds the previous action and reward to the observation.

    The observation is that of the gymnasium wrapper of this name: `previous_action`
    is one-hot for Discrete and MultiDiscrete, and both are zero at a start.

    Args:
        env: Environment with a Discrete, MultiDiscrete or Box action space.

    Raises:
        ValueError: If the observation is a Dict that already has one of the two keys.

    Example:
        >>> env = functional.PreviousActionReward(make_functional("tmaze_10"))
        >>> sorted(env.observation_space)
        ['observation', 'previous_action', 'previous_reward']
    """

    def __init__(self, env: FunctionalEnv) -> None:
        self.env = env
        self.nested = isinstance(env.observation_space, spaces.Dict)
        self.action_space = env.action_space
        self.max_episode_steps = env.max_episode_steps
        self.costly_reset = env.costly_reset
        if act := env.teacher_action:
            self.teacher_action = lambda state, *rest: act(state[0], *rest)
        if ask := env.teacher_targets:
            self.teacher_targets = lambda state, *rest: ask(state[0], *rest)
        wrapped = wrappers.PreviousActionReward(_Spaces(env))
        self.observation_space = wrapped.observation_space
        self.size = wrapped.size

    def initial_teacher_state(self) -> Any:
        return self.env.initial_teacher_state()

    def reset(self, key: Any) -> Any:
        return self.env.reset(key), jnp.zeros(self.size), jnp.zeros(1)

    def step(self, key: Any, state: Any, action: Any) -> Any:
        inner, reward, terminated, info = self.env.step(key, state[0], action)
        reward = jnp.asarray(reward, jnp.float32)
        return (inner, self._flatten(action), reward[None]), reward, terminated, info

    def _flatten(self, action: Any) -> Any:
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            return jax.nn.one_hot(action - int(space.start), int(space.n))
        if isinstance(space, spaces.MultiDiscrete):
            numbers = zip(space.nvec, space.start, strict=True)
            parts = [
                jax.nn.one_hot(action[i] - int(start), int(n))
                for i, (n, start) in enumerate(numbers)
            ]
            return jnp.concatenate(parts)
        return jnp.ravel(action).astype(jnp.float32)

    def observe(self, state: Any) -> Any:
        return self._add(self.env.observe(state[0]), state)

    def observe_all(self, states: Any) -> Any:
        return self._add(self.env.observe_all(states[0]), states)

    def _add(self, observation: Any, state: Any) -> Any:
        parts = dict(observation) if self.nested else {"observation": observation}
        return {**parts, "previous_action": state[1], "previous_reward": state[2]}


class _Spaces(gymnasium.Env[Any, Any]):
    """The spaces of a functional environment, for what asks a gymnasium one."""

    def __init__(self, env: FunctionalEnv) -> None:
        self.observation_space = env.observation_space
        self.action_space = env.action_space
