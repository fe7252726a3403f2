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
    from keras_agalite import zoo as zoo
    from keras_agalite.evaluation import evaluate as evaluate
    from keras_agalite.evaluation import rollout as rollout
    from keras_agalite.layers import GRU as GRU
    from keras_agalite.layers import LRU as LRU
    from keras_agalite.layers import LSTM as LSTM
    from keras_agalite.layers import AGaLiTe as AGaLiTe
    from keras_agalite.layers import AGaLiTeCell as AGaLiTeCell
    from keras_agalite.layers import FastForgetfulMemory as FastForgetfulMemory
    from keras_agalite.layers import FastForgetfulMemoryCell as FastForgetfulMemoryCell
    from keras_agalite.layers import GaLiTe as GaLiTe
    from keras_agalite.layers import GaLiTeCell as GaLiTeCell
    from keras_agalite.layers import GatedDeltaNet as GatedDeltaNet
    from keras_agalite.layers import GatedDeltaNetCell as GatedDeltaNetCell
    from keras_agalite.layers import GTrXL as GTrXL
    from keras_agalite.layers import GTrXLCell as GTrXLCell
    from keras_agalite.layers import LRUCell as LRUCell
    from keras_agalite.layers import Memoryless as Memoryless
    from keras_agalite.layers import MemoryRNN as MemoryRNN
    from keras_agalite.layers import MinGRU as MinGRU
    from keras_agalite.layers import MinGRUCell as MinGRUCell
    from keras_agalite.layers import StableHadamardMemory as StableHadamardMemory
    from keras_agalite.layers import (
        StableHadamardMemoryCell as StableHadamardMemoryCell,
    )
    from keras_agalite.models import ConvEncoder as ConvEncoder
    from keras_agalite.models import GridEncoder as GridEncoder
    from keras_agalite.models import MemoryPolicy as MemoryPolicy
    from keras_agalite.models import MLPEncoder as MLPEncoder
    from keras_agalite.models import ResNetEncoder as ResNetEncoder

_MODULES = ("convert", "export", "layers", "models", "ops", "zoo")
_NAMES = {
    "evaluation": ("evaluate", "rollout"),
    "layers": (
        "AGaLiTe",
        "AGaLiTeCell",
        "FastForgetfulMemory",
        "FastForgetfulMemoryCell",
        "GRU",
        "GTrXL",
        "GTrXLCell",
        "GaLiTe",
        "GaLiTeCell",
        "GatedDeltaNet",
        "GatedDeltaNetCell",
        "LRU",
        "LRUCell",
        "LSTM",
        "MemoryRNN",
        "Memoryless",
        "MinGRU",
        "MinGRUCell",
        "StableHadamardMemory",
        "StableHadamardMemoryCell",
    ),
    "models": (
        "ConvEncoder",
        "GridEncoder",
        "MLPEncoder",
        "MemoryPolicy",
        "ResNetEncoder",
    ),
}
_SOURCES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = ["__version__", "environments", *_MODULES, *_SOURCES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"keras_agalite.{name}")
    if name in _SOURCES:
        module = importlib.import_module(f"keras_agalite.{_SOURCES[name]}")
        return getattr(module, name)
    raise AttributeError(f"module 'keras_agalite' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
