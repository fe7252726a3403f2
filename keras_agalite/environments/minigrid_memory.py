"""MiniGrid-Memory: see an object, then choose the same one at a far junction."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from keras_agalite.environments._checks import check_action, check_render_mode
from keras_agalite.environments._packages import require
from keras_agalite.environments.catalog import MINIGRID_MEMORY_SIZES


class MiniGridMemory(gymnasium.Env[np.ndarray, int]):
    """MiniGrid's memory task, seen as its image alone.

    Observation: uint8 of shape `(7, 7, 3)`: object, colour and state of the cells in
    view, as `minigrid.wrappers.ImgObsWrapper` gives them. Actions: MiniGrid's seven.
    The right object pays `1 - 0.9 * steps / limit` and the wrong one 0; either ends
    the episode, and `5 * size ** 2` steps truncate it.

    `info["success"]` of a step says whether it reached the right object. A policy
    that sees no difference between the objects gets half of them right.

    Args:
        size: One of "S7", "S9", "S11", "S13", "S13Random" and "S17Random".
        render_mode: "rgb_array", "human" or None.

    Raises:
        ImportError: If minigrid is not installed; the message has the pip command.
        ValueError: If `size` or `render_mode` is none of those, or at a step, if the
            action is not an integer from 0 to 6.

    Example:
        >>> env = keras_agalite.environments.make("minigrid_memory_11")
        >>> observation, _ = env.reset(seed=0)  # uint8 of shape (7, 7, 3)
    """

    metadata = {"render_modes": ["rgb_array", "human"], "render_fps": 10}

    def __init__(self, size: str = "S11", render_mode: str | None = None) -> None:
        if size not in MINIGRID_MEMORY_SIZES:
            raise ValueError(
                f"`size` must be one of {', '.join(MINIGRID_MEMORY_SIZES)}. "
                f"Received: size={size!r}"
            )
        check_render_mode(render_mode, self.metadata["render_modes"])
        require("MiniGridMemory", "minigrid")
        from minigrid.envs import MemoryEnv

        cells, random_length = MINIGRID_MEMORY_SIZES[size]
        self.env = MemoryEnv(
            size=cells, random_length=random_length, render_mode=render_mode
        )
        self.render_mode = render_mode
        self.observation_space = spaces.Box(0, 255, (7, 7, 3), np.uint8)
        self.action_space = spaces.Discrete(int(self.env.action_space.n))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        observation, info = self.env.reset(seed=seed)
        return observation["image"], info

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        check_action(action, self.action_space)
        observation, reward, terminated, truncated, info = self.env.step(action)
        info["success"] = bool(terminated and reward > 0)
        return observation["image"], float(reward), terminated, truncated, info

    def render(self) -> Any:
        return self.env.render()

    def close(self) -> None:
        self.env.close()
