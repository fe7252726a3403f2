"""What an environment must have to run inside a compiled JAX program."""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium


def check_limit(max_episode_steps: int) -> None:
    """Raises a ValueError unless the time limit is positive."""
    if max_episode_steps < 1:
        raise ValueError(
            f"`max_episode_steps` must be at least 1. Received: {max_episode_steps=}"
        )


class TeacherTargets(NamedTuple):
    """What a teacher knows, as questions to a memory that may know it too.

    Each has a weight, in the shape of the answers: 0 where it is not asked. Numbers
    should be of the order of 1.

    Attributes:
        flags: Answers yes and no, bool of shape `(num_flags,)`.
        flag_weights: Their weights.
        values: Numbers, float32 of shape `(num_values,)`.
        value_weights: Their weights.
    """

    flags: Any
    flag_weights: Any
    values: Any
    value_weights: Any


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
        teacher_action: A method that gives the action of a teacher,
            `teacher_action(state, teacher_state, start) -> (action, teacher_state)`;
            None where the environment has no teacher. What it carries from step to
            step begins as `initial_teacher_state` gives it; `start` says that the
            state is the first of an episode, so that it must forget the last one.
        teacher_targets: A method that gives what the teacher knows after its action,
            `teacher_targets(state, teacher_state) -> TeacherTargets`; None where the
            environment asks nothing.

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
    teacher_action: Callable[[Any, Any, Any], tuple[Any, Any]] | None = None
    teacher_targets: Callable[[Any, Any], TeacherTargets] | None = None

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

    def initial_teacher_state(self) -> Any:
        """What the teacher of one environment carries: any tree of arrays.

        Nothing, where all that it knows is in the environment's state.
        """
        return ()

    def observe_all(self, states: Any) -> Any:
        """The observations of a batch of environments.

        Args:
            states: States whose leaves begin with the batch axis.

        Returns:
            The observations, with the batch axis first.
        """
        import jax

        return jax.vmap(self.observe)(states)


class TaskFamily(FunctionalEnv):
    """Environments that differ in a task, which no observation tells.

    An episode of `reset` is one of a new task; `Trial` plays several of one.
    """

    @abc.abstractmethod
    def draw_task(self, key: Any) -> Any:
        """A task: any tree of arrays, without keys.

        Args:
            key: A key as `jax.random.key` makes it.
        """

    @abc.abstractmethod
    def begin(self, key: Any, task: Any) -> Any:
        """Begins an episode of a task.

        Args:
            key: A key as `jax.random.key` makes it.
            task: From `draw_task`.

        Returns:
            The state, as `reset` does.
        """

    def reset(self, key: Any) -> Any:
        import jax

        draw, begin = jax.random.split(key)
        return self.begin(begin, self.draw_task(draw))
