"""What the tasks of Memory Gym have in common."""

import importlib
import os
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from keras_agalite.environments._checks import check_action, check_render_mode
from keras_agalite.environments._packages import require


class MemoryGym(gymnasium.Env[np.ndarray, Any]):
    """A task of Memory Gym (Pleines et al., ICLR 2023), with its ends put right.

    Observation: uint8 of shape `(84, 84, 3)`, with the first axis to the right, as
    Memory Gym gives it.

    Memory Gym reports its time limits as terminations: here they are truncations. Its
    `close` shuts pygame down under all other environments of the process: not here.
    And its frames are those of the environment that was stepped last.

    `info` of a step holds `success`.

    Args:
        module: Module of Memory Gym.
        name: Class in it.
        render_mode: "rgb_array" or None.
        options: Reset options of Memory Gym. What `reset(options=...)` gets comes on
            top.

    Raises:
        ImportError: If memory-gym is not installed; the message has the pip command.
        ValueError: If Memory Gym knows no such option, or `render_mode` is none of
            those; at a step, if the action is illegal.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}

    def __init__(
        self, module: str, name: str, render_mode: str | None, options: dict[str, Any]
    ) -> None:
        check_render_mode(render_mode, self.metadata["render_modes"])
        require(type(self).__name__, "memory_gym")
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
        game = getattr(importlib.import_module(f"memory_gym.{module}"), name)
        self.known = set(game.default_reset_parameters)
        self.options = self._check(options)
        self.env: Any = game()
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

    def succeeded(self, info: dict[str, Any]) -> bool:
        """Whether the episode, which has ended, was a success."""
        return bool(info["success"])

    def ran_out(self) -> bool:
        """Whether the episode, which has ended without success, ran out of time.

        Unless a task says otherwise, nothing else ends it.
        """
        return True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        options = {**self.options, **self._check(options or {})}
        self.frame, _ = self.env.reset(seed=seed, options=options)
        return self.frame, {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        check_action(action, self.action_space)
        self.frame, reward, done, _, info = self.env.step(action)
        success = bool(done and self.succeeded(info))
        truncated = bool(done and not success and self.ran_out())
        info = {"success": success}
        return self.frame, float(reward), done and not truncated, truncated, info

    def render(self) -> np.ndarray | None:
        if self.render_mode != "rgb_array":
            return None
        return np.ascontiguousarray(self.frame.transpose(1, 0, 2))

    def close(self) -> None:
        """Leaves pygame running: other environments of the process draw with it."""
