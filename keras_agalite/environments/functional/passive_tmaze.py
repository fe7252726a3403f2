"""Passive T-Maze as pure functions."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from keras_agalite.environments import passive_tmaze
from keras_agalite.environments.functional.protocol import (
    FunctionalEnv,
    TeacherTargets,
)


class PassiveTMazeState(NamedTuple):
    """The state of a Passive T-Maze.

    Attributes:
        length: Steps from the start to the junction, int32.
        hint: 1 if the right turn is up, -1 if it is down, int32.
        x: Steps from the start, int32.
        y: 1 above the junction, -1 below it, else 0, int32.
        elapsed: Steps of the episode, int32.
        noise: -1, 0 or 1, int32.
    """

    length: Any
    hint: Any
    x: Any
    y: Any
    elapsed: Any
    noise: Any


class PassiveTMaze(FunctionalEnv):
    """Passive T-Maze: the same task as the gymnasium environment of this name.

    Observation: float32 of shape `(4,)`. Actions: 0 right, 1 up, 2 left, 3 down. Its
    teacher walks to the junction and turns as the hint said; a memory can be asked
    whether that is up.

    Args:
        corridor_length: Steps from the start to the junction.
        random_length: Draw the length of each episode from 1 to `corridor_length`.

    Raises:
        ValueError: As the gymnasium environment does.

    Example:
        >>> env = functional.PassiveTMaze(corridor_length=28)
        >>> env.observe(env.reset(jax.random.key(0))).shape
        (4,)
    """

    def __init__(self, corridor_length: int = 28, random_length: bool = False) -> None:
        env = passive_tmaze.PassiveTMaze(corridor_length, random_length)
        self.corridor_length = corridor_length
        self.random_length = random_length
        self.observation_space = env.observation_space
        self.action_space = env.action_space
        # It ends by itself one step earlier.
        self.max_episode_steps = corridor_length + 3

    def reset(self, key: Any) -> PassiveTMazeState:
        side, length, noise = jax.random.split(key, 3)
        least = 1 if self.random_length else self.corridor_length
        zero = jnp.int32(0)
        return PassiveTMazeState(
            jax.random.randint(length, (), least, self.corridor_length + 1),
            2 * jax.random.randint(side, (), 0, 2) - 1,
            zero,
            zero,
            zero,
            jax.random.randint(noise, (), -1, 2),
        )

    def step(self, key: Any, state: PassiveTMazeState, action: Any) -> Any:
        up, down = action == passive_tmaze.UP, action == passive_tmaze.DOWN
        right, left = action == passive_tmaze.RIGHT, action == passive_tmaze.LEFT
        turn = up.astype(jnp.int32) - down.astype(jnp.int32)
        move = right.astype(jnp.int32) - left.astype(jnp.int32)
        new = PassiveTMazeState(
            state.length,
            state.hint,
            jnp.clip(state.x + move, 0, state.length),
            jnp.where(state.x == state.length, turn, 0),
            state.elapsed + 1,
            jax.random.randint(key, (), -1, 2),
        )
        success = new.y == new.hint
        terminated = (new.y != 0) | (new.elapsed >= new.length + 2)
        return new, jnp.where(success, 1.0, 0.0), terminated, {"success": success}

    def teacher_action(
        self, state: PassiveTMazeState, teacher_state: Any, start: Any
    ) -> Any:
        """Straight on, and at the junction as the hint said."""
        turn = jnp.where(state.hint > 0, passive_tmaze.UP, passive_tmaze.DOWN)
        at_junction = state.x == state.length
        return jnp.where(at_junction, turn, passive_tmaze.RIGHT), teacher_state

    def teacher_targets(
        self, state: PassiveTMazeState, teacher_state: Any
    ) -> TeacherTargets:
        """Whether the right turn is up."""
        flag, none = (state.hint > 0)[None], jnp.zeros(0)
        return TeacherTargets(flag, jnp.ones(1), none, none)

    def observe(self, state: PassiveTMazeState) -> Any:
        hint = jnp.where(state.elapsed == 0, state.hint, 0)
        at_junction = state.x == state.length
        return jnp.stack([state.y, hint, at_junction, state.noise]).astype(jnp.float32)
