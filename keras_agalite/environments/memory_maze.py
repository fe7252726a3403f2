"""Memory Maze: find coloured targets in a maze, in the order asked for."""

import sys
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from keras_agalite.environments._checks import check_action, check_render_mode
from keras_agalite.environments._maze import Maze
from keras_agalite.environments._maze_worker import MazeProcess
from keras_agalite.environments._packages import require
from keras_agalite.environments.catalog import MEMORY_MAZE_STEPS


class MemoryMaze(gymnasium.Env[np.ndarray, int]):
    """Memory Maze (Pasukonis et al., ICLR 2023), without the old gym.

    The border of the image has the colour of the target to touch next; touching it
    pays 1, and another colour is asked for. Layout and targets stay for an episode,
    so an agent that remembers what stood where is quicker at the next. Episodes end
    by truncation alone.

    Observation: uint8 of shape `(64, 64, 3)`. Actions: 0 stay, 1 forward, 2 left,
    3 right, 4 forward and left, 5 forward and right.

    The frames and rewards are memory-maze's own for the same seed, some six times
    faster: dm_control looks for touched targets in a Python loop over all contacts,
    computes observations that nobody asked for, and makes a new scene for each image.
    `reset(seed=)` builds a new maze, which takes about a second; plain `reset()`
    goes on to the next layout of the same seed.

    MuJoCo needs EGL or OSMesa to draw without a screen. Where `MUJOCO_GL` is not set,
    the first of the two that works is chosen. A process crashes that loads both
    TensorFlow and Mesa's software renderer, in either order (each brings an LLVM), so
    where TensorFlow is loaded the maze runs in a process of its own.

    Args:
        size: "9x9", "11x11", "13x13" or "15x15": episodes of 1000, 2000, 3000 or 4000
            steps with 3, 4, 5 or 6 targets.
        process: Whether to run in a process of its own. None: if this one has
            loaded TensorFlow. Say True if it will load it later.
        render_mode: "rgb_array" or None.

    Raises:
        ImportError: If a package is missing; the message has the pip command.
        RuntimeError: If nothing can draw; the message names the Debian packages.
        ValueError: If `size` or `render_mode` is none of those, or at a step, if the
            action is not an integer from 0 to 5.

    Example:
        >>> env = keras_agalite.environments.make("memory_maze_9x9")
        >>> observation, _ = env.reset(seed=0)  # uint8 of shape (64, 64, 3)
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}

    def __init__(
        self,
        size: str = "9x9",
        process: bool | None = None,
        render_mode: str | None = None,
    ) -> None:
        if size not in MEMORY_MAZE_STEPS:
            raise ValueError(
                f"`size` must be one of {', '.join(MEMORY_MAZE_STEPS)}. "
                f"Received: size={size!r}"
            )
        check_render_mode(render_mode, self.metadata["render_modes"])
        require("MemoryMaze", "memory_maze")
        if process is None:
            process = "tensorflow" in sys.modules
        self.maze: Any = None  # for `close`, where the next line fails
        self.maze = MazeProcess(size) if process else Maze(size)
        self.render_mode = render_mode
        self.observation_space = spaces.Box(0, 255, (64, 64, 3), np.uint8)
        self.action_space = spaces.Discrete(6)
        self.frame: np.ndarray | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is None and self.frame is None:
            seed = int(self.np_random.integers(2**32))
        self.frame = frame = self.maze.reset(seed)
        return frame.copy(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self.frame is None:
            raise gymnasium.error.ResetNeeded("Call `reset` before `step`.")
        check_action(action, self.action_space)
        self.frame, reward, terminated, truncated = self.maze.step(int(action))
        return self.frame.copy(), reward, terminated, truncated, {}

    def render(self) -> np.ndarray | None:
        if self.render_mode != "rgb_array" or self.frame is None:
            return None
        return self.frame.copy()

    def close(self) -> None:
        if self.maze is not None:
            self.maze.close()
        self.frame = None
