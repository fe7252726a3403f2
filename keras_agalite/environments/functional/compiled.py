"""A batch of worlds as two compiled programs."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from keras_agalite.environments.functional.protocol import FunctionalEnv
from keras_agalite.environments.functional.worlds import reset_worlds, step_worlds


class Programs(NamedTuple):
    """Compiled functions of a batch; each world carries a key, split at every call.

    Attributes:
        reset: `keys -> (keys, worlds, observation)`.
        step: `(keys, worlds, actions, limit) -> (keys, worlds, observation,
            transition)`. The worlds that went in are gone.
    """

    reset: Callable[..., Any]
    step: Callable[..., Any]


def _in_32_bits(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function under JAX's default of 32 bits, so that JAX_ENABLE_X64 changes
    neither what is drawn nor what is computed."""

    @functools.wraps(function)
    def run(*arguments: Any) -> Any:
        with jax.enable_x64(False):
            return function(*arguments)

    return run


@functools.lru_cache(maxsize=32)
def compile_worlds(env: FunctionalEnv) -> Programs:
    """The programs of an environment, compiled once for each number of worlds."""

    def split(keys: Any) -> tuple[Any, Any]:
        both = jax.vmap(jax.random.split)(keys)
        return both[:, 0], both[:, 1]

    def reset(keys: Any) -> Any:
        keys, use = split(keys)
        worlds = reset_worlds(env, use)
        return keys, worlds, env.observe_all(worlds.state)

    def step(keys: Any, worlds: Any, actions: Any, limit: Any) -> Any:
        keys, use = split(keys)
        worlds, transition = step_worlds(env, use, worlds, actions, limit)
        return keys, worlds, env.observe_all(worlds.state), transition

    return Programs(
        _in_32_bits(jax.jit(reset)), _in_32_bits(jax.jit(step, donate_argnums=1))
    )


@_in_32_bits
def new_keys(seeds: Any, given: Any, old: Any) -> Any:
    """Keys of worlds: from the seed where one is given, else the old ones.

    Args:
        seeds: uint32 of shape `(batch,)`.
        given: bool of shape `(batch,)`.
        old: Keys of shape `(batch,)`; None if there are none, then all are new.
    """
    keys = jax.vmap(jax.random.key)(seeds)
    return keys if old is None else jax.numpy.where(given, keys, old)
