"""T-Maze: remember a cue to the end of a corridor."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from keras_agalite.environments._checks import (
    check_action,
    check_integer,
    check_render_mode,
)

UP, DOWN, LEFT, RIGHT = range(4)


class TMaze(gymnasium.Env[np.ndarray, int]):
    """A corridor with a junction at its end, and a cue that is shown once.

    The first observation says whether to go up or down at the junction. Every step
    costs 0.1; the right turn at the junction earns 4, the wrong one -1, and either
    ends the episode. The task is that of Pramanik et al., TMLR 2024, arXiv
    2310.15719, section 4.1, after Bakker, "Reinforcement Learning with Long
    Short-Term Memory", NeurIPS 2001.

    Observation: float32 of shape `(2 + position bits + num_distractors,)`. First the
    cue, (0, 1) for up and (1, 0) for down, in the first observation alone; then the
    position as a Gray code, 8 bits or as many as the corridor needs; then distractor
    bits, random but for the first observation, where they are zero.

    Actions: 0 up, 1 down, 2 left, 3 right. Away from the junction, up and down stay.

    `info["success"]` of a step says whether it was the right turn.

    Args:
        corridor_length: Number of positions; the junction is the last.
        num_distractors: Number of distractor bits.
        render_mode: "ansi", "rgb_array" or None.

    Raises:
        ValueError: If `corridor_length` is not an integer from 2 to 2**20,
            `num_distractors` not one from 0 to 2**20, or `render_mode` none of those;
            at a step, if the action is not an integer from 0 to 3.

    Example:
        >>> env = TMaze(corridor_length=20)
        >>> observation, _ = env.reset(seed=0)
        >>> observation.shape
        (16,)
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}

    def __init__(
        self,
        corridor_length: int = 10,
        num_distractors: int = 6,
        render_mode: str | None = None,
    ) -> None:
        check_integer("corridor_length", corridor_length, 2)
        check_integer("num_distractors", num_distractors, 0)
        check_render_mode(render_mode, self.metadata["render_modes"])
        self.corridor_length = corridor_length
        self.num_distractors = num_distractors
        self.render_mode = render_mode
        self.position_bits = max(8, (corridor_length - 1).bit_length())
        self.size = 2 + self.position_bits + num_distractors
        self.observation_space = spaces.Box(0.0, 1.0, (self.size,), np.float32)
        self.action_space = spaces.Discrete(4)
        self.position = 0
        self.goal = UP
        self.turn: int | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.position = 0
        self.turn = None
        self.goal = int(self.np_random.integers(2))
        observation = np.zeros(self.size, np.float32)
        observation[1 - self.goal] = 1.0
        return observation, {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        check_action(action, self.action_space)
        junction = self.corridor_length - 1
        terminated = self.position == junction and action in (UP, DOWN)
        reward, success = -0.1, False
        if terminated:
            self.turn = int(action)
            success = bool(action == self.goal)
            reward = 4.0 if success else -1.0
        elif self.position < junction:
            move = {LEFT: -1, RIGHT: 1}.get(int(action), 0)
            self.position = max(self.position + move, 0)
        return self._observe(), reward, terminated, False, {"success": success}

    def _observe(self) -> np.ndarray:
        gray = self.position ^ (self.position >> 1)
        bits = [gray >> i & 1 for i in reversed(range(self.position_bits))]
        distractors = self.np_random.integers(2, size=self.num_distractors)
        return np.concatenate([[0, 0], bits, distractors]).astype(np.float32)

    def render(self) -> Any:
        """Text with `render_mode="ansi"`, an image with `"rgb_array"`."""
        goal = self.goal == DOWN
        if self.render_mode == "ansi":
            return write_maze(self.corridor_length, self.position, goal)
        if self.render_mode == "rgb_array":
            turn = None if self.turn is None else self.turn == DOWN
            return draw_maze(self.corridor_length, self.position, goal, turn)
        return None


def write_maze(positions: int, position: int, goal_is_down: bool) -> str:
    """A maze as text."""
    corridor = ["."] * positions
    corridor[position] = "@"
    return "".join(corridor) + f"+  (goal: {'down' if goal_is_down else 'up'})"


def draw_maze(
    positions: int, position: int, goal_is_down: bool, turned_down: bool | None
) -> np.ndarray:
    """A maze in uint8 `(height, width, 3)`: the goal's arm is green.

    Args:
        positions: Length of the corridor with the junction, the last position.
        position: Where the agent is.
        goal_is_down: Which arm is the goal.
        turned_down: Which arm the agent is in; None in the corridor.
    """
    image = np.full((5, positions + 2, 3), 40, np.uint8)
    image[2, 1:-1] = image[1:4, -2] = 230
    image[1 + 2 * goal_is_down, -2] = (80, 190, 90)
    row = 2 if turned_down is None else 1 + 2 * turned_down
    image[row, 1 + position] = (210, 60, 50)
    return image.repeat(24, axis=0).repeat(24, axis=1)
