"""GTrXL: the block, the cell that takes one step, the layer that takes many."""

from typing import Any

import keras
from keras import ops

from keras_agalite.layers.block_cell import BlockCell
from keras_agalite.layers.counting import count_dense
from keras_agalite.layers.gated_block import GatedBlock
from keras_agalite.layers.initializers import Zeros
from keras_agalite.layers.sequence_memory import SequenceMemory
from keras_agalite.ops import relative_attention
from keras_agalite.ops.relative_attention import distance_encoding


@keras.saving.register_keras_serializable(package="keras_agalite")
class GTrXLBlock(GatedBlock):
    """One block of GTrXL: attention over a memory and a gated feed-forward.

        e = relu(W_emb x)                      (with `embed`, else e = x)
        h = gate(e, relu(W_o attention(e, LN([memory; e]))))
        y = gate(h, relu(W_2 relu(W_1 LN(h))))

    The memory holds the last `memory_length` values of e. Its tensor of shape
    `(batch, memory_length * hidden_dim + 1)` ends with how many of them, counted
    from the newest, a token may see; the others are zeros.

    Call arguments:
        inputs: Tensor of shape `(batch, time, features)`.
        state: Tensor of shape `(batch, state_size)`.
        start: Optional boolean tensor of shape `(batch, time)`.
        mask: Optional boolean tensor of shape `(batch, time)`, in which each row is
            True first, then False.
        biases: Tuple of the content bias and the position bias, both of shape
            `(num_heads, head_dim)`.

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
        memory_length: int,
        sliding_window: bool,
        embed: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(hidden_dim, num_heads, head_dim, embed, **kwargs)
        self.memory_length = memory_length
        self.sliding_window = sliding_window
        self.state_size = memory_length * hidden_dim + 1
        width = num_heads * head_dim
        self.query_projection = self.dense(width, "query_projection")
        # Key, value: each for all heads.
        self.key_value_projection = self.dense(2 * width, "key_value_projection")
        self.position_projection = self.dense(width, "position_projection")
        self.add_feedforward(intermediate_dim)

    def build_attention(self, shape: Any) -> None:
        self.query_projection.build(shape)
        self.key_value_projection.build(shape)
        self.position_projection.build(shape[1:])

    @classmethod
    def count_attention(
        cls, hidden_dim: int, num_heads: int, head_dim: int, **config: Any
    ) -> int:
        return 4 * count_dense(hidden_dim, num_heads * head_dim)

    def attend(
        self, x: Any, state: Any, start: Any, mask: Any, biases: Any = None
    ) -> tuple[Any, Any]:
        # Episodes count from 0, the one that the memory holds; -1 is hidden.
        age = ops.cast(
            ops.arange(self.memory_length, 0, -1, dtype="int32"), state.dtype
        )
        held = age[None, :] <= state[:, -1:]
        number = ops.zeros_like(x[:, :, 0], dtype="int32")
        if start is not None:
            number = ops.cumsum(ops.cast(start, "int32"), axis=1)
            held = ops.logical_and(held, number[:, :1] == 0)
        memory = ops.reshape(state[:, :-1], (-1, self.memory_length, self.hidden_dim))
        # A weight of zero is not enough to forget what may be NaN.
        memory = ops.where(held[:, :, None], memory, 0.0)
        if not self.sliding_window:
            memory = ops.stop_gradient(memory)
        items = ops.concatenate([memory, ops.cast(x, state.dtype)], axis=1)
        episode = ops.concatenate([ops.cast(held, "int32") - 1, number], axis=1)

        attended = self.attend_to(x, items, episode, biases)
        if mask is None:
            items, episode = (y[:, -self.memory_length :] for y in (items, episode))
        else:
            valid = ops.sum(ops.cast(mask, "int32"), axis=1, keepdims=True)
            kept = valid + ops.arange(self.memory_length, dtype="int32")[None, :]
            items = ops.take_along_axis(items, kept[:, :, None], axis=1)
            episode = ops.take_along_axis(episode, kept, axis=1)
        seen = episode == number[:, -1:]
        items = ops.where(seen[:, :, None], items, 0.0)
        items = ops.reshape(items, (-1, self.state_size - 1))
        count = ops.sum(ops.cast(seen, state.dtype), axis=1, keepdims=True)
        return attended, ops.concatenate([items, count], axis=1)

    def attend_to(self, x: Any, items: Any, episode: Any, biases: Any) -> Any:
        """Attends from the tokens x to the items: the memory, then x."""

        def by_head(y: Any) -> Any:
            return ops.reshape(y, (*ops.shape(y)[:-1], self.num_heads, self.head_dim))

        furthest = self.memory_length
        if not self.sliding_window:
            furthest = furthest + ops.shape(x)[1] - 1
        query = by_head(self.query_projection(x))
        key_value = self.key_value_projection(self.attention_norm(items))
        key, value = ops.split(key_value, 2, axis=-1)
        encoding = distance_encoding(furthest, self.hidden_dim)
        content_bias, position_bias = (ops.cast(b, query.dtype) for b in biases)
        return relative_attention(
            query,
            by_head(key),
            by_head(value),
            by_head(self.position_projection(encoding)),
            content_bias,
            position_bias,
            episode,
            memory_length=self.memory_length,
            sliding_window=self.sliding_window,
            saved_activations=self.saved_activations,
        )


@keras.saving.register_keras_serializable(package="keras_agalite")
class GTrXLCell(BlockCell):
    """One step of GTrXL, as a Keras RNN cell.

    It runs in a stock `keras.layers.RNN` and, with episode starts, in `MemoryRNN`;
    `GTrXL` holds the same weights and runs whole sequences at once. Inside a stock
    `keras.layers.RNN` the state takes the dtype that the RNN gives it, so use a
    float32 policy there.

    Args: those of `GTrXL`, with the same defaults.

    Call arguments:
        inputs: Tensor of shape `(batch, features)`.
        states: List of `num_layers` tensors of shape `(batch, size)`.
        start: Optional boolean tensor of shape `(batch,)`: empties the memory.

    Returns:
        `(output, states)`: the output of shape `(batch, hidden_dim)`.

    Raises:
        ValueError: If `sliding_window` is not a boolean or another argument is not a
            positive integer.

    Example:

    >>> layer = keras.layers.RNN(GTrXLCell(num_layers=2), stateful=True)
    """

    block_class = GTrXLBlock
    bool_args = ("sliding_window",)
    needs_valid_first = True  # a token sees all items between itself and the oldest

    def build(self, inputs_shape: Any, states_shape: Any = None) -> None:
        shape = (self.cell_config["num_heads"], self.cell_config["head_dim"])
        # The u and v of Transformer-XL, which all blocks share.
        self.content_bias = self.add_weight(
            name="content_bias", shape=shape, initializer=Zeros()
        )
        self.position_bias = self.add_weight(
            name="position_bias", shape=shape, initializer=Zeros()
        )
        super().build(inputs_shape, states_shape)

    @classmethod
    def count_weights(cls, features: int, **config: Any) -> int:
        biases = 2 * config["num_heads"] * config["head_dim"]
        return biases + super().count_weights(features, **config)

    def run(
        self,
        sequences: Any,
        states: Any,
        start: Any = None,
        mask: Any = None,
        **shared: Any,
    ) -> tuple[Any, list[Any]]:
        biases = tuple(
            ops.convert_to_tensor(b) for b in (self.content_bias, self.position_bias)
        )
        return super().run(sequences, states, start, mask, biases=biases)


@keras.saving.register_keras_serializable(package="keras_agalite")
class GTrXL(SequenceMemory):
    """GTrXL, a gated transformer that attends to its last inputs.

    `return_sequences` is True unless told otherwise.

    Each block remembers its last `memory_length` inputs. With x_i a token, n_j what
    it sees, layer-normalised, p_k the encoding of distance k and d = `head_dim`:

        q_i = W_q x_i       k_j = W_k n_j       v_j = W_v n_j       r_k = W_p p_k
        score_ij = ((q_i + u) . k_j + (q_i + v) . r_(i-j)) / sqrt(d)
        attention_i = sum_j softmax_j(score_ij) v_j

    Parisotto et al., "Stabilizing Transformers for Reinforcement Learning", ICML
    2020, arXiv 1910.06764; relative positions: Dai et al., "Transformer-XL: Attentive
    Language Models beyond a Fixed-Length Context", ACL 2019.

    With `sliding_window`, the default, every token sees itself and the
    `memory_length` inputs before it, gradients flow through the memory, and a
    sequence step by step, in chunks or whole is the same. `sliding_window=False` is
    the form of the AGaLiTe authors' baseline: within one call a token sees the whole
    memory and all earlier tokens of the call, and there is no gradient into the
    memory, so that a rollout and an update compute different things. It takes time x
    (`memory_length` + time) scores; a window takes time x 2 `memory_length`.

    Args:
        num_layers: Number of blocks.
        hidden_dim: Width of the residual stream and of the output.
        num_heads: Number of attention heads.
        head_dim: Width of one head.
        intermediate_dim: Width of the feed-forward.
        memory_length: Number of inputs that each block remembers.
        sliding_window: Whether a token sees `memory_length` inputs before itself, or
            the memory and all earlier tokens of the call.
        **kwargs: Arguments of `MemoryRNN`.

    Call arguments, returns and errors: as in `MemoryRNN`. The state is a list of
    `num_layers` tensors of shape `(batch, memory_length * hidden_dim + 1)`.

    Example:

    >>> memory = GTrXL(num_layers=2, memory_length=64, return_state=True)
    >>> outputs, *state = memory(np.random.normal(size=(8, 32, 16)))
    >>> outputs, *state = memory(next_inputs, initial_state=state, start=start)
    """

    short_name = "gtrxl"
    cell_class = GTrXLCell

    def __init__(
        self,
        num_layers: int = 4,
        *,
        hidden_dim: int = 128,
        num_heads: int = 4,
        head_dim: int = 64,
        intermediate_dim: int = 128,
        memory_length: int = 128,
        sliding_window: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_layers=num_layers,
            hidden_dim=hidden_dim,
            num_heads=num_heads,
            head_dim=head_dim,
            intermediate_dim=intermediate_dim,
            memory_length=memory_length,
            sliding_window=sliding_window,
            **kwargs,
        )

    @classmethod
    def zoo_config(
        cls,
        hidden_dim: int,
        *,
        num_layers: int,
        num_heads: int,
        head_dim: int,
        eta: int,
    ) -> dict[str, Any]:
        return {
            "num_layers": num_layers,
            "hidden_dim": hidden_dim,
            "num_heads": num_heads,
            "head_dim": head_dim,
            "intermediate_dim": hidden_dim,
            "memory_length": 128,
            "sliding_window": True,
        }
