"""What an environment must have to run inside a compiled JAX program."""

import abc
from collections.abc import Callable
from typing import Any

import gymnasium


class FunctionalEnv(abc.ABC):
    """An environment as pure functions of a key and a state, for one world.

    The functions are traced by JAX, alone and under `jax.vmap`: no side effects, no
    Python branch on a value, shapes and dtypes the same at every call. They follow
    gymnax's (Lange, 2022), but for the observation, which is a function of its own:
    where some worlds of a batch begin anew, each world is drawn once.

    An episode ends when the environment terminates it. Nothing here truncates or
    begins anew: `Worlds` does, for a whole batch.

    Attributes:
        observation_space: A gymnasium space: Box, MultiBinary, or a Dict of them.
        action_space: A gymnasium space: Discrete, MultiDiscrete or Box.
        max_episode_steps: Steps after which an episode is truncated.
        costly_reset: A new episode costs much more than a step. Then only the worlds
            that need one are reset, one group after another.
        teacher: Where the environment knows how to play, a function of a state, all
            of which it sees, that gives an action; else None.
    """

    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]
    max_episode_steps: int
    costly_reset: bool = False
    teacher: Callable[[Any], Any] | None = None

    @abc.abstractmethod
    def reset(self, key: Any) -> Any:
        """The state at the start of an episode: any tree of arrays, without keys.

        Args:
            key: A key as `jax.random.key` makes it.
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
        """The observation, in the shape and dtype of the observation space."""

    def observe_all(self, states: Any) -> Any:
        """The observations of a batch of worlds."""
        import jax

        return jax.vmap(self.observe)(states)
