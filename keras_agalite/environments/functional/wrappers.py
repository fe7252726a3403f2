"""Wrappers of functional environments."""

from typing import Any

import jax.numpy as jnp
from gymnasium import spaces

from keras_agalite.environments.functional.protocol import FunctionalEnv
from keras_agalite.previous import add_previous, flatten_actions, previous_space


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
        self.action_space = env.action_space
        self.max_episode_steps = env.max_episode_steps
        self.costly_reset = env.costly_reset
        if act := env.teacher_action:
            self.teacher_action = lambda state, *rest: act(state[0], *rest)
        if ask := env.teacher_targets:
            self.teacher_targets = lambda state, *rest: ask(state[0], *rest)
        self.observation_space = previous_space(env.observation_space, env.action_space)
        self.size = spaces.flatdim(env.action_space)

    def initial_teacher_state(self) -> Any:
        return self.env.initial_teacher_state()

    def reset(self, key: Any) -> Any:
        return self.env.reset(key), jnp.zeros(self.size), jnp.zeros(1)

    def step(self, key: Any, state: Any, action: Any) -> Any:
        inner, reward, terminated, info = self.env.step(key, state[0], action)
        reward = jnp.asarray(reward, jnp.float32)
        flat = flatten_actions(self.action_space, jnp.asarray(action))
        return (inner, flat, reward[None]), reward, terminated, info

    def observe(self, state: Any) -> Any:
        return add_previous(self.env.observe(state[0]), *state[1:])

    def observe_all(self, states: Any) -> Any:
        return add_previous(self.env.observe_all(states[0]), *states[1:])
