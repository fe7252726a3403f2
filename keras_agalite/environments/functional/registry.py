"""Functional environments by name."""

import importlib
from typing import Any

from keras_agalite.environments import _functional
from keras_agalite.environments import registry as gymnasium_registry
from keras_agalite.environments.functional.protocol import FunctionalEnv
from keras_agalite.environments.functional.vector import check_limit

MODULE = "keras_agalite.environments.functional"
# gymnasium id -> module, class and arguments.
TARGETS: dict[str, tuple[str, dict[str, Any]]] = {
    "keras_agalite/TMaze-v0": ("tmaze:TMaze", {}),
    **{
        f"keras_agalite/{name}": ("craftax:Craftax", {"name": name})
        for name, _ in gymnasium_registry.CRAFTAX.values()
    },
    **{
        f"keras_agalite/{entry.own}": (entry.target, entry.arguments)
        for entry in (*_functional.ENTRIES.values(), _functional.GYMNAX)
    },
}


def make_functional(
    name: str, /, max_episode_steps: int | None = None, **kwargs: Any
) -> FunctionalEnv:
    """Makes a functional environment, by the name that `environments.make` takes.

    Args:
        name: `tmaze`, `tmaze_<corridor length>`, `craftax`, `craftax_symbolic`,
            `craftax_classic_symbolic`, `memory_chain`, `repeat_first_easy`,
            `repeat_previous_easy` (or medium, hard), `fast_memory_maze_9x9` (11x11,
            13x13, 15x15), `gymnax:<name in gymnax>`; or the gymnasium id of one.
        max_episode_steps: Time limit; the environment's own if None.
        **kwargs: Goes to the environment's class.

    Raises:
        ValueError: If no functional environment has the name; the message lists the
            legal forms.
        ImportError: If a package is missing; the message has the pip command.

    Example:
        >>> env = make_functional("tmaze_10")
    """
    target, arguments = _find(name)
    module, _, own = target.partition(":")
    make = getattr(importlib.import_module(f"{MODULE}.{module}"), own)
    env: FunctionalEnv = make(**{**arguments, **kwargs})
    if max_episode_steps is not None:
        check_limit(max_episode_steps)
        env.max_episode_steps = max_episode_steps
    return env


def _find(name: str) -> tuple[str, dict[str, Any]]:
    try:
        identifier, arguments = gymnasium_registry.resolve(
            name.removeprefix(f"{gymnasium_registry.MODULE}:")
        )
        target, fixed = TARGETS[identifier]
    except (KeyError, ValueError) as error:
        names = {
            identifier: name for name, identifier in gymnasium_registry.NAMES.items()
        }
        shorts = [names[identifier] for identifier in TARGETS if identifier in names]
        forms = ", ".join(
            [*shorts, "craftax", "tmaze_<corridor length>", "gymnax:<name in gymnax>"]
        )
        raise ValueError(
            f"`name` must be one of {forms}, or the gymnasium id of one. "
            f"Received: name={name!r}"
        ) from error
    return target, {**fixed, **arguments}


def has_functional(name: str) -> bool:
    """Whether `make_functional` knows the name."""
    try:
        _find(name)
    except ValueError:
        return False
    return True
