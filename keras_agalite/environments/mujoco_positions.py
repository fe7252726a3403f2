"""Gymnasium's MuJoCo robots without their velocities, which have to be remembered."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from keras_agalite.environments._packages import require


def make(name: str = "Hopper-v5", **kwargs: Any) -> "MuJoCoPositions":
    """A robot of gymnasium's, seen through `MuJoCoPositions`.

    Args:
        name: Gymnasium id, such as "HalfCheetah-v5".
        **kwargs: Goes to `gymnasium.make`.

    Raises:
        ImportError: If mujoco is not installed; the message has the pip command.
        ValueError: If there is no such robot.
    """
    require("MuJoCoPositions", ("mujoco",), 'pip install "mujoco>=3.17,<4"')
    try:
        env = gymnasium.make(name, disable_env_checker=True, **kwargs)
    except gymnasium.error.Error as error:
        raise ValueError(
            f"`name` must be the id of a robot of gymnasium. Received: name={name!r}"
        ) from error
    return MuJoCoPositions(env)


class MuJoCoPositions(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Leaves the positions of a robot's joints in its observation, and nothing else.

    Observation: float32 of shape `(positions,)`, 5 of 11 numbers for Hopper.

    Args:
        env: A robot whose observation begins with its positions: Ant, HalfCheetah,
            Hopper, Humanoid, HumanoidStandup, InvertedPendulum, Swimmer or Walker2d.

    Raises:
        ValueError: If the environment is none of these.
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

    def observation(self, observation: np.ndarray) -> np.ndarray:
        return observation[: self.size].astype(np.float32)
