"""Environments as pure functions, for programs that JAX compiles whole.

Importing this imports JAX, whatever backend Keras runs on.
"""

from keras_agalite.environments.functional.protocol import (
    FunctionalEnv as FunctionalEnv,
)
from keras_agalite.environments.functional.tmaze import TMaze as TMaze
from keras_agalite.environments.functional.worlds import Transition as Transition
from keras_agalite.environments.functional.worlds import Worlds as Worlds
from keras_agalite.environments.functional.worlds import reset_worlds as reset_worlds
from keras_agalite.environments.functional.worlds import step_worlds as step_worlds
from keras_agalite.environments.functional.wrappers import (
    PreviousActionReward as PreviousActionReward,
)
