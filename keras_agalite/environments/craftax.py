"""Craftax with symbolic observations, as a gymnasium vector environment."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from keras_agalite.environments._packages import require

NAMES = ("Craftax-Symbolic-v1", "Craftax-Classic-Symbolic-v1")
AUTORESET = getattr(gymnasium.vector, "AutoresetMode", None)


class Worlds(NamedTuple):
    """Compiled functions over a batch of worlds, and what they work on."""

    empty: Callable[[int], Any]
    reset: Callable[..., Any]
    step: Callable[..., Any]
    observation_size: int
    num_actions: int
    limit: int


@functools.cache
def make_worlds(name: str) -> Worlds:
    import jax
    import jax.numpy as jnp
    from craftax.craftax_env import make_craftax_env_from_name

    env = make_craftax_env_from_name(name, auto_reset=False)
    params = env.default_params

    def strong(tree: Any) -> Any:
        # A weakly typed leaf would compile everything a second time.
        cast = jax.lax.convert_element_type
        return jax.tree.map(lambda x: cast(x, jnp.result_type(x)), tree)

    def reset_one(key: Any) -> Any:
        key, use = jax.random.split(key)
        observation, state = env.reset_env(use, params)
        return strong((key, state, observation.astype(jnp.float32)))

    def step_one(key: Any, state: Any, action: Any, limit: Any) -> Any:
        key, use = jax.random.split(key)
        limited = params.replace(max_timesteps=limit)
        observation, state, reward, done, _ = env.step_env(use, state, action, limited)
        # Over at time 0 as well: then it is not the clock that ended the episode.
        young = state.replace(timestep=jnp.zeros_like(state.timestep))
        terminated = env.is_terminal(young, limited)
        carry = strong((key, state, observation.astype(jnp.float32)))
        reward = jnp.asarray(reward, jnp.float32)
        return carry, reward, terminated, done & ~terminated, state.achievements

    # Making a world costs as much as dozens of steps, so only finished ones are made
    # anew: one by one where cores are few, in groups where a device wants width.
    group = 1 if jax.default_backend() == "cpu" else 32

    def reset(carry: Any, order: Any, count: Any) -> Any:
        order = jnp.pad(order, (0, group), constant_values=len(order))

        def make_group(start: Any, carry: Any) -> Any:
            index = jax.lax.dynamic_slice(order, (start * group,), (group,))
            new = jax.vmap(reset_one)(carry[0].at[index].get(mode="clip"))
            return jax.tree.map(
                lambda old, new: old.at[index].set(new, mode="drop"), carry, new
            )

        return jax.lax.fori_loop(0, -(-count // group), make_group, carry)

    shapes = jax.eval_shape(reset_one, jax.random.PRNGKey(0))

    def empty(number: int) -> Any:
        return jax.tree.map(
            lambda leaf: jnp.zeros((number, *leaf.shape), leaf.dtype), shapes
        )

    return Worlds(
        empty,
        jax.jit(reset, donate_argnums=0),
        jax.jit(jax.vmap(step_one, in_axes=(0, 0, 0, None))),
        shapes[2].shape[0],
        env.num_actions,
        params.max_timesteps,
    )


class CraftaxVectorEnv(gymnasium.vector.VectorEnv[Any, Any, Any]):
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

    metadata = {
        "render_modes": [],
        "autoreset_mode": AUTORESET.NEXT_STEP if AUTORESET else "NextStep",
    }

    def __init__(
        self,
        num_envs: int = 1,
        name: str = NAMES[0],
        max_episode_steps: int | None = None,
        render_mode: None = None,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"`num_envs` must be at least 1. Received: {num_envs=}")
        if name not in NAMES:
            legal = ", ".join(NAMES)
            raise ValueError(f"`name` must be one of {legal}. Received: {name=}")
        require(name, ("craftax",), "pip install craftax")
        self.worlds = make_worlds(name)
        self.limit = np.int32(max_episode_steps or self.worlds.limit)
        self.num_envs = num_envs
        self.render_mode = render_mode
        # The official space ends at 1, which a strong player's health exceeds.
        self.single_observation_space = spaces.Box(
            0.0, np.inf, (self.worlds.observation_size,), np.float32
        )
        self.single_action_space = spaces.Discrete(self.worlds.num_actions)
        batch_space = gymnasium.vector.utils.batch_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.carry: Any = None
        self.ended = np.zeros(num_envs, bool)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed if isinstance(seed, int) else None)
        if isinstance(seed, int):
            seeds: Any = [seed + world for world in range(self.num_envs)]
        else:
            seeds = seed if seed is not None else [None] * self.num_envs
        if len(seeds) != self.num_envs:
            raise ValueError(
                f"`seed` must be an integer or {self.num_envs} of them. "
                f"Received: seed={seed!r}"
            )
        self._seed(seeds)
        self._start(np.ones(self.num_envs, bool))
        return self._observation(), {}

    def _seed(self, seeds: Sequence[int | None]) -> None:
        """New keys for the worlds with a seed, and for all that have none yet."""
        import jax

        fresh = self.np_random.integers(2**32, size=self.num_envs, dtype=np.uint32)
        given = np.array([seed is not None for seed in seeds])
        chosen = np.array([(seed or 0) % 2**32 for seed in seeds], np.uint32)
        keys = jax.vmap(jax.random.PRNGKey)(np.where(given, chosen, fresh))
        if self.carry is None:
            self.carry = self.worlds.empty(self.num_envs)
        elif not given.all():
            keys = jax.numpy.where(given[:, None], keys, self.carry[0])
        self.carry = (keys, *self.carry[1:])

    def _start(self, which: np.ndarray) -> None:
        order = np.argsort(~which, kind="stable").astype(np.int32)
        self.carry = self.worlds.reset(self.carry, order, np.int32(which.sum()))
        self.ended = np.zeros(self.num_envs, bool)

    def _observation(self) -> np.ndarray:
        return np.array(self.carry[2])

    def step(
        self, actions: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        if self.carry is None:
            raise gymnasium.error.ResetNeeded("Call `reset` before `step`.")
        actions = np.asarray(actions, np.int32)
        if actions.shape != (self.num_envs,):
            raise ValueError(
                f"`actions` must have the shape {(self.num_envs,)}. "
                f"Received: actions.shape={actions.shape}"
            )
        start = self.ended
        keys, state, _ = self.carry
        self.carry, *rest = self.worlds.step(keys, state, actions, self.limit)
        reward, terminated, truncated, achievements = map(np.array, rest)
        if start.any():
            # Their keys go on from where the episode ended, as a single world's do.
            keys = np.where(start[:, None], keys, self.carry[0])
            self.carry = (keys, *self.carry[1:])
            self._start(start)
            for of_this_step in (reward, terminated, truncated, achievements):
                of_this_step[start] = 0
        self.ended = terminated | truncated
        every = np.ones(self.num_envs, bool)
        info = {"achievements": achievements, "_achievements": every}
        return self._observation(), reward, terminated, truncated, info

    def close_extras(self, **kwargs: Any) -> None:
        self.carry = None


class CraftaxEnv(gymnasium.Env[np.ndarray, int]):
    """One Craftax world; see `CraftaxVectorEnv`, which many worlds are faster in.

    Args:
        name: "Craftax-Symbolic-v1" or "Craftax-Classic-Symbolic-v1".

    Raises:
        ImportError: If craftax is not installed; the message has the pip command.
    """

    metadata = {"render_modes": []}

    def __init__(self, name: str = NAMES[0], render_mode: None = None) -> None:
        self.vector = CraftaxVectorEnv(1, name)
        self.render_mode = render_mode
        self.observation_space = self.vector.single_observation_space
        self.action_space = self.vector.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        observation, _ = self.vector.reset(seed=seed)
        return observation[0], {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.vector.step([action])
        info = {key: value[0] for key, value in info.items() if key[0] != "_"}
        over = bool(terminated[0]), bool(truncated[0])
        return observation[0], float(reward[0]), *over, info

    def close(self) -> None:
        self.vector.close()
