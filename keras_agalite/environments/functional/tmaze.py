"""T-Maze as pure functions."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from keras_agalite.environments import tmaze
from keras_agalite.environments.functional.protocol import (
    FunctionalEnv,
    TeacherTargets,
)


class TMazeState(NamedTuple):
    """The state of a T-Maze.

    Attributes:
        position: Where the agent is, int32.
        goal: The arm that earns the reward, `tmaze.UP` or `tmaze.DOWN`.
        first: Whether the next observation is the first of an episode, bool.
        distractors: The distractor bits, float32 of shape `(num_distractors,)`.
    """

    position: Any
    goal: Any
    first: Any
    distractors: Any


class TMaze(FunctionalEnv):
    """T-Maze: the same task as the gymnasium environment of this name.

    Observation: float32 of shape `(2 + position bits + num_distractors,)`. Actions:
    0 up, 1 down, 2 left, 3 right. Its teacher walks to the junction and turns to the
    goal; a memory can be asked whether that is up.

    Args:
        corridor_length: Number of positions; the junction is the last.
        num_distractors: Number of distractor bits.

    Raises:
        ValueError: As the gymnasium environment does.

    Example:
        >>> env = functional.TMaze(corridor_length=20)
        >>> env.observe(env.reset(jax.random.key(0))).shape
        (16,)
    """

    max_episode_steps = 1000

    def __init__(self, corridor_length: int = 10, num_distractors: int = 6) -> None:
        env = tmaze.TMaze(corridor_length, num_distractors)
        self.corridor_length = corridor_length
        self.num_distractors = num_distractors
        self.position_bits = env.position_bits
        self.observation_space = env.observation_space
        self.action_space = env.action_space

    def reset(self, key: Any) -> TMazeState:
        return TMazeState(
            jnp.int32(0),
            jax.random.randint(key, (), 0, 2),
            jnp.bool_(True),
            jnp.zeros(self.num_distractors, jnp.float32),
        )

    def step(self, key: Any, state: TMazeState, action: Any) -> Any:
        junction = self.corridor_length - 1
        turn = (action == tmaze.UP) | (action == tmaze.DOWN)
        terminated = (state.position == junction) & turn
        success = terminated & (action == state.goal)
        reward = jnp.where(terminated, jnp.where(success, 4.0, -1.0), -0.1)
        move = jnp.where(action == tmaze.RIGHT, 1, 0)
        move = jnp.where(action == tmaze.LEFT, -1, move)
        position = jnp.where(
            state.position < junction,
            jnp.maximum(state.position + move, 0),
            state.position,
        )
        distractors = jax.random.bernoulli(key, 0.5, (self.num_distractors,))
        state = TMazeState(
            position,
            state.goal,
            jnp.bool_(False),
            distractors.astype(jnp.float32),
        )
        return state, reward, terminated, {"success": success}

    def teacher_action(self, state: TMazeState, teacher_state: Any, start: Any) -> Any:
        """Straight on, and at the junction to the goal."""
        junction = state.position == self.corridor_length - 1
        return jnp.where(junction, state.goal, tmaze.RIGHT), teacher_state

    def teacher_targets(self, state: TMazeState, teacher_state: Any) -> TeacherTargets:
        """Whether the goal is up."""
        flag, none = (state.goal == tmaze.UP)[None], jnp.zeros(0)
        return TeacherTargets(flag, jnp.ones(1), none, none)

    def observe(self, state: TMazeState) -> Any:
        cue = jnp.stack([state.goal == tmaze.DOWN, state.goal == tmaze.UP])
        gray = state.position ^ (state.position >> 1)
        bits = gray >> jnp.arange(self.position_bits)[::-1] & 1
        shown = jnp.concatenate([cue & state.first, bits]).astype(jnp.float32)
        return jnp.concatenate([shown, state.distractors])
