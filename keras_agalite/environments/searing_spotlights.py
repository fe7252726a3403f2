"""Searing Spotlights of Memory Gym: move unseen, in the dark."""

from typing import Any

from keras_agalite.environments.memory_gym import MemoryGym


class SearingSpotlights(MemoryGym):
    """Memory Gym's Searing Spotlights; see `MemoryGym` for what is put right.

    The lights go out; agent, coin and exit are seen only where a spotlight falls, and
    spotlights hurt the agent. The coin pays 0.25 and opens the exit, which pays 1 and
    ends the episode; so does the loss of all health.

    Observation: uint8 of shape `(84, 84, 3)`, with the health, the last action and
    the last reward in the top bar. Actions: `MultiDiscrete([3, 3])`.

    `info["success"]` of a step says whether the exit was reached.

    Args:
        render_mode: "rgb_array" or None.
        **options: Reset options of Memory Gym, such as `agent_health=10`. What
            `reset(options=...)` gets comes on top.

    Raises:
        ImportError: If memory-gym is not installed; the message has the pip command.
        ValueError: If Memory Gym knows no such option, or `render_mode` is none of
            those; at a step, if the action is illegal.

    Example:
        >>> env = keras_agalite.environments.make("searing_spotlights")
        >>> observation, _ = env.reset(seed=0)  # uint8 of shape (84, 84, 3)
    """

    def __init__(self, render_mode: str | None = None, **options: Any) -> None:
        module, name = "searing_spotlights", "SearingSpotlightsEnv"
        super().__init__(module, name, render_mode, options)

    def ran_out(self) -> bool:
        return bool(self.env.current_agent_health > 0)
