"""Memory policies in TF-Agents: networks, a PPO agent, environments, drivers.

TF-Agents runs on Keras 2. It needs the package `tf-keras` and the environment
variable `TF_USE_LEGACY_KERAS=1`, set before Keras is imported; importing this module
first does it.
"""

import os
import sys

if "keras" not in sys.modules:
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

try:
    import tf_agents  # noqa: F401
    import tf_keras  # noqa: F401
    from tensorflow import keras as _keras_of_tensorflow
except ImportError as error:
    raise ImportError(
        "The TF-Agents integration needs TensorFlow, TF-Agents and Keras 2. Install "
        "them with: pip install 'keras-agalite[tf-agents]'"
    ) from error

if not _keras_of_tensorflow.layers.Layer.__module__.startswith("tf_keras"):
    raise ImportError(
        "TF-Agents runs on Keras 2, but TensorFlow has loaded Keras 3. Set the "
        "environment variable TF_USE_LEGACY_KERAS=1 before Keras is imported, or "
        "import keras_agalite.integrations.tf_agents before keras."
    )

from keras_agalite.integrations.tf_agents.environment import (
    GymnasiumEnvironment as GymnasiumEnvironment,
)
from keras_agalite.integrations.tf_agents.networks import (
    ActorNetwork as ActorNetwork,
)
from keras_agalite.integrations.tf_agents.networks import (
    ValueNetwork as ValueNetwork,
)
from keras_agalite.integrations.tf_agents.ppo_agent import (
    MemoryPPOAgent as MemoryPPOAgent,
)
from keras_agalite.integrations.tf_agents.py_policy import (
    MemoryPyPolicy as MemoryPyPolicy,
)
