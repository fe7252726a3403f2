"""One door to every environment: the ids, and `make` by name."""

from typing import Any

import gymnasium

from keras_agalite.environments import catalog
from keras_agalite.environments._checks import check_num_envs
from keras_agalite.environments.catalog import ENVIRONMENTS, MODULE, EnvironmentInfo


def register() -> None:
    """Registers our ids with gymnasium. No environment's package is imported."""
    for row in ENVIRONMENTS:
        if row.id in gymnasium.registry:
            continue
        arguments = row.arguments
        if row.entry_point == catalog.SINGLE:
            arguments = {"functional": row.id}
        vector = row.vector_entry_point
        gymnasium.register(
            row.id,
            entry_point=f"{MODULE}.{row.entry_point}",
            vector_entry_point=None if vector is None else f"{MODULE}.{vector}",
            max_episode_steps=row.max_episode_steps,
            kwargs=arguments,
        )


def list_environments() -> list[EnvironmentInfo]:
    """The environments that `make` knows by name, and what each of them needs.

    Returns:
        A row each, in the order of the docs: see `EnvironmentInfo`. Its `form` is the
        name, with what varies in angle brackets, `id` the gymnasium id, and `install`
        the pip command of its packages, or None.

    Example:
        >>> for info in keras_agalite.environments.list_environments():
        ...     print(info.form, info.id, info.install)
    """
    return list(ENVIRONMENTS)


def resolve(name: str) -> tuple[str, dict[str, Any]]:
    """The gymnasium id that a name stands for, and the arguments that it holds.

    Args:
        name: As for `make`.

    Returns:
        `(id, arguments)`; `id` may be "module:id".

    Raises:
        ValueError: If the name means nothing; the message lists the legal forms.
    """
    is_text = isinstance(name, str)
    if is_text and (found := catalog.resolve(name)):
        row, arguments = found
        return row.id, arguments
    try:
        if not is_text or name.count(":") > 1:
            raise gymnasium.error.Error("This is no id.")
        if ":" not in name:
            gymnasium.spec(name)
    except gymnasium.error.Error as error:
        forms = ", ".join(row.form for row in ENVIRONMENTS)
        raise ValueError(
            f"`name` must be one of {forms}, a registered gymnasium id, or "
            f'"module:id" where importing the module registers it. '
            f"Received: name={name!r}"
        ) from error
    return name, {}


def make(name: str, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """Makes an environment, as `gymnasium.make` does, by a short name or any id.

    The package of an environment is imported here, not before.

    Args:
        name: A name that `list_environments` lists, such as `tmaze_10`,
            `memory_maze_9x9` or `popgym:RepeatPreviousEasy`; an id that gymnasium
            knows; or "module:id".
        **kwargs: Goes to `gymnasium.make`.

    Returns:
        The environment, with gymnasium's wrappers.

    Raises:
        ValueError: If the name means nothing (the message lists the legal forms), or
            the environment refuses an argument or the render mode.
        ImportError: If a package is missing; the message has the pip command.

    Example:
        >>> env = keras_agalite.environments.make("tmaze_10")
        >>> observation, info = env.reset(seed=0)  # float32 of shape (16,)
    """
    identifier, arguments = resolve(name)
    return gymnasium.make(identifier, **{**arguments, **kwargs})


def make_vec(
    name: str, num_envs: int = 1, **kwargs: Any
) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    """Makes a vector of environments, as `gymnasium.make_vec` does, by name.

    Args:
        name: As for `make`.
        num_envs: Number of environments.
        **kwargs: Goes to `gymnasium.make_vec`.

    Returns:
        A vector that resets a finished environment in the step after its last one. An
        environment that is written in JAX alone gives a `FunctionalVectorEnv`, whose
        environments one compiled program steps; the others give a `SyncVectorEnv`, or
        with `vectorization_mode="async"` an `AsyncVectorEnv`, with a process each.

    Raises:
        ValueError: As `make`, or if `num_envs` is not positive.
        ImportError: If a package is missing; the message has the pip command.

    Example:
        >>> envs = keras_agalite.environments.make_vec("tmaze_10", num_envs=4)
        >>> observations, info = envs.reset(seed=0)  # float32 of shape (4, 16)
    """
    check_num_envs(num_envs)
    identifier, arguments = resolve(name)
    return gymnasium.make_vec(identifier, num_envs, **{**arguments, **kwargs})
