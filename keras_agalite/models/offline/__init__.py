"""Policies that learn from recordings, without an environment."""

from keras_agalite.models.offline.decision_transformer import (
    DecisionTransformer as DecisionTransformer,
)
from keras_agalite.models.offline.dt_mem import DTMem as DTMem
from keras_agalite.models.offline.elmur import ELMUR as ELMUR
from keras_agalite.models.offline.rate import RATE as RATE
from keras_agalite.models.offline.recurrent import (
    ReturnConditionedPolicy as ReturnConditionedPolicy,
)
