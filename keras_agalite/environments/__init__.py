"""Gymnasium environments of our own, and wrappers.

Importing this leaves keras and every backend unloaded, so that environment workers
stay small. `import keras_agalite` registers the ids; without it, name the module:
`gymnasium.make("keras_agalite.environments:keras_agalite/TMaze-v0")`.
"""

import gymnasium

from keras_agalite.environments.tmaze import TMaze as TMaze
from keras_agalite.environments.wrappers import (
    PreviousActionReward as PreviousActionReward,
)

if "keras_agalite/TMaze-v0" not in gymnasium.registry:
    gymnasium.register(
        "keras_agalite/TMaze-v0",
        entry_point="keras_agalite.environments.tmaze:TMaze",
        max_episode_steps=1000,
    )
