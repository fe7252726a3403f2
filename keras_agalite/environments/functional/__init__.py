"""Environments as pure functions, for programs that JAX compiles whole.

Importing this loads nothing: the names below import JAX, whatever backend Keras runs
on, when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_agalite.environments.functional.craftax import Craftax as Craftax
    from keras_agalite.environments.functional.gymnax import Gymnax as Gymnax
    from keras_agalite.environments.functional.gymnax import MemoryChain as MemoryChain
    from keras_agalite.environments.functional.protocol import (
        FunctionalEnv as FunctionalEnv,
    )
    from keras_agalite.environments.functional.registry import (
        make_functional as make_functional,
    )
    from keras_agalite.environments.functional.repeat import RepeatFirst as RepeatFirst
    from keras_agalite.environments.functional.repeat import (
        RepeatPrevious as RepeatPrevious,
    )
    from keras_agalite.environments.functional.tmaze import TMaze as TMaze
    from keras_agalite.environments.functional.vector import (
        FunctionalSingleEnv as FunctionalSingleEnv,
    )
    from keras_agalite.environments.functional.vector import (
        FunctionalVectorEnv as FunctionalVectorEnv,
    )
    from keras_agalite.environments.functional.worlds import Transition as Transition
    from keras_agalite.environments.functional.worlds import Worlds as Worlds
    from keras_agalite.environments.functional.worlds import (
        reset_worlds as reset_worlds,
    )
    from keras_agalite.environments.functional.worlds import step_worlds as step_worlds
    from keras_agalite.environments.functional.wrappers import (
        PreviousActionReward as PreviousActionReward,
    )

_SOURCES = {
    "Craftax": "craftax",
    "FunctionalEnv": "protocol",
    "FunctionalSingleEnv": "vector",
    "FunctionalVectorEnv": "vector",
    "Gymnax": "gymnax",
    "MemoryChain": "gymnax",
    "PreviousActionReward": "wrappers",
    "RepeatFirst": "repeat",
    "RepeatPrevious": "repeat",
    "TMaze": "tmaze",
    "Transition": "worlds",
    "Worlds": "worlds",
    "make_functional": "registry",
    "reset_worlds": "worlds",
    "step_worlds": "worlds",
}

__all__ = [*_SOURCES]


def __getattr__(name: str) -> Any:
    if name in _SOURCES:
        module = importlib.import_module(f"{__name__}.{_SOURCES[name]}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
