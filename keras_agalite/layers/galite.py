"""GaLiTe: the block, the cell that takes one step, the layer that takes many."""

from typing import Any

import keras
from keras import ops

from keras_agalite.layers.block_cell import BlockCell
from keras_agalite.layers.counting import count_dense
from keras_agalite.layers.gated_block import GatedBlock
from keras_agalite.layers.initializers import RELU_GAIN, OrthogonalBlocks, Zeros
from keras_agalite.layers.sequence_memory import SequenceMemory
from keras_agalite.ops import galite_attention, galite_state_size


@keras.saving.register_keras_serializable(package="keras_agalite")
class GaLiTeBlock(GatedBlock):
    """One block of GaLiTe: gated linear attention and a gated feed-forward.

        e = W_emb x                            (with `embed`, else e = x)
        h = gate(e, relu(W_o attention(LN(e))))
        y = gate(h, relu(W_2 relu(W_1 LN(h))))

    Queries are projected twice, as in the authors' code: from the stream, then by
    each head from its own query.

    Call arguments and returns: as in `Block`.
    """

    embedding_activation = None

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        head_dim: int,
        intermediate_dim: int,
        eta: int,
        embed: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(hidden_dim, num_heads, head_dim, embed, **kwargs)
        self.eta = eta
        self.state_size = galite_state_size(num_heads, head_dim, eta)
        # Query, key, value, beta, gamma: each for all heads.
        self.projection = self.dense(
            5 * num_heads * head_dim,
            "projection",
            initializer=OrthogonalBlocks(head_dim, RELU_GAIN),
        )
        # Expansion of key, gamma: each for all heads.
        self.expansion = self.dense(
            2 * num_heads * eta,
            "expansion",
            initializer=OrthogonalBlocks(eta, RELU_GAIN),
        )
        self.query_projection = self.dense_by_head(head_dim, "query_projection")
        self.query_expansion = self.dense_by_head(eta, "query_expansion")
        self.add_feedforward(intermediate_dim)

    def dense_by_head(self, units: int, name: str) -> Any:
        return keras.layers.EinsumDense(
            "bthd,hde->bthe",
            output_shape=(None, self.num_heads, units),
            activation="relu",
            bias_axes="he",
            kernel_initializer=OrthogonalBlocks(units, RELU_GAIN),
            bias_initializer=Zeros(),
            name=name,
            dtype=self.dtype_policy,
        )

    def build_attention(self, shape: Any) -> None:
        self.projection.build(shape)
        self.expansion.build(shape)
        heads = (*shape[:-1], self.num_heads, self.head_dim)
        self.query_projection.build(heads)
        self.query_expansion.build(heads)

    @classmethod
    def count_attention(
        cls, hidden_dim: int, num_heads: int, head_dim: int, **config: Any
    ) -> int:
        eta = config["eta"]
        by_head = count_dense(head_dim, head_dim + eta)
        shared = count_dense(hidden_dim, num_heads * (5 * head_dim + 2 * eta))
        return shared + num_heads * by_head

    def attend(self, x: Any, state: Any, start: Any, mask: Any) -> Any:
        x = self.attention_norm(x)
        batch, length = ops.shape(x)[:2]
        query, key, value, beta, gamma = ops.split(
            ops.reshape(
                self.projection(x), (batch, length, 5 * self.num_heads, self.head_dim)
            ),
            5,
            axis=2,
        )
        p_key, p_gamma = ops.split(
            ops.reshape(
                self.expansion(x), (batch, length, 2 * self.num_heads, self.eta)
            ),
            2,
            axis=2,
        )
        return galite_attention(
            self.query_projection(query),
            ops.relu(key),
            value,
            ops.sigmoid(beta),
            ops.sigmoid(gamma),
            (self.query_expansion(query), ops.relu(p_key), ops.sigmoid(p_gamma)),
            state,
            start=start,
            mask=mask,
        )


@keras.saving.register_keras_serializable(package="keras_agalite")
class GaLiTeCell(BlockCell):
    """One step of GaLiTe, as a Keras RNN cell.

    It runs in a stock `keras.layers.RNN` and, with episode starts, in `MemoryRNN`;
    `GaLiTe` holds the same weights and runs whole sequences at once. Inside a stock
    `keras.layers.RNN` the state takes the dtype that the RNN gives it, so use a
    float32 policy there.

    Args: those of `GaLiTe`, with the same defaults.

    Call arguments:
        inputs: Tensor of shape `(batch, features)`.
        states: List of `num_layers` tensors of shape `(batch, size)`.
        start: Optional boolean tensor of shape `(batch,)`: empties the memory.

    Returns:
        `(output, states)`: the output of shape `(batch, hidden_dim)`.

    Raises:
        ValueError: If an argument is not a positive integer.

    Example:

    >>> layer = keras.layers.RNN(GaLiTeCell(num_layers=2), stateful=True)
    """

    block_class = GaLiTeBlock


@keras.saving.register_keras_serializable(package="keras_agalite")
class GaLiTe(SequenceMemory):
    """GaLiTe, the gated linear transformer that AGaLiTe approximates.

    `return_sequences` is True unless told otherwise.

    The memory of a head is a matrix of `head_dim` by `eta * head_dim`, gated by the
    outer product of a gate for values and a gate for keys:

        k = relu(W_K x) (x) relu(W_p1 x)      q = relu(W_a W_Q x) (x) relu(W_b W_Q x)
        g = sigma(W_gamma x) (x) sigma(W_p3 x)    b = sigma(W_beta x)      v = W_V x

        C = (1 - b g^T) * C + (b * v) (g * k)^T
        s = (1 - g) * s + g * k
        attention = C q / (s . q + 1e-10)

    Acting costs the same at every step of an episode; AGaLiTe keeps a far smaller
    state. Pramanik et al., "AGaLiTe: Approximate Gated Linear Transformers for
    Online Reinforcement Learning", TMLR 2024, arXiv 2310.15719. Outputs, states and
    gradients equal those of the authors' code.

    Args:
        num_layers: Number of blocks.
        hidden_dim: Width of the residual stream and of the output.
        num_heads: Number of attention heads.
        head_dim: Width of one head.
        intermediate_dim: Width of the feed-forward.
        eta: Feature expansion of keys, queries and gates (`nu` in the authors' code).
        **kwargs: Arguments of `MemoryRNN`.

    Call arguments, returns and errors: as in `MemoryRNN`. The state is a list of
    `num_layers` tensors of shape `(batch, size)`.

    Example:

    >>> memory = GaLiTe(num_layers=2, return_state=True)
    >>> outputs, *state = memory(np.random.normal(size=(8, 32, 16)))
    >>> outputs, *state = memory(next_inputs, initial_state=state, start=start)
    """

    short_name = "galite"
    cell_class = GaLiTeCell

    def __init__(
        self,
        num_layers: int = 4,
        *,
        hidden_dim: int = 128,
        num_heads: int = 4,
        head_dim: int = 64,
        intermediate_dim: int = 128,
        eta: int = 2,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_layers=num_layers,
            hidden_dim=hidden_dim,
            num_heads=num_heads,
            head_dim=head_dim,
            intermediate_dim=intermediate_dim,
            eta=eta,
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
            "eta": 2,
        }
