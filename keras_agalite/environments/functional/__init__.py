"""Environments as pure functions, for programs that JAX compiles whole.

Importing this loads nothing: the names below import JAX, whatever backend Keras runs
on, when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_agalite.environments.functional.batch import EnvStates as EnvStates
    from keras_agalite.environments.functional.batch import Transition as Transition
    from keras_agalite.environments.functional.batch import reset_envs as reset_envs
    from keras_agalite.environments.functional.batch import step_envs as step_envs
    from keras_agalite.environments.functional.craftax import Craftax as Craftax
    from keras_agalite.environments.functional.gymnax import Gymnax as Gymnax
    from keras_agalite.environments.functional.gymnax import MemoryChain as MemoryChain
    from keras_agalite.environments.functional.hidden_goal import (
        HiddenGoal as HiddenGoal,
    )
    from keras_agalite.environments.functional.passive_tmaze import (
        PassiveTMaze as PassiveTMaze,
    )
    from keras_agalite.environments.functional.point_mass import (
        PointMass as PointMass,
    )
    from keras_agalite.environments.functional.protocol import (
        FunctionalEnv as FunctionalEnv,
    )
    from keras_agalite.environments.functional.protocol import TaskFamily as TaskFamily
    from keras_agalite.environments.functional.protocol import (
        TeacherTargets as TeacherTargets,
    )
    from keras_agalite.environments.functional.registry import (
        has_functional as has_functional,
    )
    from keras_agalite.environments.functional.registry import (
        make_functional as make_functional,
    )
    from keras_agalite.environments.functional.repeat import RepeatFirst as RepeatFirst
    from keras_agalite.environments.functional.repeat import (
        RepeatPrevious as RepeatPrevious,
    )
    from keras_agalite.environments.functional.tmaze import TMaze as TMaze
    from keras_agalite.environments.functional.trials import Trial as Trial
    from keras_agalite.environments.functional.wrappers import (
        PreviousActionReward as PreviousActionReward,
    )
    from keras_agalite.environments.functional_vector import (
        FunctionalSingleEnv as FunctionalSingleEnv,
    )
    from keras_agalite.environments.functional_vector import (
        FunctionalVectorEnv as FunctionalVectorEnv,
    )

_PACKAGE = "keras_agalite.environments"
_SOURCES = {
    "Craftax": "functional.craftax",
    "EnvStates": "functional.batch",
    "FunctionalEnv": "functional.protocol",
    "FunctionalSingleEnv": "functional_vector",
    "FunctionalVectorEnv": "functional_vector",
    "Gymnax": "functional.gymnax",
    "HiddenGoal": "functional.hidden_goal",
    "MemoryChain": "functional.gymnax",
    "PassiveTMaze": "functional.passive_tmaze",
    "PointMass": "functional.point_mass",
    "PreviousActionReward": "functional.wrappers",
    "RepeatFirst": "functional.repeat",
    "RepeatPrevious": "functional.repeat",
    "TMaze": "functional.tmaze",
    "TaskFamily": "functional.protocol",
    "TeacherTargets": "functional.protocol",
    "Transition": "functional.batch",
    "Trial": "functional.trials",
    "has_functional": "functional.registry",
    "make_functional": "functional.registry",
    "reset_envs": "functional.batch",
    "step_envs": "functional.batch",
}

__all__ = [*_SOURCES]


def __getattr__(name: str) -> Any:
    if name in _SOURCES:
        module = importlib.import_module(f"{_PACKAGE}.{_SOURCES[name]}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
