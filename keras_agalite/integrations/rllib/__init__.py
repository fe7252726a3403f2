"""Memory policies in Ray's RLlib: modules for PPO, IMPALA and APPO, and presets.

RLlib trains with PyTorch. It needs KERAS_BACKEND=torch, set before Keras is imported;
importing this module first does it, also in the processes that Ray starts.
"""

import importlib.util
import os
import sys

if "keras" not in sys.modules:
    os.environ.setdefault("KERAS_BACKEND", "torch")

if any(importlib.util.find_spec(name) is None for name in ("ray", "torch")):
    raise ImportError(
        "The RLlib integration needs Ray and PyTorch. Install them with: "
        "pip install 'keras-agalite[rllib]'"
    )

from keras_agalite.integrations.rllib.checkpoint import (
    save_checkpoint_as_preset as save_checkpoint_as_preset,
)
from keras_agalite.integrations.rllib.module import (
    MemoryAPPOModule as MemoryAPPOModule,
)
from keras_agalite.integrations.rllib.module import MemoryRLModule as MemoryRLModule
from keras_agalite.integrations.rllib.spec import (
    memory_module_spec as memory_module_spec,
)
from keras_agalite.integrations.rllib.spec import use_memory_policy as use_memory_policy
