"""Functional environments by name."""

import importlib
from typing import Any

from keras_agalite.environments import catalog
from keras_agalite.environments._packages import is_installed, require
from keras_agalite.environments.functional.protocol import FunctionalEnv, check_limit

PACKAGE = "keras_agalite.environments.functional"


def make_functional(
    name: str, /, max_episode_steps: int | None = None, **kwargs: Any
) -> FunctionalEnv:
    """Makes a functional environment, by the name that `environments.make` takes.

    Args:
        name: A name of `environments.list_environments` whose row has a `functional`
            form, such as `tmaze_10`, `craftax_symbolic` or `gymnax:CartPole-v1`; or
            the gymnasium id of one.
        max_episode_steps: Time limit; the environment's own if None.
        **kwargs: Goes to the environment's class.

    Returns:
        The environment.

    Raises:
        ValueError: If no functional environment has the name (the message lists the
            legal forms), or the environment refuses an argument.
        ImportError: If a package is missing; the message has the pip command.

    Example:
        >>> env = keras_agalite.environments.functional.make_functional("tmaze_10")
        >>> state = env.reset(jax.random.key(0))
    """
    found = catalog.resolve(name)
    if found is None or found[0].functional is None:
        rows = [row for row in catalog.ENVIRONMENTS if row.functional]
        raise ValueError(
            f"`name` must be one of {', '.join(row.form for row in rows)}, or the "
            f"gymnasium id of one. Received: name={name!r}"
        )
    row, arguments = found
    if not is_installed("jax"):  # so that the class cannot even be imported
        require(name, row.requirement or "jax")
    module, _, kind = str(row.functional).partition(":")
    make = getattr(importlib.import_module(f"{PACKAGE}.{module}"), kind)
    if row.entry_point == catalog.SINGLE:
        arguments = {**row.arguments, **arguments}
    env: FunctionalEnv = make(**{**arguments, **kwargs})
    if max_episode_steps is not None:
        check_limit(max_episode_steps)
        env.max_episode_steps = max_episode_steps
    return env


def has_functional(name: str) -> bool:
    """Whether `make_functional` knows a name.

    Args:
        name: Any name; what is known of it is the catalog's, so nothing is imported.

    Returns:
        A bool.

    Example:
        >>> has_functional("tmaze_10"), has_functional("memory_maze_9x9")
        (True, False)
    """
    found = catalog.resolve(name)
    return found is not None and found[0].functional is not None
