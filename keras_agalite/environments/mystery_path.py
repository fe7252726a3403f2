"""Mystery Path of Memory Gym: find an invisible path, and remember it."""

from typing import Any

import numpy as np

from keras_agalite.environments.memory_gym import MemoryGym

# What Pramanik et al., TMLR 2024, train on as "Easy".
EASY = {"show_origin": True, "show_goal": True, "reward_path_progress": 0.1}


class MysteryPath(MemoryGym):
    """Memory Gym's Mystery Path; see `MemoryGym` for what is put right.

    Walk an invisible path from an origin to a goal; a step off it starts the walk
    again, so what was found out has to be remembered. The goal pays 1 and ends the
    episode; each new tile of the path pays 0.1.

    Observation: uint8 of shape `(84, 84, 3)`. Actions: four (stay and turn among
    them) on the grid, `MultiDiscrete([3, 3])` else.

    `info` of a step holds `success` (the goal was reached) and `num_fails`.

    Args:
        grid: Whether to move from tile to tile.
        render_mode: "rgb_array" or None.
        **options: Reset options of Memory Gym. Those of the paper's "Easy" are the
            default: `show_origin=True, show_goal=True, reward_path_progress=0.1`.
            What `reset(options=...)` gets comes on top.

    Raises:
        ImportError: If memory-gym is not installed; the message has the pip command.
        ValueError: If Memory Gym knows no such option, or `render_mode` is none of
            those; at a step, if the action is illegal.

    Example:
        >>> env = keras_agalite.environments.make("mystery_path_grid", show_goal=False)
        >>> observation, _ = env.reset(seed=0)  # uint8 of shape (84, 84, 3)
    """

    def __init__(
        self, grid: bool = False, render_mode: str | None = None, **options: Any
    ) -> None:
        module, name = "mystery_path", "MysteryPathEnv"
        if grid:
            module, name = "mystery_path_grid", "GridMysteryPathEnv"
        options = {"max_steps": 128 if grid else 512, **EASY, **options}
        super().__init__(module, name, render_mode, options)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        step = super().step(action)
        step[-1]["num_fails"] = self.env.num_fails
        return step
