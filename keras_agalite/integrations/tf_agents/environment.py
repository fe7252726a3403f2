"""Gymnasium environments as TF-Agents environments."""

from typing import Any

import gymnasium
import numpy as np
import tensorflow as tf
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from tf_agents.environments import py_environment
from tf_agents.specs import array_spec
from tf_agents.trajectories import time_step as ts


def space_to_spec(space: gymnasium.Space[Any], name: str) -> Any:
    """The TF-Agents array spec of a gymnasium space.

    Raises:
        ValueError: If the space is not Box, Discrete, MultiDiscrete, MultiBinary, or a
            Dict or Tuple of them.
    """
    bounds: Any
    match space:
        case spaces.Dict():
            return {k: space_to_spec(v, k) for k, v in space.spaces.items()}
        case spaces.Tuple():
            parts = enumerate(space.spaces)
            return tuple(space_to_spec(part, f"{name}_{i}") for i, part in parts)
        case spaces.Box():
            bounds = space.low, space.high
        case spaces.Discrete():
            first = int(space.start)
            bounds = first, first + int(space.n) - 1
        case spaces.MultiDiscrete():
            # TF-Agents samples only where both bounds are arrays, or both numbers.
            bounds = space.start, space.start + space.nvec - 1
        case spaces.MultiBinary():
            bounds = 0, 1
        case _:
            raise ValueError(
                "Expected a space that is Box, Discrete, MultiDiscrete, MultiBinary, "
                f"or a Dict or Tuple of them. Received: {name} space={space}"
            )
    return array_spec.BoundedArraySpec(space.shape, space.dtype, *bounds, name)


def action_spec_and_start(space: gymnasium.Space[Any]) -> tuple[Any, Any]:
    """The spec of actions, whose categories TF-Agents counts from 0, and the first one.

    Raises:
        ValueError: As `space_to_spec`.
    """
    spec = space_to_spec(space, "action")
    if not isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return spec, None
    if not np.any(space.start):
        return spec, None
    counted = array_spec.BoundedArraySpec(
        spec.shape,
        spec.dtype,
        np.zeros_like(spec.minimum),
        spec.maximum - spec.minimum,
        spec.name,
    )
    return counted, space.start


class GymnasiumEnvironment(py_environment.PyEnvironment):
    """One or many gymnasium environments as a TF-Agents `PyEnvironment`.

    An episode that terminates ends with discount 0. One that is truncated ends with
    discount 1, so its last observation keeps its bootstrap value. After a last step
    the next call of `step` resets, ignores the action and returns a first step, in
    each row on its own.

    Box actions are clipped to their bounds before the environment sees them. Actions
    that are categories are counted from 0 here, and the start of their space is added.

    Attributes:
        error: What the environment raised last. TensorFlow, which calls it from a
            graph, passes on the text of an exception alone.

    Args:
        env: A `gymnasium.Env`, or a `gymnasium.vector.VectorEnv` whose autoreset
            mode is `NEXT_STEP` (Gymnasium's default), which makes it batched.
        seed: Seed of the first reset. Row i of a vector gets `seed + i`.

    Raises:
        ValueError: If `env` is neither, a space is not supported, or the autoreset
            mode is another.
    """

    def __init__(
        self,
        env: Any,
        seed: int | None = None,
    ) -> None:
        super().__init__(handle_auto_reset=False)
        self._env = env
        self._vector = isinstance(env, gymnasium.vector.VectorEnv)
        if not self._vector and not isinstance(env, gymnasium.Env):
            raise ValueError(
                "`env` must be a gymnasium.Env or a gymnasium.vector.VectorEnv. "
                f"Received: env={env!r}"
            )
        mode = env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        if self._vector and mode != AutoresetMode.NEXT_STEP:
            raise ValueError(
                "The vector environment must reset with AutoresetMode.NEXT_STEP. "
                f"Received: autoreset_mode={mode}"
            )
        self._seed = seed
        self.error: Exception | None = None
        self._info: Any = None
        self._rows = self._env.num_envs if self._vector else 1
        prefix = "single_" if self._vector else ""
        self._action_space = getattr(env, f"{prefix}action_space")
        self._action_spec, self._start = action_spec_and_start(self._action_space)
        observation_space = getattr(env, f"{prefix}observation_space")
        self._observation_spec = space_to_spec(observation_space, "observation")
        self._finished: list[dict[str, Any]] = []
        self._returns = np.zeros(self._rows)
        self._lengths = np.zeros(self._rows, int)

    @property
    def batched(self) -> bool:
        return self._vector

    @property
    def batch_size(self) -> int | None:
        return self._rows if self._vector else None

    def observation_spec(self) -> Any:
        return self._observation_spec

    def action_spec(self) -> Any:
        return self._action_spec

    def get_info(self) -> Any:
        """Gymnasium's info of the last step."""
        return self._info

    def seed(self, seed: int | None) -> None:
        """Sets the seed of the next reset."""
        self._seed = seed

    def render(self, mode: str = "rgb_array") -> Any:
        return self._env.render()

    def close(self) -> None:
        self._env.close()

    def pop_finished_episodes(self) -> list[dict[str, Any]]:
        """Episodes that ended since the last call, in the order of their end.

        Each has `return`, `length` (steps) and, where the environment's info tells
        it, `success`.
        """
        finished, self._finished = self._finished, []
        return finished

    def _reset(self) -> ts.TimeStep:
        observation, self._info = self._call(self._env.reset, seed=self._seed)
        self._seed = None  # the next reset goes on in the same stream
        self._done = np.zeros(self._rows, bool)
        self._returns[:] = 0.0
        self._lengths[:] = 0
        return ts.restart(self._plain(observation), self.batch_size)

    def _step(self, action: Any) -> ts.TimeStep:
        if not self._vector and self._done[0]:
            return self._reset()
        if isinstance(self._action_space, spaces.Box):
            action = np.clip(action, self._action_space.low, self._action_space.high)
        if self._start is not None:
            action = action + self._start
        result = self._call(self._env.step, action)
        observation, reward, terminated, truncated, self._info = result
        first = self._done
        reward, terminated, truncated = (
            np.atleast_1d(np.asarray(x)) for x in (reward, terminated, truncated)
        )
        self._done = terminated | truncated
        self._count(first, reward)
        step_type = np.where(self._done, ts.StepType.LAST, ts.StepType.MID)
        step = ts.TimeStep(
            np.where(first, ts.StepType.FIRST, step_type).astype(np.int32),
            np.where(first, 0.0, reward).astype(np.float32),
            np.where(terminated, 0.0, 1.0).astype(np.float32),
            self._plain(observation),
        )
        if self._vector:
            return step
        step_type, reward, discount, observation = step
        return ts.TimeStep(step_type[0], reward[0], discount[0], observation)

    def _call(self, function: Any, *arguments: Any, **keywords: Any) -> Any:
        try:
            return function(*arguments, **keywords)
        except Exception as error:
            self.error = error
            raise

    def _plain(self, observation: Any) -> Any:
        """Arrays of the spec's dtypes; a vector environment may reuse its buffers."""
        return tf.nest.map_structure(
            lambda spec, x: np.array(x, spec.dtype), self._observation_spec, observation
        )

    def _count(self, first: np.ndarray, reward: np.ndarray) -> None:
        self._returns = np.where(first, 0.0, self._returns + reward)
        self._lengths = np.where(first, 0, self._lengths + 1)
        success = np.atleast_1d(self._info.get("success", []))
        for row in np.flatnonzero(self._done):
            episode = {
                "return": float(self._returns[row]),
                "length": int(self._lengths[row]),
            }
            if len(success):
                episode["success"] = bool(success[row])
            self._finished.append(episode)
        if not self._vector and self._done[0]:
            self._returns[:] = 0.0
            self._lengths[:] = 0
