"""The block that AGaLiTe, GaLiTe and GTrXL share: attention, gates, feed-forward.

Parisotto et al., "Stabilizing Transformers for Reinforcement Learning", ICML 2020.
"""

import abc
import functools
from typing import Any

from keras import ops

from keras_agalite.layers.block_cell import Block
from keras_agalite.layers.counting import count_dense
from keras_agalite.layers.gru_gate import GRUGate
from keras_agalite.layers.initializers import RELU_GAIN, Orthogonal


class GatedBlock(Block):
    """Attention and a feed-forward, each gated into the stream.

        e = activation(W_emb x)                (with `embed`, else e = x)
        h = gate(e, relu(W_o attention(e)))
        y = gate(h, relu(W_2 relu(W_1 LN(h))))

    A subclass makes the layers of its attention between `super().__init__` and
    `add_feedforward`, sets `state_size`, and writes `build_attention`,
    `count_attention` and `attend`, in which it normalises with `attention_norm`.

    Args:
        hidden_dim: Width of the stream.
        num_heads: Number of heads.
        head_dim: Width of one head.
        embed: Whether a dense layer brings the inputs to the width of the stream.
        **kwargs: Arguments of `Block`.

    Call arguments and returns: as in `Block`.
    """

    embedding_activation: str | None = "relu"
    kernel_initializer = staticmethod(functools.partial(Orthogonal, RELU_GAIN))

    def __init__(
        self, hidden_dim: int, num_heads: int, head_dim: int, embed: bool, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.embedding = None
        if embed:
            self.embedding = self.dense(
                hidden_dim, "embedding", self.embedding_activation
            )
        self.attention_norm = self.norm("attention_norm")

    def add_feedforward(self, intermediate_dim: int) -> None:
        """Makes all that comes after the attention."""
        self.attention_output = self.dense(self.hidden_dim, "attention_output", "relu")
        self.attention_gate = self.gate("attention_gate")
        self.feedforward_norm = self.norm("feedforward_norm")
        self.feedforward_intermediate = self.dense(
            intermediate_dim, "feedforward_intermediate", "relu"
        )
        self.feedforward_output = self.dense(
            self.hidden_dim, "feedforward_output", "relu"
        )
        self.feedforward_gate = self.gate("feedforward_gate")

    def gate(self, name: str) -> GRUGate:
        return GRUGate(
            name=name,
            dtype=self.dtype_policy,
            saved_activations=self.saved_activations,
        )

    def build(
        self,
        inputs_shape: Any,
        state_shape: Any = None,
        start_shape: Any = None,
    ) -> None:
        hidden = (*inputs_shape[:-1], self.hidden_dim)
        attended = (*inputs_shape[:-1], self.num_heads * self.head_dim)
        if self.embedding is not None:
            self.embedding.build(inputs_shape)
        self.attention_norm.build(hidden)
        self.build_attention(hidden)
        self.attention_output.build(attended)
        self.attention_gate.build(hidden, hidden)
        self.feedforward_norm.build(hidden)
        self.feedforward_intermediate.build(hidden)
        self.feedforward_output.build(
            (*inputs_shape[:-1], self.feedforward_intermediate.units)
        )
        self.feedforward_gate.build(hidden, hidden)

    @classmethod
    def count_weights(cls, features: int, **config: Any) -> int:
        hidden_dim, intermediate_dim = config["hidden_dim"], config["intermediate_dim"]
        return (
            config["embed"] * count_dense(features, hidden_dim)
            + 2 * (cls.count_norm(hidden_dim) + GRUGate.count_weights(hidden_dim))
            + cls.count_attention(**config)
            + count_dense(config["num_heads"] * config["head_dim"], hidden_dim)
            + count_dense(hidden_dim, intermediate_dim)
            + count_dense(intermediate_dim, hidden_dim)
        )

    @abc.abstractmethod
    def build_attention(self, shape: Any) -> None:
        """Builds the layers of the attention for inputs of this shape."""

    @classmethod
    @abc.abstractmethod
    def count_attention(
        cls, hidden_dim: int, num_heads: int, head_dim: int, **config: Any
    ) -> int:
        """Number of weights that `build_attention` makes."""

    @abc.abstractmethod
    def attend(self, x: Any, state: Any, start: Any, mask: Any) -> tuple[Any, Any]:
        """Returns what the heads read, `(batch, time, heads, head_dim)`, and a
        state. Takes what the cell gives to all its blocks, too, if there is such."""

    def call(
        self,
        inputs: Any,
        state: Any,
        start: Any = None,
        mask: Any = None,
        **shared: Any,
    ) -> Any:
        x = inputs if self.embedding is None else self.embedding(inputs)
        attended, state = self.attend(x, state, start, mask, **shared)
        return self.update(x, attended), state

    def update(self, x: Any, attended: Any) -> Any:
        """Gates the attention, then the feed-forward into the stream."""
        batch, length = ops.shape(attended)[:2]
        attended = ops.reshape(
            attended, (batch, length, self.num_heads * self.head_dim)
        )
        attended = ops.cast(attended, self.compute_dtype)
        x = self.attention_gate(x, self.attention_output(attended))
        update = self.feedforward_intermediate(self.feedforward_norm(x))
        return self.feedforward_gate(x, self.feedforward_output(update))
