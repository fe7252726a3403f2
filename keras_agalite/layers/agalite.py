"""AGaLiTe: the block, the cell that takes one step, the layer that takes many."""

from typing import Any, ClassVar

import keras
from keras import ops

from keras_agalite.layers.block_cell import BlockCell
from keras_agalite.layers.counting import count_dense
from keras_agalite.layers.gated_block import GatedBlock
from keras_agalite.layers.sequence_memory import SequenceMemory
from keras_agalite.ops import agalite_attention, agalite_state_size


@keras.saving.register_keras_serializable(package="keras_agalite")
class AGaLiTeBlock(GatedBlock):
    """One block of AGaLiTe: gated linear attention and a gated feed-forward.

        e = relu(W_emb x)                      (with `embed`, else e = x)
        h = gate(e, relu(W_o attention(LN(e))))
        y = gate(h, relu(W_2 relu(W_1 LN(h))))

    Call arguments and returns: as in `Block`.
    """

    attention = staticmethod(agalite_attention)

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        head_dim: int,
        intermediate_dim: int,
        eta: int,
        r: int,
        restart_clock: bool,
        embed: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(hidden_dim, num_heads, head_dim, embed, **kwargs)
        self.eta = eta
        self.r = r
        self.restart_clock = restart_clock
        self.state_size = agalite_state_size(num_heads, head_dim, eta, r)
        # Each head: key, query, value, beta, gamma.
        self.projection = self.dense(num_heads * 5 * head_dim, "projection")
        # Each head: expansion of key, query, gamma.
        self.expansion = self.dense(num_heads * 3 * eta, "expansion")
        self.add_feedforward(intermediate_dim)

    def build_attention(self, shape: Any) -> None:
        self.projection.build(shape)
        self.expansion.build(shape)

    @classmethod
    def count_attention(
        cls, hidden_dim: int, num_heads: int, head_dim: int, **config: Any
    ) -> int:
        return count_dense(hidden_dim, num_heads * (5 * head_dim + 3 * config["eta"]))

    def attend(self, x: Any, state: Any, start: Any, mask: Any) -> Any:
        x = self.attention_norm(x)
        heads = (*ops.shape(x)[:2], self.num_heads)
        projected = ops.reshape(self.projection(x), (*heads, 5 * self.head_dim))
        key, query, value, beta, gamma = ops.split(projected, 5, axis=-1)
        expanded = ops.reshape(self.expansion(x), (*heads, 3 * self.eta))
        p_key, p_query, p_gamma = ops.split(expanded, 3, axis=-1)
        return self.attention(
            ops.relu(query),
            ops.relu(key),
            value,
            ops.sigmoid(beta),
            ops.sigmoid(gamma),
            (ops.relu(p_query), ops.relu(p_key), ops.sigmoid(p_gamma)),
            state,
            r=self.r,
            restart_clock=self.restart_clock,
            start=start,
            mask=mask,
        )


@keras.saving.register_keras_serializable(package="keras_agalite")
class AGaLiTeCell(BlockCell):
    """One step of AGaLiTe, as a Keras RNN cell.

    It runs in a stock `keras.layers.RNN` and, with episode starts, in `MemoryRNN`;
    `AGaLiTe` holds the same weights and runs whole sequences at once. Inside a
    stock `keras.layers.RNN` the state takes the dtype that the RNN gives it, so use
    a float32 policy there.

    Args: those of `AGaLiTe`, with the same defaults.

    Call arguments:
        inputs: Tensor of shape `(batch, features)`.
        states: List of `num_layers` tensors of shape `(batch, size)`.
        start: Optional boolean tensor of shape `(batch,)`: empties the sums. The clock
            of the oscillators runs on, or restarts with `restart_clock`.

    Returns:
        `(output, states)`: the output of shape `(batch, hidden_dim)`.

    Raises:
        ValueError: If `restart_clock` is not a boolean or another argument is not a
            positive integer.

    Example:

    >>> layer = keras.layers.RNN(AGaLiTeCell(num_layers=2), stateful=True)
    """

    block_class = AGaLiTeBlock
    bool_args = ("restart_clock",)


@keras.saving.register_keras_serializable(package="keras_agalite")
class AGaLiTe(SequenceMemory):
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
        r: Number of oscillators. Two tell odd steps from even ones; with more of them
            the read-out comes closer to that of GaLiTe, at the price of a larger
            state and the same number of weights.
        restart_clock: Whether the clock of the oscillators starts again with each
            episode. In the authors' code it runs on. Set it where `r` is above 3 and
            episodes are learnt from their first step, as from recordings: the outputs
            then depend on the clock.
        **kwargs: Arguments of `MemoryRNN`.

    Call arguments, returns and errors: as in `MemoryRNN`. The state is a list of
    `num_layers` tensors of shape `(batch, size)`. Where an episode starts, the sums
    are emptied.

    Example:

    >>> memory = AGaLiTe(num_layers=2, return_state=True)
    >>> outputs, *state = memory(np.random.normal(size=(8, 32, 16)))
    >>> outputs, *state = memory(next_inputs, initial_state=state, start=start)
    """

    short_name = "agalite"
    cell_class = AGaLiTeCell
    added_arguments: ClassVar[dict[str, Any]] = {"restart_clock": False}

    def __init__(
        self,
        num_layers: int = 4,
        *,
        hidden_dim: int = 128,
        num_heads: int = 4,
        head_dim: int = 64,
        intermediate_dim: int = 128,
        eta: int = 4,
        r: int = 2,
        restart_clock: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_layers=num_layers,
            hidden_dim=hidden_dim,
            num_heads=num_heads,
            head_dim=head_dim,
            intermediate_dim=intermediate_dim,
            eta=eta,
            r=r,
            restart_clock=restart_clock,
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
            "eta": eta,
            "r": 2,
        }
