"""Memory policies for partially observable reinforcement learning, in Keras 3.

Importing this registers our gymnasium environments and loads nothing else: names
below are imported when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from keras_agalite import environments as environments
from keras_agalite._version import __version__ as __version__

if TYPE_CHECKING:
    from keras_agalite import convert as convert
    from keras_agalite import export as export
    from keras_agalite import layers as layers
    from keras_agalite import models as models
    from keras_agalite import ops as ops
    from keras_agalite import presets as presets
    from keras_agalite import zoo as zoo
    from keras_agalite.evaluation import evaluate as evaluate
    from keras_agalite.evaluation import rollout as rollout
    from keras_agalite.layers import *  # noqa: F403
    from keras_agalite.models import ELMUR as ELMUR
    from keras_agalite.models import RATE as RATE
    from keras_agalite.models import ConvEncoder as ConvEncoder
    from keras_agalite.models import DecisionTransformer as DecisionTransformer
    from keras_agalite.models import DTMem as DTMem
    from keras_agalite.models import GridEncoder as GridEncoder
    from keras_agalite.models import MemoryPolicy as MemoryPolicy
    from keras_agalite.models import MLPEncoder as MLPEncoder
    from keras_agalite.models import ResNetEncoder as ResNetEncoder
    from keras_agalite.models import ReturnConditionedPolicy as ReturnConditionedPolicy
    from keras_agalite.presets import register as register

_MODULES = ("convert", "export", "layers", "models", "ops", "presets", "zoo")
# Name -> the module that it is in.
_NAMES = {
    "ConvEncoder": "models",
    "DTMem": "models",
    "DecisionTransformer": "models",
    "ELMUR": "models",
    "GridEncoder": "models",
    "MLPEncoder": "models",
    "MemoryPolicy": "models",
    "RATE": "models",
    "ResNetEncoder": "models",
    "ReturnConditionedPolicy": "models",
    "evaluate": "evaluation",
    "register": "presets",
    "rollout": "evaluation",
}


def _layers() -> list[str]:
    """Names of the layers, which their own module lists."""
    layers = vars(importlib.import_module("keras_agalite.layers"))
    return [name for name, value in layers.items() if isinstance(value, type)]


def _all() -> list[str]:
    return ["__version__", "environments", *_MODULES, *_layers(), *_NAMES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"keras_agalite.{name}")
    if name in _NAMES:
        module = importlib.import_module(f"keras_agalite.{_NAMES[name]}")
        return getattr(module, name)
    if name == "__all__":
        return _all()
    # Python looks for names such as __path__ and __wrapped__ here, too.
    if not name.startswith("_") and name in _layers():
        return getattr(importlib.import_module("keras_agalite.layers"), name)
    raise AttributeError(f"module 'keras_agalite' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(_all())
