"""Mathematics of the memories as pure functions on any Keras backend."""

from keras_agalite.ops.galite_attention import galite_attention as galite_attention
from keras_agalite.ops.galite_attention import galite_state_size as galite_state_size
from keras_agalite.ops.gated_delta_rule import gated_delta_rule as gated_delta_rule
from keras_agalite.ops.gated_linear_attention import (
    agalite_attention as agalite_attention,
)
from keras_agalite.ops.gated_linear_attention import (
    agalite_state_size as agalite_state_size,
)
from keras_agalite.ops.hadamard_memory import hadamard_memory as hadamard_memory
from keras_agalite.ops.linear_recurrence import linear_recurrence as linear_recurrence
from keras_agalite.ops.relative_attention import (
    relative_attention as relative_attention,
)
