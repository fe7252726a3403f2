"""Gymnasium environments of our own, other people's behind one door, and wrappers.

Importing this leaves keras, every backend and every environment's package unloaded,
so that environment workers stay small. `import keras_agalite` registers the ids;
without it, name the module:
`gymnasium.make("keras_agalite.environments:keras_agalite/TMaze-v0")`.
"""

from keras_agalite.environments import functional as functional
from keras_agalite.environments import registry as registry
from keras_agalite.environments.catalog import EnvironmentInfo as EnvironmentInfo
from keras_agalite.environments.passive_tmaze import PassiveTMaze as PassiveTMaze
from keras_agalite.environments.registry import list_environments as list_environments
from keras_agalite.environments.registry import make as make
from keras_agalite.environments.registry import make_vec as make_vec
from keras_agalite.environments.tmaze import TMaze as TMaze
from keras_agalite.environments.wrappers import (
    PreviousActionReward as PreviousActionReward,
)
from keras_agalite.environments.wrappers import Trial as Trial

registry.register()
