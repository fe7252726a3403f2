"""AGaLiTe: the block, the cell that takes one step, the layer that takes many."""

from typing import Any

import keras
from keras import ops

from keras_agalite.layers.gru_gate import GRUGate, orthogonal
from keras_agalite.layers.memory_rnn import MemoryRNN
from keras_agalite.ops import agalite_attention, agalite_state_size


@keras.saving.register_keras_serializable(package="keras_agalite")
class AGaLiTeBlock(keras.layers.Layer):
    """One block of AGaLiTe: gated linear attention and a gated feed-forward.

        e = relu(W_emb x)                      (with `embed`, else e = x)
        h = gate(e, relu(W_o attention(LN(e))))
        y = gate(h, relu(W_2 relu(W_1 LN(h))))

    Call arguments:
        inputs: Tensor of shape `(batch, time, features)`.
        state: Tensor of shape `(batch, state_size)`.
        start: Optional boolean tensor of shape `(batch, time)`.
        mask: Optional boolean tensor of shape `(batch, time)`.

    Returns:
        `(outputs, state)` of shapes `(batch, time, hidden_dim)` and
        `(batch, state_size)`.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        head_dim: int,
        intermediate_dim: int,
        eta: int,
        r: int,
        embed: bool,
        **kwargs: Any,
    ) -> None:
        # The state keeps its own dtype; the parts below cast their own inputs.
        kwargs["autocast"] = False
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.eta = eta
        self.r = r
        self.supports_masking = True
        self.state_size = agalite_state_size(num_heads, head_dim, eta, r)

        def dense(units: int, name: str, activation: str | None = None) -> Any:
            return keras.layers.Dense(
                units,
                activation,
                kernel_initializer=orthogonal(),
                name=name,
                dtype=self.dtype_policy,
            )

        def norm(name: str) -> Any:
            return keras.layers.LayerNormalization(
                epsilon=1e-6, name=name, dtype=self.dtype_policy
            )

        def gate(name: str) -> GRUGate:
            return GRUGate(name=name, dtype=self.dtype_policy)

        self.embedding = dense(hidden_dim, "embedding", "relu") if embed else None
        self.attention_norm = norm("attention_norm")
        # Each head: key, query, value, beta, gamma.
        self.projection = dense(num_heads * 5 * head_dim, "projection")
        # Each head: expansion of key, query, gamma.
        self.expansion = dense(num_heads * 3 * eta, "expansion")
        self.attention_output = dense(hidden_dim, "attention_output", "relu")
        self.attention_gate = gate("attention_gate")
        self.feedforward_norm = norm("feedforward_norm")
        self.feedforward_intermediate = dense(
            intermediate_dim, "feedforward_intermediate", "relu"
        )
        self.feedforward_output = dense(hidden_dim, "feedforward_output", "relu")
        self.feedforward_gate = gate("feedforward_gate")

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
        for layer in (self.attention_norm, self.projection, self.expansion):
            layer.build(hidden)
        self.attention_output.build(attended)
        self.attention_gate.build(hidden, hidden)
        self.feedforward_norm.build(hidden)
        self.feedforward_intermediate.build(hidden)
        self.feedforward_output.build(
            (*inputs_shape[:-1], self.feedforward_intermediate.units)
        )
        self.feedforward_gate.build(hidden, hidden)

    def call(self, inputs: Any, state: Any, start: Any = None, mask: Any = None) -> Any:
        x = inputs if self.embedding is None else self.embedding(inputs)
        attended, state = self.attend(self.attention_norm(x), state, start, mask)
        x = self.attention_gate(x, self.attention_output(attended))
        update = self.feedforward_intermediate(self.feedforward_norm(x))
        x = self.feedforward_gate(x, self.feedforward_output(update))
        return x, state

    def attend(self, x: Any, state: Any, start: Any, mask: Any) -> Any:
        batch, length = ops.shape(x)[:2]
        heads = (batch, length, self.num_heads)
        projected = ops.reshape(self.projection(x), (*heads, 5 * self.head_dim))
        key, query, value, beta, gamma = ops.split(projected, 5, axis=-1)
        expanded = ops.reshape(self.expansion(x), (*heads, 3 * self.eta))
        p_key, p_query, p_gamma = ops.split(expanded, 3, axis=-1)
        y, state = agalite_attention(
            ops.relu(query),
            ops.relu(key),
            value,
            ops.sigmoid(beta),
            ops.sigmoid(gamma),
            (ops.relu(p_query), ops.relu(p_key), ops.sigmoid(p_gamma)),
            state,
            r=self.r,
            start=start,
            mask=mask,
        )
        y = ops.reshape(y, (batch, length, self.num_heads * self.head_dim))
        return ops.cast(y, self.compute_dtype), state


@keras.saving.register_keras_serializable(package="keras_agalite")
class AGaLiTeCell(keras.layers.Layer):
    """One step of AGaLiTe, as a Keras RNN cell.

    It runs in a stock `keras.layers.RNN` and, with episode starts, in `MemoryRNN`;
    `AGaLiTe` holds the same weights and runs whole sequences at once. Inside a
    stock `keras.layers.RNN` the state takes the dtype that the RNN gives it, so use
    a float32 policy there.

    Args:
        num_layers: Number of blocks.
        hidden_dim: Width of the residual stream.
        num_heads: Number of attention heads.
        head_dim: Width of one head.
        intermediate_dim: Width of the feed-forward.
        eta: Feature expansion of keys, queries and gates.
        r: Number of oscillators. Pairs of them are equal, so r and the state grow
            together only at every second r.

    Call arguments:
        inputs: Tensor of shape `(batch, features)`.
        states: List of `num_layers` tensors of shape `(batch, size)`.
        start: Optional boolean tensor of shape `(batch,)`: empties the sums, while
            the clock of the oscillators runs on.

    Returns:
        `(output, states)`: the output of shape `(batch, hidden_dim)`.

    Raises:
        ValueError: If an argument is not a positive integer.

    Example:

    >>> layer = keras.layers.RNN(AGaLiTeCell(num_layers=2), stateful=True)
    """

    def __init__(
        self,
        num_layers: int = 4,
        hidden_dim: int = 128,
        num_heads: int = 4,
        head_dim: int = 64,
        intermediate_dim: int = 128,
        eta: int = 4,
        r: int = 2,
        **kwargs: Any,
    ) -> None:
        kwargs["autocast"] = False
        super().__init__(**kwargs)
        self.arguments = {
            "num_layers": num_layers,
            "hidden_dim": hidden_dim,
            "num_heads": num_heads,
            "head_dim": head_dim,
            "intermediate_dim": intermediate_dim,
            "eta": eta,
            "r": r,
        }
        for name, value in self.arguments.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(
                    f"`{name}` must be a positive integer. Received: {name}={value!r}"
                )
        sizes = {k: v for k, v in self.arguments.items() if k != "num_layers"}
        self.blocks = [
            AGaLiTeBlock(
                **sizes, embed=i == 0, name=f"block_{i}", dtype=self.dtype_policy
            )
            for i in range(num_layers)
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
        self, sequences: Any, states: Any, start: Any = None, mask: Any = None
    ) -> tuple[Any, list[Any]]:
        """Runs every block over sequences of shape `(batch, time, features)`."""
        new_states = []
        for block, state in zip(self.blocks, states, strict=True):
            sequences, state = block(sequences, state, start=start, mask=mask)
            new_states.append(state)
        return sequences, new_states

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.arguments}


@keras.saving.register_keras_serializable(package="keras_agalite")
class AGaLiTe(MemoryRNN):
    """AGaLiTe, a gated linear transformer whose memory has a fixed size.

    `return_sequences` is True unless told otherwise.

    Acting costs the same at every step of an episode. The defaults are the paper's
    setting: Pramanik et al., "AGaLiTe: Approximate Gated Linear Transformers for
    Online Reinforcement Learning", TMLR 2024, arXiv 2310.15719. Outputs, states and
    gradients equal those of the authors' code.

    Args:
        num_layers: Number of blocks.
        hidden_dim: Width of the residual stream and of the output.
        num_heads: Number of attention heads.
        head_dim: Width of one head.
        intermediate_dim: Width of the feed-forward.
        eta: Feature expansion of keys, queries and gates.
        r: Number of oscillators.
        **kwargs: Arguments of `MemoryRNN`.

    Call arguments, returns and errors: as in `MemoryRNN`. The state is a list of
    `num_layers` tensors of shape `(batch, size)`. Where an episode starts, the sums
    are emptied and the clock of the oscillators runs on, as in the authors' code.

    Example:

    >>> memory = AGaLiTe(num_layers=2, return_state=True)
    >>> outputs, *state = memory(np.random.normal(size=(8, 32, 16)))
    >>> outputs, *state = memory(next_inputs, initial_state=state, start=start)
    """

    def __init__(
        self,
        num_layers: int = 4,
        hidden_dim: int = 128,
        num_heads: int = 4,
        head_dim: int = 64,
        intermediate_dim: int = 128,
        eta: int = 4,
        r: int = 2,
        **kwargs: Any,
    ) -> None:
        cell = AGaLiTeCell(
            num_layers,
            hidden_dim,
            num_heads,
            head_dim,
            intermediate_dim,
            eta,
            r,
            name="cell",
            dtype=kwargs.get("dtype"),
        )
        super().__init__(cell, **kwargs)

    def inner_loop(
        self,
        sequences: Any,
        initial_state: Any,
        mask: Any,
        training: bool = False,
        start: Any = None,
    ) -> tuple[Any, Any, Any]:
        outputs, state = self.cell.run(sequences, initial_state, start, mask)
        if mask is not None:
            outputs = self.hold_outputs(outputs, mask)
        return outputs[:, -1], outputs, state

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["cell"]
        return {**config, **self.cell.arguments}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        return cls(**config)
