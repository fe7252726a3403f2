"""Policies for known environments: `keras_agalite.zoo.memory_maze_policy()`.

Building a policy never imports its environment's package.
"""

from keras_agalite.zoo.policies import PolicyInfo as PolicyInfo
from keras_agalite.zoo.policies import craftax_policy as craftax_policy
from keras_agalite.zoo.policies import list_policies as list_policies
from keras_agalite.zoo.policies import memory_chain_policy as memory_chain_policy
from keras_agalite.zoo.policies import memory_maze_policy as memory_maze_policy
from keras_agalite.zoo.policies import minigrid_memory_policy as minigrid_memory_policy
from keras_agalite.zoo.policies import mortar_mayhem_policy as mortar_mayhem_policy
from keras_agalite.zoo.policies import (
    mujoco_positions_policy as mujoco_positions_policy,
)
from keras_agalite.zoo.policies import mystery_path_policy as mystery_path_policy
from keras_agalite.zoo.policies import offline_policy as offline_policy
from keras_agalite.zoo.policies import popgym_policy as popgym_policy
from keras_agalite.zoo.policies import (
    searing_spotlights_policy as searing_spotlights_policy,
)
from keras_agalite.zoo.policies import tmaze_policy as tmaze_policy
from keras_agalite.zoo.policies import trials_policy as trials_policy
from keras_agalite.zoo.policies import (
    vizdoom_two_colors_policy as vizdoom_two_colors_policy,
)
from keras_agalite.zoo.specs import PolicySpec as PolicySpec
from keras_agalite.zoo.specs import find_spec as find_spec
