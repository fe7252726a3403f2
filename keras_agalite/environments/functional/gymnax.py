"""Gymnax's environments in our protocol."""

import dataclasses
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from keras_agalite.environments._checks import check_integer
from keras_agalite.environments._packages import require
from keras_agalite.environments.catalog import REQUIREMENTS
from keras_agalite.environments.functional.protocol import FunctionalEnv

# Lowest and highest value where gymnax's own space does not hold its observations.
BOUNDS = {
    "MemoryChain-bsuite": (-1.0, np.inf),
    "MetaMaze-misc": (-np.inf, np.inf),
    "GaussianBandit-misc": (-np.inf, np.inf),
}


class GymnaxState(NamedTuple):
    """The state of an environment of gymnax, and the observation that it gave.

    Attributes:
        state: The state, as gymnax has it.
        observation: In the shape and dtype of the observation space.
    """

    state: Any
    observation: Any


class Gymnax(FunctionalEnv):
    """An environment of gymnax (Lange, 2022), by its name.

    Its own termination terminates; its time limit, `max_steps_in_episode`, is
    `max_episode_steps` here, and truncates. Its automatic reset is not used. A
    Discrete observation becomes one-hot.

    Args:
        name: A name of gymnax: "MemoryChain-bsuite", "UmbrellaChain-bsuite",
            "CartPole-v1", ...
        **params: Fields of the environment's parameters, such as `chain_length`;
            any other goes to its constructor.

    Raises:
        ImportError: If gymnax is not installed; the message has the pip command.
        ValueError: If gymnax has no such environment, or it refuses a parameter.

    Example:
        >>> env = functional.Gymnax("UmbrellaChain-bsuite", chain_length=20)
        >>> env.observation_space.shape
        (3,)
    """

    def __init__(self, name: str, **params: Any) -> None:
        require(f"gymnax's {name}", "gymnax")
        import gymnax

        if name not in gymnax.registered_envs:
            legal = ", ".join(gymnax.registered_envs)
            raise ValueError(f"`name` must be one of {legal}. Received: name={name!r}")
        defaults = gymnax.make(name)[1]
        fields = {field.name for field in dataclasses.fields(defaults)}
        rest = {key: value for key, value in params.items() if key not in fields}
        try:
            self.env, defaults = gymnax.make(name, **rest)
        except TypeError as error:
            raise ValueError(
                f"Expected parameters of {name}: {', '.join(sorted(fields))}, or those "
                f"of its constructor. Received: params={params}"
            ) from error
        if not hasattr(self.env, "is_truncated"):
            command = REQUIREMENTS["gymnax"].command()
            raise ImportError(f"Expected gymnax 1.0.1 or later. Use: {command}")
        self.name = name
        self.params = defaults.replace(
            **{key: params[key] for key in params if key in fields}
        )
        self.max_episode_steps = int(self.params.max_steps_in_episode)
        shown = convert_space(self.env.observation_space(self.params), BOUNDS.get(name))
        # Number of observations of a Discrete space, else 0.
        self.classes = int(shown.n) if isinstance(shown, spaces.Discrete) else 0
        if self.classes:
            shown = spaces.Box(0.0, 1.0, (self.classes,), np.float32)
        self.observation_space = shown
        self.action_space = convert_space(self.env.action_space(self.params))

    def reset(self, key: Any) -> GymnaxState:
        # Keys of the old, untyped kind: some environments keep one in the state.
        key = jax.random.key_data(key)
        observation, state = self.env.reset_env(key, self.params)
        return self._join(state, observation)

    def step(self, key: Any, state: GymnaxState, action: Any) -> Any:
        # Not `step`, which resets and truncates. Observations stay in the state,
        # since some are those of the state before, or random.
        observation, inner, reward, terminated, _ = self.env.step_env(
            jax.random.key_data(key), state.state, action, self.params
        )
        reward = jnp.asarray(reward, jnp.float32)
        return self._join(inner, observation), reward, jnp.asarray(terminated, bool), {}

    def _join(self, state: Any, observation: Any) -> GymnaxState:
        if self.classes:
            observation = jnp.eye(self.classes)[observation]
        return GymnaxState(
            jax.tree.map(jnp.asarray, state),
            _cast(observation, self.observation_space),
        )

    def observe(self, state: GymnaxState) -> Any:
        return state.observation


class MemoryChain(Gymnax):
    """bsuite's memory length: say at the end what the first observation showed.

    The task is that of Osband et al., "Behaviour Suite for Reinforcement Learning",
    ICLR 2020, in gymnax's form. The bits are shown at first, as -1 or 1; at step
    `memory_length + 1` the action is to be the bit that the observation asks for,
    0 or 1, which earns 1, and -1 if it is wrong. The other steps pay nothing.
    `info["success"]` says whether it was right; an agent without memory gets half.

    Observation: time left, index of the bit asked for, bits; float32 of shape
    `(2 + num_bits,)`. Actions: 0 and 1.

    Args:
        memory_length: Steps to remember for.
        num_bits: Number of bits.

    Raises:
        ImportError: If gymnax is not installed; the message has the pip command.
        ValueError: If one of them is not an integer of at least 1.

    Example:
        >>> envs = keras_agalite.environments.make_vec(
        ...     "memory_chain", 64, memory_length=100
        ... )
        >>> observations, _ = envs.reset(seed=0)  # float32 of shape (64, 3)
    """

    def __init__(self, memory_length: int = 5, num_bits: int = 1) -> None:
        for key, value in {
            "memory_length": memory_length,
            "num_bits": num_bits,
        }.items():
            check_integer(key, value)
        super().__init__(
            "MemoryChain-bsuite",
            num_bits=num_bits,
            memory_length=memory_length,
            # Never reached, however long the memory has to be.
            max_steps_in_episode=memory_length + 2,
        )
        shape, high = self.observation_space.shape, max(1.0, num_bits - 1.0)
        self.observation_space = spaces.Box(-1.0, high, shape, np.float32)

    def step(self, key: Any, state: GymnaxState, action: Any) -> Any:
        state, reward, terminated, _ = super().step(key, state, action)
        return state, reward, terminated, {"success": terminated & (reward > 0)}


def convert_space(
    space: Any, bounds: tuple[float, float] | None = None
) -> gymnasium.Space[Any]:
    """A space of gymnax as gymnasium's.

    Args:
        space: Discrete, Box, or a Dict of them.
        bounds: Lowest and highest value of a Box, if its own are wrong.
    """
    kind = type(space).__name__
    if kind == "Discrete":
        return spaces.Discrete(int(space.n))
    if kind == "Box":
        dtype = np.dtype(space.dtype)
        shape = tuple(space.shape)
        low, high = bounds or (space.low, space.high)
        low, high = (np.broadcast_to(np.asarray(x, dtype), shape) for x in (low, high))
        return spaces.Box(low, high, shape, dtype.type)
    if kind == "Dict":
        return spaces.Dict(
            {key: convert_space(space.spaces[key]) for key in space.spaces}
        )
    raise ValueError(f"Expected Discrete, Box or Dict. Received: space={space!r}")


def _cast(observation: Any, space: gymnasium.Space[Any]) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _cast(observation[key], space[key]) for key in space.spaces}
    observation = jnp.asarray(observation, space.dtype)
    if isinstance(space, spaces.Box) and jnp.issubdtype(observation.dtype, np.floating):
        # Rounding takes some of gymnax's observations a little out of their space.
        observation = jnp.clip(observation, space.low, space.high)
    return observation
