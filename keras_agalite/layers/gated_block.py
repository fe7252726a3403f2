"""What AGaLiTe, GaLiTe and GTrXL share: gated blocks, their cell, their layer.

Parisotto et al., "Stabilizing Transformers for Reinforcement Learning", ICML 2020.
"""

from typing import Any

import keras
from keras import ops

from keras_agalite.layers.gru_gate import GRUGate, orthogonal
from keras_agalite.layers.sequence_memory import check_sizes


class GatedBlock(keras.layers.Layer):
    """Attention and a feed-forward, each gated into the stream.

        e = activation(W_emb x)                (with `embed`, else e = x)
        h = gate(e, relu(W_o attention(e)))
        y = gate(h, relu(W_2 relu(W_1 LN(h))))

    A subclass makes the layers of its attention between `super().__init__` and
    `add_feedforward`, sets `state_size`, and writes `build_attention` and `attend`
    (or `call`), in which it normalises with `attention_norm`.
    """

    embedding_activation: str | None = "relu"
    state_size: int

    def __init__(
        self, hidden_dim: int, num_heads: int, head_dim: int, embed: bool, **kwargs: Any
    ) -> None:
        # The state keeps its own dtype; the parts below cast their own inputs.
        kwargs["autocast"] = False
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.supports_masking = True
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

    def dense(
        self,
        units: int,
        name: str,
        activation: str | None = None,
        initializer: Any = None,
    ) -> Any:
        return keras.layers.Dense(
            units,
            activation,
            kernel_initializer=initializer or orthogonal(),
            name=name,
            dtype=self.dtype_policy,
        )

    def norm(self, name: str) -> Any:
        return keras.layers.LayerNormalization(
            epsilon=1e-6, name=name, dtype=self.dtype_policy
        )

    def gate(self, name: str) -> GRUGate:
        return GRUGate(name=name, dtype=self.dtype_policy)

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

    def build_attention(self, shape: Any) -> None:
        raise NotImplementedError

    def attend(self, x: Any, state: Any, start: Any, mask: Any) -> Any:
        """Returns what the heads read, `(batch, time, heads, head_dim)`, and a
        state."""
        raise NotImplementedError

    def call(self, inputs: Any, state: Any, start: Any = None, mask: Any = None) -> Any:
        x = self.embed(inputs)
        attended, state = self.attend(x, state, start, mask)
        return self.update(x, attended), state

    def embed(self, inputs: Any) -> Any:
        return inputs if self.embedding is None else self.embedding(inputs)

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


class GatedBlockCell(keras.layers.Layer):
    """One step of a stack of gated blocks, as a Keras RNN cell.

    Args:
        arguments: What the cell's own constructor took: `num_layers` and the
            arguments of a block. All are positive integers but those in `flags`.
    """

    block_class: type[GatedBlock]
    flags: tuple[str, ...] = ()

    def __init__(self, arguments: dict[str, Any], **kwargs: Any) -> None:
        kwargs["autocast"] = False
        super().__init__(**kwargs)
        self.arguments = arguments
        for name in self.flags:
            if not isinstance(arguments[name], bool):
                raise ValueError(
                    f"`{name}` must be True or False. Received: "
                    f"{name}={arguments[name]!r}"
                )
        check_sizes({k: v for k, v in arguments.items() if k not in self.flags})
        sizes = {k: v for k, v in arguments.items() if k != "num_layers"}
        self.blocks = [
            self.block_class(
                **sizes, embed=i == 0, name=f"block_{i}", dtype=self.dtype_policy
            )
            for i in range(arguments["num_layers"])
        ]

    @property
    def state_size(self) -> list[int]:
        return [block.state_size for block in self.blocks]

    @property
    def output_size(self) -> int:
        return self.arguments["hidden_dim"]

    def get_initial_state(self, batch_size: Any = None) -> list[Any]:
        return [
            ops.zeros((batch_size, size), dtype=self.compute_dtype)
            for size in self.state_size
        ]

    def build(self, inputs_shape: Any, states_shape: Any = None) -> None:
        shape = (inputs_shape[0], 1, inputs_shape[-1])
        for block in self.blocks:
            block.build(shape)
            block.built = True
            shape = (*shape[:-1], self.output_size)

    def call(
        self, inputs: Any, states: Any, start: Any = None, training: bool = False
    ) -> Any:
        start = None if start is None else ops.expand_dims(start, 1)
        x, states = self.run(ops.expand_dims(inputs, 1), states, start)
        return ops.squeeze(x, 1), states

    def run(
        self,
        sequences: Any,
        states: Any,
        start: Any = None,
        mask: Any = None,
        **shared: Any,
    ) -> tuple[Any, list[Any]]:
        """Runs every block over sequences of shape `(batch, time, features)`."""
        new_states = []
        for block, state in zip(self.blocks, states, strict=True):
            sequences, state = block(sequences, state, start=start, mask=mask, **shared)
            new_states.append(state)
        return sequences, new_states

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.arguments}
