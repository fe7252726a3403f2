"""What an environment must have to run inside a compiled JAX program."""

import abc
from collections.abc import Callable
from typing import Any

import gymnasium


def check_limit(max_episode_steps: int) -> None:
    """Raises a ValueError unless the time limit is positive."""
    if max_episode_steps < 1:
        raise ValueError(
            f"`max_episode_steps` must be at least 1. Received: {max_episode_steps=}"
        )


class FunctionalEnv(abc.ABC):
    """An environment as pure functions of a key and a state.

    The functions are traced by JAX, alone and under `jax.vmap`: no side effects, no
    Python branch on a value, shapes and dtypes the same at every call. They follow
    gymnax's (Lange, 2022), but for the observation, which is a function of its own:
    where some environments of a batch are reset, each is drawn once.

    An episode ends when the environment terminates it. Nothing here truncates or
    resets: `step_envs` does, for a whole batch.

    Attributes:
        observation_space: A gymnasium space: Box, MultiBinary, or a Dict of them.
        action_space: A gymnasium space: Discrete, MultiDiscrete or Box.
        max_episode_steps: Steps after which an episode is truncated.
        costly_reset: A new episode costs much more than a step. Then only the
            environments that need one are reset, one group after another.
        teacher_action: A method that gives the action of a teacher that sees the whole
            state, `teacher_action(state) -> action`; None where the environment has
            no teacher.

    Example:
        >>> class Coin(FunctionalEnv):
        ...     observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
        ...     action_space = gymnasium.spaces.Discrete(2)
        ...     max_episode_steps = 10
        ...
        ...     def reset(self, key):
        ...         return jax.random.randint(key, (), 0, 2)
        ...
        ...     def step(self, key, state, action):
        ...         reward = jnp.float32(action == state)
        ...         return self.reset(key), reward, jnp.bool_(False), {}
        ...
        ...     def observe(self, state):
        ...         return jnp.float32(state)[None]
    """

    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]
    max_episode_steps: int
    costly_reset: bool = False
    teacher_action: Callable[[Any], Any] | None = None

    @abc.abstractmethod
    def reset(self, key: Any) -> Any:
        """Begins an episode.

        Args:
            key: A key as `jax.random.key` makes it.

        Returns:
            The state: any tree of arrays, without keys.
        """

    @abc.abstractmethod
    def step(self, key: Any, state: Any, action: Any) -> tuple[Any, Any, Any, Any]:
        """One step.

        Args:
            key: A key, a new one at each step.
            state: State from `reset` or from the last step.
            action: As the action space says, int32 or float32.

        Returns:
            `(state, reward, terminated, info)`: a float32 and a boolean scalar, and a
            dict of arrays. `info["success"]`, where there is one, says at the step
            that ends an episode whether it was a success.
        """

    @abc.abstractmethod
    def observe(self, state: Any) -> Any:
        """The observation, in the shape and dtype of the observation space.

        Args:
            state: A state, of one environment.
        """

    def observe_all(self, states: Any) -> Any:
        """The observations of a batch of environments.

        Args:
            states: States whose leaves begin with the batch axis.

        Returns:
            The observations, with the batch axis first.
        """
        import jax

        return jax.vmap(self.observe)(states)
