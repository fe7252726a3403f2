"""Memory layers: cells that take one step and layers that take whole sequences."""

from keras_agalite.layers.catalog import *  # noqa: F403
from keras_agalite.layers.gru_gate import GRUGate as GRUGate
from keras_agalite.layers.sequence_memory import ConfiguredMemory as ConfiguredMemory
