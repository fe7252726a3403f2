"""Passive T-Maze: a hint at the start, a corridor of known or random length."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from keras_agalite.environments._checks import (
    check_action,
    check_integer,
    check_render_mode,
)
from keras_agalite.environments.tmaze import draw_maze, write_maze

RIGHT, UP, LEFT, DOWN = range(4)


class PassiveTMaze(gymnasium.Env[np.ndarray, int]):
    """A corridor with a junction at its end, and a reward for the right turn alone.

    The first observation hints whether to go up or down at the junction, which is
    `corridor_length` steps away. Either turn ends the episode, and so does step
    `corridor_length + 2`, one more than are needed. The right turn earns 1; nothing
    else is paid. The rules are those of the T-Maze in Cherepanov et al., "Recurrent
    Action Transformer with Memory", arXiv 2306.09459, after the Passive T-Maze of Ni
    et al., "When Do Transformers Shine in RL?", NeurIPS 2023.

    Observation: float32 of shape `(4,)`: the vertical position (1 above the junction,
    -1 below it, else 0), the hint (1 for up, -1 for down, 0 after the first
    observation), whether this is the junction, and noise out of -1, 0 and 1.

    Actions: 0 right, 1 up, 2 left, 3 down. Walls leave the agent where it is.

    `info["success"]` of a step says whether it was the right turn.

    Args:
        corridor_length: Steps from the start to the junction.
        random_length: Draw the length of each episode from 1 to `corridor_length`.
        render_mode: "ansi", "rgb_array" or None.

    Raises:
        ValueError: If `corridor_length` is not an integer of at least 1,
            `random_length` no boolean, or `render_mode` none of those; at a step, if
            the action is not an integer from 0 to 3.

    Example:
        >>> env = PassiveTMaze(corridor_length=28)
        >>> observation, _ = env.reset(seed=0)
        >>> observation.shape
        (4,)
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}

    def __init__(
        self,
        corridor_length: int = 28,
        random_length: bool = False,
        render_mode: str | None = None,
    ) -> None:
        check_integer("corridor_length", corridor_length, 1)
        if not isinstance(random_length, bool):
            raise ValueError(
                "`random_length` must be true or false. Received: random_length="
                f"{random_length!r}"
            )
        check_render_mode(render_mode, self.metadata["render_modes"])
        self.corridor_length = corridor_length
        self.random_length = random_length
        self.render_mode = render_mode
        self.observation_space = spaces.Box(-1.0, 1.0, (4,), np.float32)
        self.action_space = spaces.Discrete(4)
        self.length, self.hint = corridor_length, 1
        self.x = self.y = self.elapsed = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.x = self.y = self.elapsed = 0
        self.hint = 1 if self.np_random.integers(2) else -1
        if self.random_length:
            self.length = int(self.np_random.integers(1, self.corridor_length + 1))
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        check_action(action, self.action_space)
        self.elapsed += 1
        if action in (UP, DOWN):
            self.y = (1 if action == UP else -1) if self.x == self.length else 0
        else:
            move = 1 if action == RIGHT else -1
            self.x = min(max(self.x + move, 0), self.length)
        success = self.y == self.hint
        terminated = self.y != 0 or self.elapsed >= self.length + 2
        reward = 1.0 if success else 0.0
        return self._observe(), reward, terminated, False, {"success": success}

    def _observe(self) -> np.ndarray:
        hint = 0 if self.elapsed else self.hint
        noise = int(self.np_random.integers(-1, 2))
        return np.array([self.y, hint, self.x == self.length, noise], np.float32)

    def render(self) -> Any:
        """Text with `render_mode="ansi"`, an image with `"rgb_array"`."""
        if self.render_mode == "ansi":
            return write_maze(self.length + 1, self.x, self.hint < 0)
        if self.render_mode == "rgb_array":
            # As wide as the longest corridor: all frames have one size.
            turn = None if self.y == 0 else self.y < 0
            image = draw_maze(self.length + 1, self.x, self.hint < 0, turn)
            missing = (self.corridor_length - self.length) * image.shape[0] // 5
            return np.pad(
                image, ((0, 0), (0, missing), (0, 0)), constant_values=image[0, 0, 0]
            )
        return None
