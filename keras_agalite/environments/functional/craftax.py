"""Craftax as pure functions."""

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from keras_agalite.environments._packages import require
from keras_agalite.environments.functional.protocol import FunctionalEnv


class Craftax(FunctionalEnv):
    """Craftax with symbolic observations (Matthews et al., ICML 2024).

    Observation: float32 of shape `(8268,)`, for Classic `(1345,)`. Actions: 43, for
    Classic 17. Death, lava (Classic) and the defeat of the boss terminate.
    `info["achievements"]`, bool of shape `(67,)`, for Classic `(22,)`, says what the
    episode has unlocked so far, in the order of
    `craftax.craftax.constants.Achievement`, or `craftax.craftax_classic.constants`.

    Args:
        classic: Whether it is Craftax-Classic.

    Raises:
        ImportError: If craftax is not installed; the message has the pip command.

    Example:
        >>> envs = keras_agalite.environments.make_vec("craftax_symbolic", 256)
        >>> observations, _ = envs.reset(seed=0)  # float32 of shape (256, 8268)
    """

    # A new map costs as much as dozens of steps.
    costly_reset = True

    def __init__(self, classic: bool = False) -> None:
        require("Craftax", "craftax")
        from craftax.craftax_env import make_craftax_env_from_name

        name = f"Craftax-{'Classic-' if classic else ''}Symbolic-v1"
        self.env = make_craftax_env_from_name(name, auto_reset=False)
        params = self.env.default_params
        self.max_episode_steps = params.max_timesteps
        # Out of reach: truncation is the batch's, so that all else is termination.
        self.params = params.replace(max_timesteps=np.iinfo(np.int32).max)
        shape = self.env.observation_space(params).shape
        # The official space ends at 1, which a strong player's health exceeds.
        self.observation_space = gymnasium.spaces.Box(0.0, np.inf, shape, np.float32)
        self.action_space = gymnasium.spaces.Discrete(self.env.num_actions)

    def reset(self, key: Any) -> Any:
        # Craftax takes keys of the old, untyped kind, and keeps one in its state.
        _, state = self.env.reset_env(jax.random.key_data(key), self.params)
        return state

    def step(self, key: Any, state: Any, action: Any) -> Any:
        _, state, reward, terminated, _ = self.env.step_env(
            jax.random.key_data(key), state, action, self.params
        )
        info = {"achievements": state.achievements}
        return state, jnp.asarray(reward, jnp.float32), terminated, info

    def observe(self, state: Any) -> Any:
        return self.env.get_obs(state).astype(jnp.float32)
