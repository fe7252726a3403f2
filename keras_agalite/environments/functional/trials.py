"""Trials: several episodes of one task as one episode, as pure functions."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gymnasium import spaces

from keras_agalite.environments._checks import check_integer
from keras_agalite.environments.functional.hidden_goal import HiddenGoal
from keras_agalite.environments.functional.point_mass import PointMass
from keras_agalite.environments.functional.protocol import FunctionalEnv, TaskFamily
from keras_agalite.previous import END, add_previous, flatten_actions, trial_space


class TrialState(NamedTuple):
    """The state of a trial.

    Attributes:
        env: State of the environment.
        task: Its task, the same for the whole trial.
        episodes: Episodes that are over, int32.
        elapsed: Steps of the present episode, int32.
        action: The previous action, float32 of shape `(flatdim(action_space),)`.
        reward: The previous reward, float32 of shape `(1,)`.
        end: Whether the previous action ended an episode, float32 of shape `(1,)`.
    """

    env: Any
    task: Any
    episodes: Any
    elapsed: Any
    action: Any
    reward: Any
    end: Any


class Trial(FunctionalEnv):
    """Several episodes of one task as one episode, for learning to learn.

    Observations and the ends of episodes are those of the gymnasium wrapper of this
    name. An episode that reaches the environment's `max_episode_steps` ends.

    Args:
        env: The tasks.
        num_episodes: Episodes of a trial.

    Raises:
        ValueError: If `env` is no `TaskFamily`, its observation is a Dict that already
            has one of the three keys, or `num_episodes` is not a positive integer.

    Example:
        >>> env = functional.Trial(functional.HiddenGoal(), num_episodes=4)
        >>> env.max_episode_steps
        60
    """

    def __init__(self, env: TaskFamily, num_episodes: int = 2) -> None:
        check_integer("num_episodes", num_episodes)
        if not isinstance(env, TaskFamily):
            raise ValueError(f"`env` must be a TaskFamily. Received: env={env!r}")
        self.env = env
        self.num_episodes = num_episodes
        self.action_space = env.action_space
        self.observation_space = trial_space(env.observation_space, env.action_space)
        # The last episode ends by itself in the same step.
        self.max_episode_steps = num_episodes * env.max_episode_steps
        self.costly_reset = env.costly_reset

    def reset(self, key: Any) -> TrialState:
        draw, begin = jax.random.split(key)
        task, zero = self.env.draw_task(draw), jnp.int32(0)
        size = spaces.flatdim(self.action_space)
        return TrialState(
            self.env.begin(begin, task),
            task,
            zero,
            zero,
            jnp.zeros(size, jnp.float32),
            jnp.zeros(1, jnp.float32),
            jnp.zeros(1, jnp.float32),
        )

    def step(self, key: Any, state: TrialState, action: Any) -> Any:
        go, begin = jax.random.split(key)
        env, reward, terminated, info = self.env.step(go, state.env, action)
        reward = jnp.asarray(reward, jnp.float32)
        elapsed = state.elapsed + 1
        ended = terminated | (elapsed >= self.env.max_episode_steps)
        episodes = state.episodes + ended
        over = episodes == self.num_episodes
        begins = ended & ~over
        fresh = self.env.begin(begin, state.task)
        env = jax.tree.map(lambda new, old: jnp.where(begins, new, old), fresh, env)
        new = TrialState(
            env,
            state.task,
            episodes,
            jnp.where(ended, 0, elapsed),
            flatten_actions(self.action_space, jnp.asarray(action)),
            reward[None],
            ended[None].astype(jnp.float32),
        )
        return new, reward, over, info

    def observe(self, state: TrialState) -> Any:
        parts = add_previous(self.env.observe(state.env), state.action, state.reward)
        return {**parts, END: state.end}


def point_trials(hidden: str = "direction", num_episodes: int = 3) -> Trial:
    """Trials of `PointMass`.

    Args:
        hidden: As for `PointMass`.
        num_episodes: Episodes of a trial.

    Raises:
        ValueError: As `PointMass` and `Trial`.
    """
    return Trial(PointMass(hidden), num_episodes)


def hidden_goal_trials(size: int = 5, num_episodes: int = 4) -> Trial:
    """Trials of `HiddenGoal`.

    Args:
        size: As for `HiddenGoal`.
        num_episodes: Episodes of a trial.

    Raises:
        ValueError: As `HiddenGoal` and `Trial`.
    """
    return Trial(HiddenGoal(size), num_episodes)
