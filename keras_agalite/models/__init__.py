"""Policies: encoders, action heads and MemoryPolicy."""

from keras_agalite.models.action_heads import ActionHead as ActionHead
from keras_agalite.models.action_heads import BoxHead as BoxHead
from keras_agalite.models.action_heads import DiscreteHead as DiscreteHead
from keras_agalite.models.action_heads import MultiBinaryHead as MultiBinaryHead
from keras_agalite.models.action_heads import MultiDiscreteHead as MultiDiscreteHead
from keras_agalite.models.base import Policy as Policy
from keras_agalite.models.base import PolicyOutput as PolicyOutput
from keras_agalite.models.encoders import ConvEncoder as ConvEncoder
from keras_agalite.models.encoders import Encoder as Encoder
from keras_agalite.models.encoders import GridEncoder as GridEncoder
from keras_agalite.models.encoders import MLPEncoder as MLPEncoder
from keras_agalite.models.encoders import ResNetEncoder as ResNetEncoder
from keras_agalite.models.memory_allocator import (
    AdaptiveMemoryAllocator as AdaptiveMemoryAllocator,
)
from keras_agalite.models.memory_allocator import with_strategy as with_strategy
from keras_agalite.models.offline import ELMUR as ELMUR
from keras_agalite.models.offline import RATE as RATE
from keras_agalite.models.offline import DecisionTransformer as DecisionTransformer
from keras_agalite.models.offline import DTMem as DTMem
from keras_agalite.models.offline import (
    ReturnConditionedPolicy as ReturnConditionedPolicy,
)
from keras_agalite.models.policy import MemoryPolicy as MemoryPolicy
