"""Mystery Path of Memory Gym: find an invisible path, and remember it."""

import os
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from keras_agalite.environments._packages import is_installed, require

# What Pramanik et al., TMLR 2024, train on as "Easy".
EASY = {"show_origin": True, "show_goal": True, "reward_path_progress": 0.1}


class MysteryPath(gymnasium.Env[np.ndarray, Any]):
    """Memory Gym's Mystery Path, with the time limit and `close` put right.

    Walk an invisible path from an origin to a goal; a step off it starts the walk
    again, so what was found out has to be remembered. The goal pays 1 and ends the
    episode; each new tile of the path pays 0.1.

    Observation: uint8 of shape `(84, 84, 3)`, with the first axis to the right, as
    Memory Gym gives it. Actions: four (stay and turn among them) on the grid,
    `MultiDiscrete([3, 3])` else.

    Memory Gym reports its time limit as a termination: here it is a truncation. Its
    `close` shuts pygame down under all other environments of the process: not here.
    And its frames are those of the environment that was stepped last.

    `info` of a step holds `success` (the goal was reached) and `num_fails`.

    Args:
        grid: Whether to move from tile to tile.
        render_mode: "rgb_array" or None.
        **options: Reset options of Memory Gym. Those of the paper's "Easy" are the
            default: `show_origin=True, show_goal=True, reward_path_progress=0.1`.
            What `reset(options=...)` gets comes on top.

    Raises:
        ImportError: If memory-gym is not installed; the message has the pip command.
        ValueError: If Memory Gym knows no such option.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}

    def __init__(
        self, grid: bool = False, render_mode: str | None = None, **options: Any
    ) -> None:
        # memory-gym pins an old gymnasium and pygame that it does not need.
        pygame = "" if is_installed("pygame") else " pygame-ce"
        command = f"pip install --no-deps memory-gym{pygame}"
        require("MysteryPath", ("memory_gym", "pygame"), command)
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
        if grid:
            from memory_gym.mystery_path_grid import GridMysteryPathEnv as Env
        else:
            from memory_gym.mystery_path import MysteryPathEnv as Env

        self.limit = 128 if grid else 512
        self.known = set(Env.default_reset_parameters)
        self.options = self._check({"max_steps": self.limit, **EASY, **options})
        self.env = Env()
        self.render_mode = render_mode
        self.observation_space = spaces.Box(0, 255, (84, 84, 3), np.uint8)
        self.action_space = self.env.action_space
        self.frame = np.zeros((84, 84, 3), np.uint8)

    def _check(self, options: dict[str, Any]) -> dict[str, Any]:
        if unknown := set(options) - self.known:
            raise ValueError(
                f"`options` may hold {', '.join(sorted(self.known))}. Received: "
                f"{', '.join(sorted(unknown))}"
            )
        return options

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        options = {**self.options, **self._check(options or {})}
        self.frame, _ = self.env.reset(seed=seed, options=options)
        return self.frame, {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.frame, reward, done, _, info = self.env.step(action)
        success = bool(done and info["success"])
        info = {"success": success, "num_fails": self.env.num_fails}
        return self.frame, float(reward), success, done and not success, info

    def render(self) -> np.ndarray | None:
        if self.render_mode != "rgb_array":
            return None
        return np.ascontiguousarray(self.frame.transpose(1, 0, 2))

    def close(self) -> None:
        """Leaves pygame running: other environments of the process draw with it."""
