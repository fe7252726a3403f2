"""A grid with a hidden goal, as pure functions."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from keras_agalite.environments._checks import check_integer
from keras_agalite.environments.functional.protocol import TaskFamily

# By action: stay, up, right, down, left.
MOVES = np.array([[0, 0], [0, 1], [1, 0], [0, -1], [-1, 0]], np.int32)


class HiddenGoalState(NamedTuple):
    """The state of a grid.

    Attributes:
        position: Column and row, int32 of shape `(2,)`.
        goal: The same of the goal.
    """

    position: Any
    goal: Any


class HiddenGoal(TaskFamily):
    """A grid in which one cell is paid, and nothing shows which.

    The task is the grid world of Zintgraf et al., "VariBAD", ICLR 2020, arXiv
    1910.08348, section 5.1: an episode begins in the corner (0, 0) and takes 15 steps.
    A step that ends on the goal earns 1, another costs 0.1. The goal is any cell but
    the four around the corner; 15 steps do not visit them all.

    Observation: column and row, each one-hot, float32 of shape `(2 * size,)`. Actions:
    0 stay, 1 up, 2 right, 3 down, 4 left; walls leave the agent where it is.

    Args:
        size: Cells of a side.

    Raises:
        ValueError: If `size` is not an integer of at least 3.

    Example:
        >>> env = functional.HiddenGoal()
        >>> env.observe(env.reset(jax.random.key(0))).shape
        (10,)
    """

    max_episode_steps = 15

    def __init__(self, size: int = 5) -> None:
        check_integer("size", size, 3)
        self.size = size
        self.observation_space = spaces.Box(0.0, 1.0, (2 * size,), np.float32)
        self.action_space = spaces.Discrete(len(MOVES))

    def draw_task(self, key: Any) -> Any:
        number = jax.random.randint(key, (), 0, self.size**2 - 4)
        # Those of the two lowest rows without their first two cells, then the others.
        short = self.size - 2
        low = number < 2 * short
        column = jnp.where(low, 2 + number % short, (number + 4) % self.size)
        row = jnp.where(low, number // short, (number + 4) // self.size)
        return jnp.stack([column, row]).astype(jnp.int32)

    def begin(self, key: Any, task: Any) -> HiddenGoalState:
        return HiddenGoalState(jnp.zeros(2, jnp.int32), task)

    def step(self, key: Any, state: HiddenGoalState, action: Any) -> Any:
        position = state.position + jnp.asarray(MOVES)[action]
        position = jnp.clip(position, 0, self.size - 1)
        reward = jnp.where(jnp.all(position == state.goal), 1.0, -0.1)
        return HiddenGoalState(position, state.goal), reward, jnp.bool_(False), {}

    def observe(self, state: HiddenGoalState) -> Any:
        shown = jax.nn.one_hot(state.position, self.size, dtype=jnp.float32)
        return shown.reshape(-1)
