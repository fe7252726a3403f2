"""Memformer: the block, the cell that takes one step, the layer that takes many."""

import math
from typing import Any

import keras
from keras import ops

from keras_agalite.layers.block_cell import BlockCell
from keras_agalite.layers.checks import check_heads
from keras_agalite.layers.counting import count_dense
from keras_agalite.layers.initializers import Normal, Uniform
from keras_agalite.layers.residual_block import ResidualBlock
from keras_agalite.layers.sequence_memory import SequenceMemory
from keras_agalite.ops.slot_memory import SlotWeights, slot_memory

# Of the entries of v, where those of a slot are about 1. The smaller they are, the
# longer a slot remembers: a content fades to half in about 1.3 / 0.01 writes.
BIAS_STDDEV = 0.01


@keras.saving.register_keras_serializable(package="keras_agalite")
class MemformerBlock(ResidualBlock):
    """One block of Memformer: the slots and a feed-forward, as in `ResidualBlock`.

    Call arguments and returns: as in `Block`. The state holds the slots before they
    are normalised and, with segments of more than one token, the earlier tokens of the
    segment and their number.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        num_slots: int,
        segment_length: int,
        temperature: float,
        intermediate_dim: int,
        embed: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(hidden_dim, intermediate_dim, embed, **kwargs)
        self.num_heads = num_heads
        self.temperature = temperature
        self.slots_size = num_slots * hidden_dim
        self.tokens_size = (segment_length - 1) * hidden_dim
        self.state_size = self.slots_size
        if segment_length > 1:
            self.state_size += self.tokens_size + 1

    def build_mix(self, shape: Any) -> None:
        dim = self.hidden_dim
        # As torch draws them; the spread of `LecunNormal` is 1.7 times as large.
        limit = dim**-0.5
        self.slot_weights = [
            self.add_weight(
                name=name,
                shape=(self.slots_size // dim, dim) if name == "bias" else (dim, dim),
                initializer=Normal(BIAS_STDDEV)
                if name == "bias"
                else Uniform(-limit, limit),
            )
            for name in SlotWeights._fields
        ]

    @classmethod
    def count_mix(cls, hidden_dim: int, **config: Any) -> int:
        matrices = len(SlotWeights._fields) - 1
        return config["num_slots"] * hidden_dim + matrices * count_dense(
            hidden_dim, hidden_dim, use_bias=False
        )

    def mix(self, x: Any, state: Any, start: Any, mask: Any) -> Any:
        def rows(part: Any) -> Any:
            return ops.reshape(part, (-1, part.shape[1] // self.hidden_dim, x.shape[2]))

        parts = [rows(state[:, : self.slots_size])]
        if self.tokens_size:
            parts += [rows(state[:, self.slots_size : -1]), state[:, -1:]]
        read, parts = slot_memory(
            x,
            SlotWeights(*map(ops.convert_to_tensor, self.slot_weights)),
            parts,
            heads=self.num_heads,
            temperature=self.temperature,
            slot_norm=math.sqrt(self.hidden_dim),
            start=start,
            mask=mask,
        )
        sizes = [self.slots_size, self.tokens_size, 1]
        parts = [
            ops.reshape(part, (-1, size))
            for part, size in zip(parts, sizes, strict=False)
        ]
        return ops.cast(read, x.dtype), ops.concatenate(parts, axis=1)


@keras.saving.register_keras_serializable(package="keras_agalite")
class MemformerCell(BlockCell):
    """One step of Memformer, as a Keras RNN cell.

    It runs in a stock `keras.layers.RNN` and, with episode starts, in `MemoryRNN`;
    `Memformer` holds the same weights and runs whole sequences at once. Inside a stock
    `keras.layers.RNN` the state takes the dtype that the RNN gives it, so use a
    float32 policy there.

    Args: those of `Memformer`, with the same defaults.

    Call arguments, returns and errors: as in `SequenceCell`.
    """

    block_class = MemformerBlock
    float_args = ("temperature",)

    @classmethod
    def check_config(cls, config: dict[str, Any]) -> None:
        super().check_config(config)
        check_heads(config)
        tau = config["temperature"]
        if isinstance(tau, bool) or not isinstance(tau, int | float) or not 0 < tau < 1:
            raise ValueError(
                "`temperature` must be a number between 0 and 1. "
                f"Received: temperature={tau!r}"
            )


@keras.saving.register_keras_serializable(package="keras_agalite")
class Memformer(SequenceMemory):
    """Memformer: slots that each token reads, and that keep or replace their content.

    `return_sequences` is True unless told otherwise.

    A block has `num_slots` slots s_i. With x_t its layer-normalised input, y_j the
    earlier tokens of the segment, d = `hidden_dim`, and `num_heads` heads:

        m_i = sqrt(d) (s_i + v_i) / |s_i + v_i|
        y_t = x_t + R_o attention(R_q x_t; R_k [m; y_j], R_v [m; y_j])

    After each `segment_length` tokens, counted from the start of the episode, a slot
    attends to itself and to the tokens of the segment. With w the softmax of
    `W_q m_i . [W_k m_i; W_k y_j] / (sqrt(head_dim) temperature)`:

        s_i = w_0 m_i + sum_j w_j W_v y_j

    With one token a segment, the default, that is a gated cell with
    `w_0 = sigmoid(W_q m_i . (W_k m_i - W_k y_t) / ...)`. v is the bias of the paper's
    biased memory normalisation: it is what an empty slot reads as, and a slot that is
    not written fades to it, the more slowly the smaller v is. v is therefore drawn
    small, with a standard deviation of 0.01.

    Wu et al., "Memformer: A Memory-Augmented Transformer for Sequence Modeling", 2020,
    arXiv 2010.06891. No code of the paper's slots is public. Ours: tokens do not see
    later tokens of their segment; a slot has the length sqrt(d) instead of 1; the skips
    and the feed-forward. The paper trains it by computing segments again in the
    backward pass (memory replay back-propagation); all loops of this library do so.

    Args:
        num_layers: Number of blocks.
        hidden_dim: Width of the residual stream and of the output; a multiple of
            `num_heads`.
        num_heads: Number of heads that read and write.
        num_slots: Number of slots of a block.
        segment_length: Tokens between two writes. The earlier tokens of a segment are
            part of the state.
        temperature: tau of the write, between 0 and 1: how sharply a slot chooses.
        intermediate_dim: Width of the feed-forward.
        **kwargs: Arguments of `MemoryRNN`.

    Call arguments, returns and errors: as in `MemoryRNN`. The state is a list of
    `num_layers` tensors of shape `(batch, num_slots * hidden_dim)`, with segments of
    S > 1 tokens `(batch, (num_slots + S - 1) * hidden_dim + 1)`.

    Example:

    >>> memory = Memformer(num_layers=2, return_state=True)
    >>> outputs, *state = memory(np.random.normal(size=(8, 32, 16)))
    >>> outputs, *state = memory(next_inputs, initial_state=state, start=start)
    """

    short_name = "memformer"
    cell_class = MemformerCell

    def __init__(
        self,
        num_layers: int = 4,
        *,
        hidden_dim: int = 128,
        num_heads: int = 4,
        num_slots: int = 8,
        segment_length: int = 1,
        temperature: float = 0.25,
        intermediate_dim: int = 256,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_layers=num_layers,
            hidden_dim=hidden_dim,
            num_heads=num_heads,
            num_slots=num_slots,
            segment_length=segment_length,
            temperature=temperature,
            intermediate_dim=intermediate_dim,
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
            "num_slots": 8,
            "segment_length": 1,
            "temperature": 0.25,
            "intermediate_dim": hidden_dim,
        }
