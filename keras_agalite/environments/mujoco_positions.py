"""Gymnasium's MuJoCo robots without their velocities, which have to be remembered."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from keras_agalite.environments._checks import check_action, check_render_mode
from keras_agalite.environments._packages import require


def make(
    name: str = "Hopper-v5", render_mode: str | None = None, **kwargs: Any
) -> "MuJoCoPositions":
    """A robot of gymnasium's, seen through `MuJoCoPositions`.

    Args:
        name: Gymnasium id, such as "HalfCheetah-v5".
        render_mode: A render mode of the robot, such as "rgb_array", or None.
        **kwargs: Goes to `gymnasium.make`.

    Returns:
        The robot.

    Raises:
        ImportError: If mujoco is not installed; the message has the pip command.
        ValueError: If there is no such robot, or it has no such render mode.

    Example:
        >>> env = keras_agalite.environments.make("mujoco_positions:Hopper-v5")
        >>> observation, _ = env.reset(seed=0)  # float32 of shape (5,)
    """
    require("MuJoCoPositions", "mujoco")
    try:
        env = gymnasium.make(
            name, render_mode=render_mode, disable_env_checker=True, **kwargs
        )
    except gymnasium.error.Error as error:
        raise ValueError(
            f"`name` must be the id of a robot of gymnasium. Received: name={name!r}"
        ) from error
    check_render_mode(render_mode, env.metadata["render_modes"])
    return MuJoCoPositions(env)


class MuJoCoPositions(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Leaves the positions of a robot's joints in its observation, and nothing else.

    Observation: float32 of shape `(positions,)`, 5 of 11 numbers for Hopper.

    Args:
        env: A robot whose observation begins with its positions: Ant, HalfCheetah,
            Hopper, Humanoid, HumanoidStandup, InvertedPendulum, Swimmer or Walker2d.

    Raises:
        ValueError: If the environment is none of these; at a step, if the action has
            another shape or a number in it is not finite.

    Example:
        >>> env = MuJoCoPositions(gymnasium.make("HalfCheetah-v5"))
        >>> env.observation_space.shape
        (8,)
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        structure = getattr(env.unwrapped, "observation_structure", None)
        if not structure or "qpos" not in structure:
            raise ValueError(
                "Expected one of gymnasium's Ant, HalfCheetah, Hopper, Humanoid, "
                "HumanoidStandup, InvertedPendulum, Swimmer and Walker2d. Received: "
                f"env={env}"
            )
        self.size = int(structure["qpos"])
        self.observation_space = spaces.Box(-np.inf, np.inf, (self.size,), np.float32)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        check_action(action, self.action_space)
        return super().step(action)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        return observation[: self.size].astype(np.float32)
