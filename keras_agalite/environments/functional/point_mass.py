"""A point mass with a hidden direction or speed, as pure functions."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from keras_agalite.environments.catalog import POINT_HIDDEN
from keras_agalite.environments.functional.protocol import TaskFamily

# A velocity fades to KEPT of itself in a step, and an action adds PUSH times itself.
KEPT, PUSH = 0.75, 0.5
FASTEST = PUSH / (1.0 - KEPT)
COST = 0.05


class PointMassState(NamedTuple):
    """The state of a point mass.

    Attributes:
        velocity: float32 of shape `(2,)`.
        task: The angle of the direction in radians, or the speed, float32.
    """

    velocity: Any
    task: Any


class PointMass(TaskFamily):
    """A point mass in the plane that has to find out which velocity is paid.

    A small form of the families HalfCheetahDir and HalfCheetahVel of meta-learning
    (Finn et al., "Model-Agnostic Meta-Learning", ICML 2017, arXiv 1703.03400, section
    5.3), which TrMRL is tested on. A step changes the velocity v to
    0.75 v + 0.5 a, with the action a clipped to -1..1, and pays

    - hidden "direction": v . d - 0.05 |a|^2, with d a unit vector of any angle;
    - hidden "speed": -| |v| - s | - 0.05 |a|^2, with s from 0 to 2.

    An episode begins at rest and takes 20 steps.

    Observation: the velocity, float32 of shape `(2,)`. Actions: a Box of two numbers.

    Args:
        hidden: `"direction"` or `"speed"`.

    Raises:
        ValueError: If `hidden` is neither.

    Example:
        >>> env = functional.PointMass("speed")
        >>> env.observe(env.reset(jax.random.key(0))).shape
        (2,)
    """

    max_episode_steps = 20

    def __init__(self, hidden: str = "direction") -> None:
        if hidden not in POINT_HIDDEN:
            raise ValueError(
                f"`hidden` must be one of {', '.join(map(repr, POINT_HIDDEN))}. "
                f"Received: hidden={hidden!r}"
            )
        self.hidden = hidden
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def draw_task(self, key: Any) -> Any:
        most = 2.0 * np.pi if self.hidden == "direction" else FASTEST
        return jax.random.uniform(key, (), jnp.float32, 0.0, most)

    def begin(self, key: Any, task: Any) -> PointMassState:
        return PointMassState(jnp.zeros(2, jnp.float32), task)

    def step(self, key: Any, state: PointMassState, action: Any) -> Any:
        action = jnp.clip(action, -1.0, 1.0)
        velocity = KEPT * state.velocity + PUSH * action
        if self.hidden == "direction":
            angle = jnp.stack([jnp.cos(state.task), jnp.sin(state.task)])
            paid = jnp.sum(velocity * angle)
        else:
            paid = -jnp.abs(jnp.sqrt(jnp.sum(velocity**2)) - state.task)
        reward = paid - COST * jnp.sum(action**2)
        return PointMassState(velocity, state.task), reward, jnp.bool_(False), {}

    def observe(self, state: PointMassState) -> Any:
        return state.velocity
