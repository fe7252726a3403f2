"""Functional environments as gymnasium's: a vector of them, or one.

Importing this does not import JAX; making an environment does.
"""

import functools
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from keras_agalite.environments._checks import check_num_envs, check_render_mode
from keras_agalite.environments.functional.protocol import FunctionalEnv, check_limit
from keras_agalite.environments.functional.registry import make_functional

AUTORESET = getattr(gymnasium.vector, "AutoresetMode", None)


class FunctionalVectorEnv(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """A vector of one functional environment, stepped by one compiled program.

    Autoreset is gymnasium's NEXT_STEP: the step that ends an episode returns its last
    observation, and the next one ignores the action and returns the first of a new
    episode, with reward 0. The environment terminates, the time limit truncates.
    Environment `i` of `reset(seed=s)` is the single one's `reset(seed=s + i)`.

    `info` holds what the environment's step says, each entry with a mask `_name` that
    is true everywhere: an environment that begins an episode says zero.

    Args:
        env: The environment. Vectors of one `env` share what is compiled.
        num_envs: Number of environments.
        max_episode_steps: Time limit; the environment's own if None.
        render_mode: None: a vector draws nothing.

    Raises:
        ValueError: If `num_envs` or `max_episode_steps` is not positive, or
            `render_mode` not None.

    Example:
        >>> env = keras_agalite.environments.functional.make_functional("tmaze_10")
        >>> envs = FunctionalVectorEnv(env, num_envs=4)
        >>> observations, _ = envs.reset(seed=0)  # float32 of shape (4, 16)
        >>> observations, rewards, *_ = envs.step(envs.action_space.sample())
    """

    metadata = {
        "render_modes": [],
        "autoreset_mode": AUTORESET.NEXT_STEP if AUTORESET else "NextStep",
    }

    def __init__(
        self,
        env: FunctionalEnv,
        num_envs: int = 1,
        max_episode_steps: int | None = None,
        render_mode: None = None,
    ) -> None:
        check_num_envs(num_envs)
        check_render_mode(render_mode, self.metadata["render_modes"])
        limit = (
            env.max_episode_steps if max_episode_steps is None else max_episode_steps
        )
        check_limit(limit)
        from keras_agalite.environments.functional import compiled

        self.compiled = compiled
        self.programs = compiled.compile_envs(env)
        self.env = env
        self.limit = np.int32(limit)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.single_observation_space = env.observation_space
        self.single_action_space = env.action_space
        batch_space = gymnasium.vector.utils.batch_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        # Keys, states and the observation that was returned last.
        self.carry: tuple[Any, Any, Any] | None = None

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Begins an episode in every environment.

        Args:
            seed: Environment `i` takes `seed + i`, or entry `i` of a list. One whose
                seed is None goes on drawing from where it is.
            options: Not used.

        Returns:
            `(observations, info)`; `info` is empty.

        Raises:
            ValueError: If `seed` is a list of another length.
        """
        seeds: Sequence[int | None]
        if isinstance(seed, int | np.integer):
            super().reset(seed=int(seed))
            seeds = [int(seed) + i for i in range(self.num_envs)]
        else:
            super().reset(seed=None)
            seeds = [None] * self.num_envs if seed is None else seed
        if len(seeds) != self.num_envs:
            raise ValueError(
                f"`seed` must be an integer or {self.num_envs} of them. "
                f"Received: seed={seed!r}"
            )
        self.carry = self.programs.reset(self._keys(seeds))
        return self._observation(), {}

    def _keys(self, seeds: Sequence[int | None]) -> Any:
        """New keys for those with a seed, and for all that have none yet."""
        fresh = self.np_random.integers(2**32, size=self.num_envs, dtype=np.uint32)
        given = np.array([seed is not None for seed in seeds])
        chosen = np.array([(seed or 0) % 2**32 for seed in seeds], np.uint32)
        old = None if self.carry is None else self.carry[0]
        return self.compiled.new_keys(np.where(given, chosen, fresh), given, old)

    def _observation(self) -> Any:
        assert self.carry is not None
        return self.compiled.to_numpy(self.carry[2])

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Steps every environment.

        Args:
            actions: Of shape `(num_envs, ...)`: integers in the action space, or
                finite numbers for a Box, whose bounds are left to the environment.

        Returns:
            `(observations, rewards, terminated, truncated, info)`.

        Raises:
            ResetNeeded: Before the first `reset`.
            ValueError: If an action is illegal.
        """
        if self.carry is None:
            raise gymnasium.error.ResetNeeded("Call `reset` before `step`.")
        actions = self._check(actions)
        keys, states, _ = self.carry
        *carry, transition = self.programs.step(keys, states, actions, self.limit)
        self.carry = tuple(carry)
        reward, terminated, truncated, values = self.compiled.to_numpy(
            tuple(transition)
        )
        info: dict[str, Any] = {}
        for name, value in values.items():
            info[name] = value
            info[f"_{name}"] = np.ones(self.num_envs, bool)
        return self._observation(), reward, terminated, truncated, info

    def _check(self, actions: Any) -> np.ndarray:
        space = self.action_space
        # Not that of the batch, which is a Box of integers for MultiDiscrete.
        is_box = isinstance(self.single_action_space, spaces.Box)
        actions = np.asarray(actions)
        if actions.shape != space.shape:
            raise ValueError(
                f"`actions` must have the shape {space.shape}. "
                f"Received: actions.shape={actions.shape}"
            )
        # The bounds of a Box are left to the environment: noise may well leave them.
        if is_box:
            legal = actions.dtype.kind in "fiu" and np.isfinite(actions).all()
        else:
            is_integer = actions.dtype.kind in "iu"
            legal = is_integer and space.contains(actions.astype(np.int64))
        if not legal:
            raise ValueError(f"`actions` must be in {space}. Received: {actions=}")
        return actions.astype(np.float32 if is_box else np.int32)

    def close_extras(self, **kwargs: Any) -> None:
        self.carry = None


class FunctionalSingleEnv(gymnasium.Env[Any, Any]):
    """One functional environment as gymnasium's; many are faster in a vector.

    Args:
        env: The environment.
        max_episode_steps: Time limit; the environment's own if None.
        render_mode: None, or "rgb_array" where the observation is an image.

    Raises:
        ValueError: If there is no such render mode or the limit is not positive; at a
            step, if the action is illegal.

    Example:
        >>> env = keras_agalite.environments.functional.make_functional("tmaze_10")
        >>> observation, _ = FunctionalSingleEnv(env).reset(seed=0)
        >>> observation.shape
        (16,)
    """

    metadata: dict[str, Any] = {"render_modes": []}

    def __init__(
        self,
        env: FunctionalEnv,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        space = env.observation_space
        is_image = space.dtype == np.uint8 and len(space.shape or ()) == 3
        if is_image:
            self.metadata = {"render_modes": ["rgb_array"], "render_fps": 4}
        check_render_mode(render_mode, self.metadata["render_modes"])
        self.vector = FunctionalVectorEnv(env, 1, max_episode_steps)
        self.render_mode = render_mode
        self.observation_space = space
        self.action_space = env.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        observation, _ = self.vector.reset(seed=seed)
        return self.vector.compiled.first(observation), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.vector.step(
            np.asarray(action)[None]
        )
        first = self.vector.compiled.first
        info = {key: first(info[key]) for key in info if f"_{key}" in info}
        over = bool(terminated[0]), bool(truncated[0])
        return first(observation), float(reward[0]), *over, info

    def render(self) -> Any:
        """The last observation with `render_mode="rgb_array"`."""
        if self.render_mode != "rgb_array" or self.vector.carry is None:
            return None
        return np.array(self.vector.carry[2][0])

    def close(self) -> None:
        self.vector.close()


@functools.lru_cache(maxsize=16, typed=True)
def _make_cached(name: str, /, **arguments: Any) -> FunctionalEnv:
    return make_functional(name, **arguments)


def cached_env(name: str, /, **arguments: Any) -> FunctionalEnv:
    """The same functional environment for the same arguments, and so what it compiled.

    Args:
        name: As for `make_functional`.
        **arguments: Likewise; where one cannot be hashed, the environment is a new one.

    Returns:
        The environment.
    """
    try:
        hash(tuple(arguments.values()))
    except TypeError:
        return make_functional(name, **arguments)
    return _make_cached(name, **arguments)


def make_single(
    functional: str, render_mode: str | None = None, **arguments: Any
) -> FunctionalSingleEnv:
    """The entry point of a single environment.

    Args:
        functional: Name or id that `make_functional` knows.
        render_mode: As for `FunctionalSingleEnv`.
        **arguments: Goes to `make_functional`.
    """
    env = cached_env(functional, **arguments)
    return FunctionalSingleEnv(env, render_mode=render_mode)


def make_vector(
    functional: str,
    num_envs: int = 1,
    max_episode_steps: int | None = None,
    render_mode: None = None,
    **arguments: Any,
) -> FunctionalVectorEnv:
    """The entry point of a vector of environments.

    Args:
        functional: Name or id that `make_functional` knows.
        num_envs: Number of environments.
        max_episode_steps: Time limit; the environment's own if None.
        render_mode: None.
        **arguments: Goes to `make_functional`.
    """
    check_num_envs(num_envs)
    env = cached_env(functional, **arguments)
    return FunctionalVectorEnv(env, num_envs, max_episode_steps, render_mode)
