"""Policies: encoders, action heads, MemoryPolicy and its presets."""

from keras_agalite.models.encoders import ConvEncoder as ConvEncoder
from keras_agalite.models.encoders import Encoder as Encoder
from keras_agalite.models.encoders import GridEncoder as GridEncoder
from keras_agalite.models.encoders import MLPEncoder as MLPEncoder
from keras_agalite.models.encoders import ResNetEncoder as ResNetEncoder
from keras_agalite.models.policy import MemoryPolicy as MemoryPolicy
from keras_agalite.models.policy import PolicyOutput as PolicyOutput
