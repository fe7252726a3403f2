"""Memory policies in TF-Agents: networks, a PPO agent, environments, drivers.

TF-Agents runs on Keras 2. It needs the package `tf-keras` and the environment
variable `TF_USE_LEGACY_KERAS=1`, set before Keras is imported; importing this module
first does it.
"""

import importlib.util
import os
import sys

if "keras" not in sys.modules:
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

try:
    import tf_keras
    from tensorflow import keras as _keras_of_tensorflow

    if importlib.util.find_spec("tf_agents") is None:
        raise ModuleNotFoundError("No module named 'tf_agents'")
except ImportError as error:
    raise ImportError(
        "The TF-Agents integration needs TensorFlow, TF-Agents and Keras 2. Install "
        "them with: pip install 'keras-agalite[tf-agents]'"
    ) from error

if _keras_of_tensorflow.layers.Layer is not tf_keras.layers.Layer:
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
