"""Who plays what is recorded: presets, teachers, scripts."""

import abc
import importlib
import re
from typing import Any

import gymnasium
import numpy as np

from keras_agalite import MemoryPolicy
from keras_agalite.environments.functional import FunctionalVectorEnv

SCRIPT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class Player(abc.ABC):
    """What `keras_agalite.rollout` plays that is no policy.

    `--player module:class` names a subclass, which is made with the vector that it
    plays in and may look into it.

    Args:
        vector: The vector of environments.

    Attributes:
        advice: What to record in place of the actions that `act` gave last: what a
            player who goes astray would have done. None: the actions.

    Example:
        >>> class Straight(Player):
        ...     def act(self, observation, state, **how):
        ...         return np.zeros(len(observation), int), state
    """

    advice: np.ndarray | None = None

    def __init__(self, vector: gymnasium.vector.VectorEnv[Any, Any, Any]) -> None:
        self.vector = vector
        self.observation_space = vector.single_observation_space
        self.action_space = vector.single_action_space

    def initial_state(self, batch_size: int) -> Any:
        """What the player knows before the first step: anything that `act` takes."""
        return None

    @abc.abstractmethod
    def act(
        self,
        observation: Any,
        state: Any,
        *,
        deterministic: bool = True,
        seed: np.random.Generator | None = None,
    ) -> tuple[np.ndarray, Any]:
        """Chooses an action in each environment.

        Args:
            observation: Observations of shape `(batch, ...)`.
            state: From `initial_state` or from the last call.
            deterministic: Whether to choose without noise.
            seed: Source of the noise, else.

        Returns:
            `(actions, state)`; actions have the shape `(batch, ...)`.
        """


class Teacher(Player):
    """The teacher of functional environments, which sees their states.

    Args:
        vector: A `FunctionalVectorEnv`, or wrappers around one.

    Raises:
        ValueError: If the environments are not functional or have no teacher.
    """

    def __init__(self, vector: gymnasium.vector.VectorEnv[Any, Any, Any]) -> None:
        super().__init__(vector)
        inner = vector.unwrapped
        env = inner.env if isinstance(inner, FunctionalVectorEnv) else None
        if env is None or env.teacher_action is None:
            raise ValueError(
                "The player `teacher` needs functional environments that have one. "
                f"Received: {inner!r}"
            )
        import jax

        self.functional: Any = inner
        self.jax, self.env = jax, env
        self._ask = jax.jit(jax.vmap(env.teacher_action))

    def initial_state(self, batch_size: int) -> Any:
        state = self.env.initial_teacher_state()
        return self.jax.tree.map(
            lambda x: self.jax.numpy.broadcast_to(x, (batch_size, *x.shape)), state
        )

    def act(
        self,
        observation: Any,
        state: Any,
        *,
        deterministic: bool = True,
        seed: np.random.Generator | None = None,
    ) -> tuple[np.ndarray, Any]:
        envs = self.functional.carry[1]
        action, state = self._ask(envs.state, state, envs.start)
        return np.asarray(action), state


class PassiveTMazePlayer(Player):
    """Walks to the junction of a Passive T-Maze and turns as the hint said."""

    def initial_state(self, batch_size: int) -> np.ndarray:
        return np.zeros(batch_size)

    def act(self, observation: Any, state: Any, **how: Any) -> tuple[np.ndarray, Any]:
        from keras_agalite.environments.passive_tmaze import DOWN, RIGHT, UP

        _, hint, junction, _ = observation.T
        state = np.where(hint, hint, state)
        return np.where(junction > 0, np.where(state > 0, UP, DOWN), RIGHT), state


def make_player(name: str, vector: gymnasium.vector.VectorEnv[Any, Any, Any]) -> Any:
    """The player of a name, for a vector of environments.

    Args:
        name: `teacher`, `random`, `module:class` of a `Player`, or a preset: its
            name, folder or address.
        vector: The environments.

    Returns:
        What `keras_agalite.rollout` takes as its policy.

    Raises:
        ValueError: If there is no such player or preset, or it cannot play here.
    """
    if name == "random":
        return None
    if name == "teacher":
        return Teacher(vector)
    if SCRIPT.fullmatch(name):
        module, _, kind = name.partition(":")
        try:
            found = getattr(importlib.import_module(module), kind)
        except (ImportError, AttributeError) as error:
            raise ValueError(
                "`player` must be `teacher`, `random`, a preset, or `module:class` of "
                f"a Player. Received: player={name!r}: {error}"
            ) from error
        if not (isinstance(found, type) and issubclass(found, Player)):
            raise ValueError(
                "`player` must name a class that derives from Player. Received: "
                f"player={name!r}, which is {found!r}"
            )
        return found(vector)
    return MemoryPolicy.from_preset(name)
