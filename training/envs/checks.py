"""Environments that are checked: a fault is reported with its environment and step.

Importing this imports no backend, so that workers stay small.
"""

import time
import traceback
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from keras_agalite.action_masks import ACTION_MASK, has_action, mask_sizes
from training.errors import EnvironmentFault

NO_ACTION = f"the {ACTION_MASK} leaves no action that is legal"


class CheckedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Raises an `EnvironmentFault` if the environment raises or gives wrong data.

    Wrong are observations of another shape or dtype than the space's, observations
    or rewards that are NaN or infinite, and an action mask that leaves no action while
    the episode goes on.

    Args:
        env: The environment.
        index: Its place in the vector, for the message.

    Attributes:
        busy_since: When the reset or step that goes on began; None between them.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], index: int) -> None:
        super().__init__(env)
        self.index = index
        self.last_seed: int | None = None
        self.total = self.elapsed = 0
        self.busy_since: float | None = None
        self.mask_sizes = mask_sizes(env.observation_space, env.action_space)

    def reset(self, **keywords: Any) -> tuple[Any, dict[str, Any]]:
        if keywords.get("seed") is not None:
            self.last_seed = keywords["seed"]
        self.elapsed = 0
        observation, info = self._call(self.env.reset, **keywords)
        self._check(problem(self.observation_space, observation))
        self._check_mask(observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.total += 1
        self.elapsed += 1
        result = self._call(self.env.step, action)
        self._check(problem(self.observation_space, result[0]))
        if not np.isfinite(result[1]):
            self._check(f"the reward is {result[1]}")
        if not (result[2] or result[3]):
            self._check_mask(result[0])
        return result

    def _check_mask(self, observation: Any) -> None:
        if self.mask_sizes:
            mask = np.asarray(observation[ACTION_MASK])
            if not has_action(mask, self.mask_sizes):
                self._check(NO_ACTION)

    def _call(self, function: Any, *arguments: Any, **keywords: Any) -> Any:
        self.busy_since = time.monotonic()
        try:
            return function(*arguments, **keywords)
        except Exception as error:
            raise EnvironmentFault(
                f"{self.where()} raised:\n{traceback.format_exc()}"
            ) from error
        finally:
            self.busy_since = None

    def _check(self, found: str | None) -> None:
        if found:
            raise EnvironmentFault(f"{self.where()}: {found}.", wrong_data=True)

    def where(self) -> str:
        """The environment and its step, in words."""
        return (
            f"Environment {self.index} (last seeded with {self.last_seed}), step "
            f"{self.elapsed} of its episode and {self.total} of all"
        )


class CheckedVectorEnv(gymnasium.vector.VectorWrapper):
    """The same for environments that one program steps together.

    Args:
        env: The vector of environments.
    """

    def __init__(self, env: gymnasium.vector.VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env)
        self.seed: Any = None
        self.total = 0
        self.mask_sizes = mask_sizes(
            env.single_observation_space, env.single_action_space
        )

    def reset(self, **keywords: Any) -> tuple[Any, dict[str, Any]]:
        if keywords.get("seed") is not None:
            self.seed = keywords["seed"]
        observation, info = self.env.reset(**keywords)
        self._check_observation(observation, np.False_)
        return observation, info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self.total += 1
        result = self.env.step(actions)
        self._check_observation(result[0], result[2] | result[3])
        for row in np.flatnonzero(~np.isfinite(result[1])):
            self._raise(f"the reward is {result[1][row]}", int(row))
        return result

    def _check_observation(self, observation: Any, over: Any) -> None:
        found = problem(self.observation_space, observation)
        if found:
            self._raise(found, odd_row(observation))
        if self.mask_sizes:
            legal = over | has_action(observation[ACTION_MASK], self.mask_sizes)
            for row in np.flatnonzero(~legal):
                self._raise(NO_ACTION, int(row))

    def _raise(self, found: str, row: int | None) -> None:
        which = "Environments" if row is None else f"Environment {row}"
        raise EnvironmentFault(
            f"{which} (the vector last seeded with {self.seed}), step {self.total} of "
            f"all: {found}.",
            wrong_data=True,
        )


def problem(
    space: gymnasium.Space[Any], x: Any, name: str = "observation"
) -> str | None:
    """What is wrong with an observation, in words; None if nothing is."""
    if isinstance(space, spaces.Dict):
        if not isinstance(x, dict) or set(x) != set(space.spaces):
            keys = sorted(x) if isinstance(x, dict) else type(x).__name__
            return f"the {name} should have the keys {sorted(space.spaces)}, not {keys}"
        parts = (problem(part, x[k], f"{name} {k}") for k, part in space.items())
        return next((found for found in parts if found), None)
    if isinstance(space, spaces.Tuple):
        if not isinstance(x, tuple | list) or len(x) != len(space.spaces):
            return f"the {name} should be {len(space.spaces)} parts, not {x!r}"
        parts = (
            problem(part, x[i], f"{name} {i}") for i, part in enumerate(space.spaces)
        )
        return next((found for found in parts if found), None)
    array = np.asarray(x)
    if array.shape != (space.shape or ()):
        return f"the {name} should have the shape {space.shape}, not {array.shape}"
    # A Discrete observation is often a plain int.
    exact = isinstance(space, spaces.Box)
    if array.dtype != space.dtype if exact else array.dtype.kind not in "iub":
        return f"the {name} should be of dtype {space.dtype}, not {array.dtype}"
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return f"the {name} is NaN or infinite: {array[~np.isfinite(array)][0]}"
    return None


def odd_row(x: Any) -> int | None:
    """The first row of a batch of observations with a NaN or an infinity."""
    if isinstance(x, dict | tuple):
        parts = x.values() if isinstance(x, dict) else x
        rows = [odd_row(part) for part in parts]
        return min((row for row in rows if row is not None), default=None)
    array = np.asarray(x)
    if array.dtype.kind != "f" or array.ndim == 0:
        return None
    odd = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
    return int(odd[0]) if len(odd) else None
