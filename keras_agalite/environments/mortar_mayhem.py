"""Mortar Mayhem of Memory Gym: commands are shown once, then to be carried out."""

from typing import Any

from keras_agalite.environments.memory_gym import MemoryGym


class MortarMayhem(MemoryGym):
    """Memory Gym's Mortar Mayhem; see `MemoryGym` for what is put right.

    Ten commands are shown one after another, each a step to a neighbouring tile. Then
    each is to be carried out in time: to stand on another tile when it explodes ends
    the episode. Each command that is carried out pays 0.1.

    Observation: uint8 of shape `(84, 84, 3)`. Actions: four (stay, turn left, turn
    right, forward) on the grid, `MultiDiscrete([3, 3])` else.

    `info["success"]` of a step says whether it carried out the last command. (Memory
    Gym calls it a success as well if only the last one was missed.)

    Args:
        grid: Whether to move from tile to tile.
        render_mode: "rgb_array" or None.
        **options: Reset options of Memory Gym, such as `command_count=[5]`. What
            `reset(options=...)` gets comes on top.

    Raises:
        ImportError: If memory-gym is not installed; the message has the pip command.
        ValueError: If Memory Gym knows no such option, or `render_mode` is none of
            those; at a step, if the action is illegal.

    Example:
        >>> env = keras_agalite.environments.make("mortar_mayhem", command_count=[5])
        >>> observation, _ = env.reset(seed=0)  # uint8 of shape (84, 84, 3)
    """

    def __init__(
        self, grid: bool = False, render_mode: str | None = None, **options: Any
    ) -> None:
        module, name = "mortar_mayhem", "MortarMayhemEnv"
        if grid:
            module, name = "mortar_mayhem_grid", "GridMortarMayhemEnv"
        super().__init__(module, name, render_mode, options)

    def succeeded(self, info: dict[str, Any]) -> bool:
        there = self.env.normalized_agent_position == self.env._target_pos
        return bool(info["success"] and there)

    def ran_out(self) -> bool:
        return False  # the commands are its clock
