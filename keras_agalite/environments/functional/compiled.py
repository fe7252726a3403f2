"""A batch of environments as two compiled programs."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from keras_agalite.environments.functional.batch import reset_envs, step_envs
from keras_agalite.environments.functional.protocol import FunctionalEnv


class Programs(NamedTuple):
    """Compiled functions of a batch; each environment has a key, split at every call.

    Attributes:
        reset: `keys -> (keys, states, observation)`.
        step: `(keys, states, actions, limit) -> (keys, states, observation,
            transition)`. The states that go in are donated.
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
def compile_envs(env: FunctionalEnv) -> Programs:
    """The programs of an environment, compiled once for each size of a batch."""

    def split(keys: Any) -> tuple[Any, Any]:
        both = jax.vmap(jax.random.split)(keys)
        return both[:, 0], both[:, 1]

    def reset(keys: Any) -> Any:
        keys, use = split(keys)
        states = reset_envs(env, use)
        return keys, states, env.observe_all(states.state)

    def step(keys: Any, states: Any, actions: Any, limit: Any) -> Any:
        keys, use = split(keys)
        states, transition = step_envs(env, use, states, actions, limit)
        return keys, states, env.observe_all(states.state), transition

    return Programs(
        _in_32_bits(jax.jit(reset)), _in_32_bits(jax.jit(step, donate_argnums=1))
    )


@_in_32_bits
def new_keys(seeds: Any, given: Any, old: Any) -> Any:
    """Keys of a batch: from the seed where one is given, else the old ones.

    Args:
        seeds: uint32 of shape `(batch,)`.
        given: bool of shape `(batch,)`.
        old: Keys of shape `(batch,)`; None if there are none, then all are new.
    """
    keys = jax.vmap(jax.random.key)(seeds)
    return keys if old is None else jax.numpy.where(given, keys, old)


def to_numpy(tree: Any) -> Any:
    """A tree of arrays as NumPy's, which are the caller's own."""
    return jax.tree.map(np.array, tree)


def first(tree: Any) -> Any:
    """The only one of a batch of one."""
    return jax.tree.map(lambda x: x[0], tree)
