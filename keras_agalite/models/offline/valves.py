"""Memory retention valves: what RATE keeps of its memory and of what is written.

Cherepanov et al., "Recurrent Action Transformer with Memory", arXiv 2306.09459.
"""

import abc
from typing import Any

import keras
from keras import ops

from keras_agalite.layers.counting import count_dense
from keras_agalite.layers.gru_gate import GRUGate
from keras_agalite.layers.initializers import GlorotUniform, Orthogonal, Zeros
from keras_agalite.layers.recurrent import ForgetBiasInitializer
from keras_agalite.models.offline.parts import Part, by_head, joined, linear
from keras_agalite.ops.segment_attention import segment_attention


class Valve(Part, abc.ABC):
    """Base of the valves.

    Call arguments:
        memory: Tensor of shape `(batch, memory_tokens, hidden_dim)`: what was read.
        written: Tensor of the same shape: the outputs of the write tokens.
        cell: Tensor of the same shape, for a valve with `has_cell`; else None.

    Returns:
        `(memory, cell)`: the new ones, of the same shapes.

    Attributes:
        has_cell: Whether the valve has a state of its own beside the memory.
    """

    has_cell = False

    def __init__(
        self, hidden_dim: int, num_heads: int, activation: str, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim

    @classmethod
    @abc.abstractmethod
    def count_weights(cls, hidden_dim: int) -> int:
        """Number of weights."""

    @abc.abstractmethod
    def build(self, shape: Any = None) -> None:
        """Builds the layers of the valve."""


class _CrossAttention(Valve):
    """Attention between the memory and what is written.

        M' = W_d concat_heads(softmax(q k^T / sqrt(d / heads)) v) + b_d

    The activation is that of the written tokens.
    """

    def __init__(
        self, hidden_dim: int, num_heads: int, activation: str, **kwargs: Any
    ) -> None:
        super().__init__(hidden_dim, num_heads, activation, **kwargs)
        if hidden_dim % num_heads:
            raise ValueError(
                "`valve_heads` must divide `hidden_dim`. Received: valve_heads="
                f"{num_heads}, hidden_dim={hidden_dim}"
            )
        self.num_heads = num_heads
        self.activation = keras.activations.get(activation)
        self.query, self.key, self.value, self.output_layer = (
            linear(hidden_dim, self.dtype_policy, name)
            for name in ("query", "key", "value", "output")
        )

    @classmethod
    def count_weights(cls, hidden_dim: int) -> int:
        return 4 * count_dense(hidden_dim, hidden_dim)

    def build(self, shape: Any = None) -> None:
        for layer in (self.query, self.key, self.value, self.output_layer):
            layer.build((None, self.hidden_dim))

    def attend(self, queries: Any, items: Any) -> Any:
        query, key, value = (
            by_head(layer(x), self.num_heads)
            for layer, x in (
                (self.query, queries),
                (self.key, items),
                (self.value, items),
            )
        )
        visible = ops.ones((1, queries.shape[1], items.shape[1]), dtype="bool")
        return self.output_layer(
            joined(segment_attention(query, key, value, 0.0, visible))
        )


class CrossAttention2Valve(_CrossAttention):
    """MRV-CA-2: the memory asks, what is written answers."""

    def call(self, memory: Any, written: Any, cell: Any) -> tuple[Any, Any]:
        return self.attend(memory, self.activation(written)), cell


class CrossAttention1Valve(_CrossAttention):
    """MRV-CA-1: what is written asks, the memory answers."""

    def call(self, memory: Any, written: Any, cell: Any) -> tuple[Any, Any]:
        return self.attend(self.activation(written), memory), cell


class GateValve(Valve):
    """MRV-G: the gate of GTrXL, with the memory as its stream."""

    def __init__(self, hidden_dim: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(hidden_dim, *args, **kwargs)
        self.gate = GRUGate(name="gate", dtype=self.dtype_policy)

    @classmethod
    def count_weights(cls, hidden_dim: int) -> int:
        return GRUGate.count_weights(hidden_dim)

    def build(self, shape: Any = None) -> None:
        shape = (None, None, self.hidden_dim)
        self.gate.build(shape, shape)

    def call(self, memory: Any, written: Any, cell: Any) -> tuple[Any, Any]:
        return self.gate(memory, written), cell


class GRUValve(Valve):
    """MRV-GRU: a GRU whose state is the memory and whose input is what is written."""

    num_gates, num_biases = 3, 2

    def __init__(self, hidden_dim: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(hidden_dim, *args, **kwargs)
        self.cell = self.make_cell(
            units=hidden_dim,
            kernel_initializer=GlorotUniform(),
            recurrent_initializer=Orthogonal(),
            name="cell",
            dtype=self.dtype_policy,
        )

    @staticmethod
    def make_cell(**kwargs: Any) -> Any:
        return keras.layers.GRUCell(bias_initializer=Zeros(), **kwargs)

    @classmethod
    def count_weights(cls, hidden_dim: int) -> int:
        return cls.num_gates * hidden_dim * (2 * hidden_dim + cls.num_biases)

    def build(self, shape: Any = None) -> None:
        self.cell.build((None, self.hidden_dim))

    def call(self, memory: Any, written: Any, cell: Any) -> tuple[Any, Any]:
        flat = [ops.reshape(x, (-1, self.hidden_dim)) for x in (written, memory)]
        _, states = self.cell(flat[0], flat[1:])
        return ops.reshape(states[0], ops.shape(memory)), cell


class LSTMValve(GRUValve):
    """MRV-LSTM: an LSTM whose h is the memory and whose input is what is written."""

    num_gates, num_biases = 4, 1
    has_cell = True

    @staticmethod
    def make_cell(**kwargs: Any) -> Any:
        return keras.layers.LSTMCell(
            bias_initializer=ForgetBiasInitializer(), unit_forget_bias=False, **kwargs
        )

    def call(self, memory: Any, written: Any, cell: Any) -> tuple[Any, Any]:
        flat = [ops.reshape(x, (-1, self.hidden_dim)) for x in (written, memory, cell)]
        _, states = self.cell(flat[0], flat[1:])
        memory, cell = (ops.reshape(x, ops.shape(memory)) for x in states)
        return memory, cell


class NoValve(Valve):
    """What is written is the new memory, as in the Recurrent Memory Transformer.

    Bulatov et al., "Recurrent Memory Transformer", NeurIPS 2022, arXiv 2207.06881.
    """

    @classmethod
    def count_weights(cls, hidden_dim: int) -> int:
        return 0

    def build(self, shape: Any = None) -> None:
        pass

    def call(self, memory: Any, written: Any, cell: Any) -> tuple[Any, Any]:
        return written, cell


VALVES: dict[str, type[Valve]] = {
    "ca2": CrossAttention2Valve,
    "ca1": CrossAttention1Valve,
    "gate": GateValve,
    "gru": GRUValve,
    "lstm": LSTMValve,
    "none": NoValve,
}
