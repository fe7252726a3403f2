"""Functional environments behind gymnasium's door. JAX is imported when one is made."""

import functools
from typing import Any, NamedTuple

from keras_agalite.environments._packages import require
from keras_agalite.environments.functional.protocol import FunctionalEnv
from keras_agalite.environments.functional.vector import (
    FunctionalSingleEnv,
    FunctionalVectorEnv,
    check_num_envs,
)
from keras_agalite.environments.memory_maze import STEPS


class Entry(NamedTuple):
    """An environment that is functional.

    Attributes:
        own: Its gymnasium id after "keras_agalite/".
        target: "module:class" in `keras_agalite.environments.functional`.
        arguments: The arguments of the class.
        steps: gymnasium's time limit; None where the environment knows it better.
    """

    own: str
    target: str
    arguments: dict[str, Any]
    steps: int | None


def _list_entries() -> dict[str, Entry]:
    entries = {"memory_chain": Entry("MemoryChain-v0", "gymnax:MemoryChain", {}, None)}
    for level, decks in {"easy": 1, "medium": 8, "hard": 16}.items():
        own, arguments = f"RepeatFirst-{level.title()}-v0", {"num_decks": decks}
        entry = Entry(own, "repeat:RepeatFirst", arguments, 52 * decks)
        entries[f"repeat_first_{level}"] = entry
    for level, k, decks in (("easy", 4, 1), ("medium", 32, 2), ("hard", 64, 3)):
        own, arguments = f"RepeatPrevious-{level.title()}-v0", {"k": k}
        arguments["num_decks"] = decks
        entry = Entry(own, "repeat:RepeatPrevious", arguments, 52 * decks)
        entries[f"repeat_previous_{level}"] = entry
    for size, steps in STEPS.items():
        own, target = f"FastMemoryMaze-{size}-v0", "memory_maze:MemoryMaze"
        entries[f"fast_memory_maze_{size}"] = Entry(own, target, {"size": size}, steps)
    return entries


# Those that exist as functions alone, by short name; the registry gives them ids.
ENTRIES = _list_entries()
# Any environment of gymnax, by the argument `name`.
GYMNAX = Entry("Gymnax-v0", "gymnax:Gymnax", {}, None)


@functools.lru_cache(maxsize=16, typed=True)
def _remember(name: str, /, **arguments: Any) -> FunctionalEnv:
    from keras_agalite.environments.functional.registry import make_functional

    return make_functional(name, **arguments)


def share(name: str, /, **arguments: Any) -> FunctionalEnv:
    """A functional environment that all who ask alike share, and what it compiled."""
    require(name, ("jax",), "pip install jax")
    try:
        hash(tuple(arguments.values()))
    except TypeError:
        return _remember.__wrapped__(name, **arguments)
    return _remember(name, **arguments)


def make_single(
    functional: str, render_mode: str | None = None, **arguments: Any
) -> FunctionalSingleEnv:
    """The entry point of a single environment.

    Args:
        functional: Name that `make_functional` knows.
        render_mode: As for `FunctionalSingleEnv`.
        **arguments: Goes to `make_functional`.
    """
    return FunctionalSingleEnv(share(functional, **arguments), render_mode=render_mode)


def make_vector(
    functional: str,
    num_envs: int = 1,
    max_episode_steps: int | None = None,
    render_mode: None = None,
    **arguments: Any,
) -> FunctionalVectorEnv:
    """The entry point of a vector of environments; arguments as above."""
    check_num_envs(num_envs)
    env = share(functional, **arguments)
    return FunctionalVectorEnv(env, num_envs, max_episode_steps, render_mode)
