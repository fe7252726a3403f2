"""A batch of environments: episodes that end, are truncated and begin again."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from keras_agalite.environments.functional.protocol import FunctionalEnv


class EnvStates(NamedTuple):
    """A batch of environments between two steps; leaves begin with the batch axis.

    Attributes:
        state: The environment's states.
        start: The observation is the first of an episode, bool of shape `(batch,)`.
        ended: The observation is the last of an episode, bool of shape `(batch,)`. The
            next step ignores the action, begins an episode and pays 0, as gymnasium's
            NEXT_STEP says.
        elapsed: Steps since the episode's start, int32 of shape `(batch,)`.
        total: Return of the episode so far, float32 of shape `(batch,)`.
    """

    state: Any
    start: Any
    ended: Any
    elapsed: Any
    total: Any


class Transition(NamedTuple):
    """What a step of a batch of environments gave, each of shape `(batch,)`.

    Attributes:
        reward: float32.
        terminated: The episode ended because the environment says so.
        truncated: The episode ended because its time was over.
        info: The environment's; zeros where an episode began.
    """

    reward: Any
    terminated: Any
    truncated: Any
    info: Any


def reset_envs(env: FunctionalEnv, keys: Any) -> EnvStates:
    """Begins an episode in each environment of a batch.

    Args:
        env: The environment.
        keys: Keys of shape `(batch,)`.

    Returns:
        The states of the batch.

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 4)
        >>> states = functional.reset_envs(functional.TMaze(), keys)
        >>> states.start.shape
        (4,)
    """
    number = len(keys)
    no = jnp.zeros(number, bool)
    return EnvStates(
        _strong(jax.vmap(env.reset)(keys)),
        ~no,
        no,
        jnp.zeros(number, jnp.int32),
        jnp.zeros(number, jnp.float32),
    )


def step_envs(
    env: FunctionalEnv, keys: Any, states: EnvStates, actions: Any, limit: Any = None
) -> tuple[EnvStates, Transition]:
    """Steps each environment of a batch.

    Args:
        env: The environment.
        keys: Keys of shape `(batch,)`, new ones at each step.
        states: The states of the batch.
        actions: Actions of shape `(batch, ...)`.
        limit: Time limit; the environment's own if None.

    Returns:
        `(states, transition)`. Observe the states with
        `env.observe_all(states.state)`: where an episode ended, that is its last
        observation.

    Example:
        >>> env = functional.make_functional("tmaze_10")
        >>> keys = jax.random.split(jax.random.key(0), 4)
        >>> states = functional.reset_envs(env, keys)
        >>> actions = jnp.zeros(4, jnp.int32)
        >>> states, transition = functional.step_envs(env, keys, states, actions)
        >>> transition.reward.shape
        (4,)
    """
    limit = env.max_episode_steps if limit is None else limit
    ended = states.ended
    stepped = jax.vmap(env.step)(keys, states.state, actions)
    state, reward, terminated, info = _strong(stepped)
    state = _begin(env, keys, state, ended)
    reward, terminated, info = jax.tree.map(
        lambda x: _where(ended, jnp.zeros_like(x), x), (reward, terminated, info)
    )
    elapsed = jnp.where(ended, 0, states.elapsed + 1)
    truncated = (elapsed >= limit) & ~terminated & ~ended
    total = jnp.where(ended, 0.0, states.total + reward)
    states = EnvStates(state, ended, terminated | truncated, elapsed, total)
    return states, Transition(reward, terminated, truncated, info)


def _begin(env: FunctionalEnv, keys: Any, state: Any, ended: Any) -> Any:
    """The states, with those of ended episodes replaced by fresh ones."""
    if not env.costly_reset:
        fresh = _strong(jax.vmap(env.reset)(keys))
        return jax.tree.map(lambda new, old: _where(ended, new, old), fresh, state)
    # One by one where cores are few, in groups where a device wants width.
    group = 1 if jax.default_backend() == "cpu" else 32
    number = len(ended)
    order = jnp.argsort(~ended)
    order = jnp.where(ended[order], order, number)
    order = jnp.pad(order, (0, group), constant_values=number)

    def begin_group(i: Any, state: Any) -> Any:
        index = jax.lax.dynamic_slice(order, (i * group,), (group,))
        new = jax.vmap(env.reset)(keys.at[index].get(mode="clip"))
        return jax.tree.map(
            lambda new, old: old.at[index].set(new, mode="drop"), _strong(new), state
        )

    groups = -(-jnp.sum(ended) // group)
    return jax.lax.fori_loop(0, groups, begin_group, state)


def _where(which: Any, x: Any, y: Any) -> Any:
    return jnp.where(which.reshape(-1, *[1] * (x.ndim - 1)), x, y)


def _strong(tree: Any) -> Any:
    """Strongly typed leaves: a weak one would compile everything a second time."""
    cast = jax.lax.convert_element_type
    return jax.tree.map(lambda x: cast(x, jnp.result_type(x)), tree)
