"""Craftax with symbolic observations, as gymnasium environments."""

from keras_agalite.environments import _functional
from keras_agalite.environments._packages import require
from keras_agalite.environments.functional.protocol import FunctionalEnv
from keras_agalite.environments.functional.vector import (
    FunctionalSingleEnv,
    FunctionalVectorEnv,
    check_num_envs,
)

NAMES = ("Craftax-Symbolic-v1", "Craftax-Classic-Symbolic-v1")


def check_name(name: str) -> None:
    """Raises a ValueError unless there is such a Craftax, and it is installed."""
    if name not in NAMES:
        legal = ", ".join(NAMES)
        raise ValueError(f"`name` must be one of {legal}. Received: name={name!r}")
    require(name, ("craftax",), "pip install craftax")


def _make(name: str) -> FunctionalEnv:
    check_name(name)
    return _functional.share(f"keras_agalite/{name}")


class CraftaxVectorEnv(FunctionalVectorEnv):
    """Many Craftax worlds stepped by one compiled JAX function.

    Autoreset is gymnasium's NEXT_STEP: the step that ends an episode returns its last
    observation, and the next one ignores the action and returns the first of a new
    episode, with reward 0. Death, lava and the defeat of the boss terminate; the time
    limit truncates. World `i` of `reset(seed=s)` is the single environment's
    `reset(seed=s + i)`.

    Observation: float32 of shape `(8268,)`, for Classic `(1345,)`. Actions: 43, for
    Classic 17.

    `info["achievements"]` of a step, bool of shape `(num_envs, 67)`, for Classic
    `(num_envs, 22)`, says what each world's episode has unlocked so far, in the order
    of `craftax.craftax.constants.Achievement`, or `craftax.craftax_classic.constants`.

    Args:
        num_envs: Number of worlds.
        name: "Craftax-Symbolic-v1" or "Craftax-Classic-Symbolic-v1".
        max_episode_steps: Time limit; Craftax's own (100,000, Classic 10,000) if None.

    Raises:
        ImportError: If craftax is not installed; the message has the pip command.
        ValueError: If there is no such `name`, or `num_envs` is not positive.
    """

    def __init__(
        self,
        num_envs: int = 1,
        name: str = NAMES[0],
        max_episode_steps: int | None = None,
        render_mode: None = None,
    ) -> None:
        check_num_envs(num_envs)
        super().__init__(_make(name), num_envs, max_episode_steps, render_mode)


class CraftaxEnv(FunctionalSingleEnv):
    """One Craftax world; see `CraftaxVectorEnv`, which many worlds are faster in.

    Args:
        name: "Craftax-Symbolic-v1" or "Craftax-Classic-Symbolic-v1".

    Raises:
        ImportError: If craftax is not installed; the message has the pip command.
    """

    def __init__(self, name: str = NAMES[0], render_mode: None = None) -> None:
        super().__init__(_make(name), render_mode=render_mode)
