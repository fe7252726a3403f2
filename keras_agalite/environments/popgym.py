"""POPGym: many small tasks, each with something to remember."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from keras_agalite.environments._checks import check_action, check_render_mode
from keras_agalite.environments._packages import require
from keras_agalite.environments.wrappers import PreviousActionReward

LEVELS = ("Easy", "Medium", "Hard")
FAMILIES = (
    "Autoencode",
    "Battleship",
    "Concentration",
    "CountRecall",
    "HigherLower",
    "MineSweeper",
    "MultiarmedBandit",
    "NoisyPositionOnlyCartPole",
    "NoisyPositionOnlyPendulum",
    "PositionOnlyCartPole",
    "PositionOnlyPendulum",
    "RepeatFirst",
    "RepeatPrevious",
    "VelocityOnlyCartPole",
)
TASKS = tuple(name + level for name in FAMILIES for level in LEVELS)


def make(
    task: str = "RepeatPreviousEasy", render_mode: None = None
) -> gymnasium.Env[Any, Any]:
    """A task of POPGym, with what its best policy has to know.

    Where an observation is an answer to the last action (Battleship, Concentration,
    MineSweeper, MultiarmedBandit), `PreviousActionReward` adds the action.

    Args:
        task: As for `POPGym`.
        render_mode: None: POPGym draws nothing.

    Returns:
        A `POPGym`, wrapped where its task asks for it.

    Raises:
        ImportError: If popgym is not installed; the message has the pip command.
        ValueError: If there is no such task, or `render_mode` is not None.

    Example:
        >>> env = keras_agalite.environments.make("popgym:RepeatPreviousEasy")
    """
    env = POPGym(task, render_mode)
    return PreviousActionReward(env) if env.env.obs_requires_prev_action else env


class POPGym(gymnasium.Env[Any, Any]):
    """A task of POPGym (Morad et al., ICLR 2023, arXiv 2303.01859).

    Observation: Discrete, MultiDiscrete or Box float32, as the task has it; a Tuple of
    Discrete becomes a MultiDiscrete. Actions: the task's. A return is from -1 to 1.
    A task ends by itself.

    Args:
        task: One of `TASKS`, such as "RepeatPreviousEasy".
        render_mode: None: POPGym draws nothing.

    Raises:
        ImportError: If popgym is not installed; the message has the pip command.
        ValueError: If there is no such task, or `render_mode` is not None; at a step,
            if the action is illegal.

    Example:
        >>> env = POPGym("AutoencodeEasy")
        >>> observation, _ = env.reset(seed=0)
    """

    metadata: dict[str, Any] = {"render_modes": []}

    def __init__(
        self, task: str = "RepeatPreviousEasy", render_mode: None = None
    ) -> None:
        if task not in TASKS:
            raise ValueError(
                f"`task` must be one of {', '.join(TASKS)}. Received: task={task!r}"
            )
        check_render_mode(render_mode, self.metadata["render_modes"])
        require("POPGym", "popgym")
        import popgym.envs

        self.env = getattr(popgym.envs, task)()
        space = self.env.observation_space
        if isinstance(space, spaces.Tuple):
            sizes = [int(part.n) for part in space.spaces if hasattr(part, "n")]
            space = spaces.MultiDiscrete(sizes)
        self.observation_space = space
        self.action_space = self.env.action_space

    def _observe(self, observation: Any) -> Any:
        if isinstance(self.observation_space, spaces.Discrete):
            return np.int64(observation)
        return np.asarray(observation, self.observation_space.dtype)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        observation, _ = self.env.reset(seed=seed)
        return self._observe(observation), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        check_action(action, self.action_space)
        observation, reward, terminated, truncated, _ = self.env.step(action)
        ends = bool(terminated), bool(truncated)
        return self._observe(observation), float(reward), *ends, {}

    def render(self) -> None:
        """Gives None: POPGym draws nothing."""
