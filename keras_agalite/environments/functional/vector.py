"""Functional environments as gymnasium's: many worlds, or one.

Importing this does not import JAX; making an environment does.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from keras_agalite.environments.functional.protocol import FunctionalEnv

AUTORESET = getattr(gymnasium.vector, "AutoresetMode", None)


def check_num_envs(num_envs: int) -> None:
    if num_envs < 1:
        raise ValueError(f"`num_envs` must be at least 1. Received: {num_envs=}")


def check_limit(max_episode_steps: int) -> None:
    if max_episode_steps < 1:
        raise ValueError(
            f"`max_episode_steps` must be at least 1. Received: {max_episode_steps=}"
        )


class FunctionalVectorEnv(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """Many worlds of a functional environment, stepped by one compiled program.

    Autoreset is gymnasium's NEXT_STEP: the step that ends an episode returns its last
    observation, and the next one ignores the action and returns the first of a new
    episode, with reward 0. The environment terminates, the time limit truncates.
    World `i` of `reset(seed=s)` is the single environment's `reset(seed=s + i)`.

    `info` holds what the environment's step says, with a mask that is true for every
    world: all worlds step alike, and a world that begins an episode says zero.

    Args:
        env: The environment. Vectors of one `env` share what is compiled.
        num_envs: Number of worlds.
        max_episode_steps: Time limit; the environment's own if None.

    Raises:
        ValueError: If `num_envs` or `max_episode_steps` is not positive.
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
        limit = (
            env.max_episode_steps if max_episode_steps is None else max_episode_steps
        )
        check_limit(limit)
        from keras_agalite.environments.functional import compiled

        self.compiled = compiled
        self.programs = compiled.compile_worlds(env)
        self.env = env
        self.limit = np.int32(limit)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.single_observation_space = env.observation_space
        self.single_action_space = env.action_space
        batch_space = gymnasium.vector.utils.batch_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        # Keys, worlds and the observation that was returned last.
        self.carry: tuple[Any, Any, Any] | None = None

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Begins an episode in every world.

        Args:
            seed: World `i` takes `seed + i`, or entry `i` of a list. A world whose
                seed is None goes on drawing from where it is.
            options: Not used.
        """
        seeds: Sequence[int | None]
        if isinstance(seed, int | np.integer):
            super().reset(seed=int(seed))
            seeds = [int(seed) + world for world in range(self.num_envs)]
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
        """New keys for the worlds with a seed, and for all that have none yet."""
        fresh = self.np_random.integers(2**32, size=self.num_envs, dtype=np.uint32)
        given = np.array([seed is not None for seed in seeds])
        chosen = np.array([(seed or 0) % 2**32 for seed in seeds], np.uint32)
        old = None if self.carry is None else self.carry[0]
        return self.compiled.new_keys(np.where(given, chosen, fresh), given, old)

    def _observation(self) -> Any:
        assert self.carry is not None
        return _to_numpy(self.carry[2])

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        if self.carry is None:
            raise gymnasium.error.ResetNeeded("Call `reset` before `step`.")
        actions = self._check(actions)
        keys, worlds, _ = self.carry
        *carry, transition = self.programs.step(keys, worlds, actions, self.limit)
        self.carry = tuple(carry)
        reward, terminated, truncated, values = _to_numpy(tuple(transition))
        info: dict[str, Any] = {}
        for name, value in values.items():
            info[name] = value
            info[f"_{name}"] = np.ones(self.num_envs, bool)
        return self._observation(), reward, terminated, truncated, info

    def _check(self, actions: Any) -> np.ndarray:
        space = self.action_space
        # Not that of the batch, which is a Box of integers for MultiDiscrete.
        is_box = isinstance(self.single_action_space, spaces.Box)
        actions = np.asarray(actions, np.float32 if is_box else np.int32)
        if actions.shape != space.shape:
            raise ValueError(
                f"`actions` must have the shape {space.shape}. "
                f"Received: actions.shape={actions.shape}"
            )
        # A Box is left to the environment: a policy's noise may well leave it.
        if not is_box and not space.contains(actions):
            raise ValueError(f"`actions` must be in {space}. Received: {actions=}")
        return actions

    def close_extras(self, **kwargs: Any) -> None:
        self.carry = None


class FunctionalSingleEnv(gymnasium.Env[Any, Any]):
    """One world of a functional environment; many are faster in a vector.

    Args:
        env: The environment.
        max_episode_steps: Time limit; the environment's own if None.
        render_mode: None, or "rgb_array" where the observation is an image.

    Raises:
        ValueError: If there is nothing to render or the limit is not positive.
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
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(
                f"`render_mode` must be None{' or rgb_array' if is_image else ''}. "
                f"Received: {render_mode=}"
            )
        self.vector = FunctionalVectorEnv(env, 1, max_episode_steps)
        self.render_mode = render_mode
        self.observation_space = space
        self.action_space = env.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        observation, _ = self.vector.reset(seed=seed)
        return _first(observation), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.vector.step(
            np.asarray(action)[None]
        )
        info = {key: _first(info[key]) for key in info if f"_{key}" in info}
        over = bool(terminated[0]), bool(truncated[0])
        return _first(observation), float(reward[0]), *over, info

    def render(self) -> Any:
        """The last observation with `render_mode="rgb_array"`."""
        if self.render_mode != "rgb_array" or self.vector.carry is None:
            return None
        return np.array(self.vector.carry[2][0])

    def close(self) -> None:
        self.vector.close()


def _to_numpy(tree: Any) -> Any:
    import jax

    return jax.tree.map(np.array, tree)


def _first(tree: Any) -> Any:
    """World 0 of a batch of one."""
    import jax

    return jax.tree.map(lambda x: x[0], tree)
