"""The gated recurrent cache: the block, the cell that takes one step, the layer."""

from typing import Any

import keras
from keras import ops

from keras_agalite.layers.block_cell import BlockCell
from keras_agalite.layers.checks import check_heads
from keras_agalite.layers.counting import count_dense
from keras_agalite.layers.initializers import Constant, LecunNormal, Ones, Zeros
from keras_agalite.layers.residual_block import ResidualBlock
from keras_agalite.layers.sequence_memory import SequenceMemory
from keras_agalite.ops.cached_memory import cached_memory, share_heads
from keras_agalite.ops.precision import at_least_float32
from keras_agalite.ops.slot_attention import slot_queries, slot_values


@keras.saving.register_keras_serializable(package="keras_agalite")
class GRCMemoryBlock(ResidualBlock):
    """One block with a gated recurrent cache, as in `ResidualBlock`.

    Call arguments and returns: as in `Block`. The state holds the slots, that which
    was updated longest ago first.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        num_slots: int,
        intermediate_dim: int,
        embed: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(hidden_dim, intermediate_dim, embed, **kwargs)
        self.num_heads = num_heads
        self.width = hidden_dim // 2
        self.state_size = num_slots * self.width
        self.own_value = self.dense(hidden_dim, "own_value", use_bias=False)
        self.own_output = self.dense(hidden_dim, "own_output")
        # Reset, update: what they get from the token.
        self.gates = self.dense(2 * self.width, "gates")
        self.candidate = self.dense(self.width, "candidate")
        self.cache_output = self.dense(self.width, "cache_output")

    def build_mix(self, shape: Any) -> None:
        half = (*shape[:-1], self.width)
        self.own_value.build(shape)
        self.own_output.build(shape)
        for layer in (self.gates, self.candidate, self.cache_output):
            layer.build(half)
        square = (self.width, self.width)
        weights = {
            # What reset and update, and the candidate, get from the slot.
            "slot_gate_kernel": ((self.width, 2 * self.width), LecunNormal()),
            "slot_candidate_kernel": (square, LecunNormal()),
            "norm_scale": ((self.width,), Ones()),
            "norm_offset": ((self.width,), Zeros()),
            "query_kernel": (square, LecunNormal()),
            "key_kernel": (square, LecunNormal()),
            "value_kernel": (square, LecunNormal()),
            "share": ((self.num_heads,), Constant(-1.0)),
        }
        for name, (size, initializer) in weights.items():
            weight = self.add_weight(name=name, shape=size, initializer=initializer)
            setattr(self, name, weight)

    @classmethod
    def count_mix(cls, hidden_dim: int, **config: Any) -> int:
        width = hidden_dim // 2
        return (
            count_dense(hidden_dim, hidden_dim, use_bias=False)
            + count_dense(hidden_dim, hidden_dim)
            + 4 * count_dense(width, width)
            + 6 * width**2
            + cls.count_norm(width)
            + config["num_heads"]
        )

    def mix(self, x: Any, state: Any, start: Any, mask: Any) -> Any:
        dtype = at_least_float32(self.compute_dtype)

        def weight(name: str) -> Any:
            return ops.cast(getattr(self, name), dtype)

        own = self.own_output(self.own_value(x))
        written = own[..., : self.width]
        read, cache = cached_memory(
            slot_queries(
                ops.cast(x[..., : self.width], dtype),
                weight("query_kernel"),
                weight("key_kernel"),
                self.num_heads,
            ),
            self.gates(written),
            self.candidate(written),
            weight("slot_gate_kernel"),
            weight("slot_candidate_kernel"),
            ops.stack([weight("norm_scale"), weight("norm_offset")]),
            ops.reshape(state, (-1, self.state_size // self.width, self.width)),
            start=start,
            mask=mask,
        )
        cached = self.cache_output(slot_values(read, weight("value_kernel")))
        share = ops.cast(ops.sigmoid(weight("share")), own.dtype)
        mixed = share_heads(share, own, cached)
        return mixed, ops.reshape(cache, (-1, self.state_size))


@keras.saving.register_keras_serializable(package="keras_agalite")
class GRCMemoryCell(BlockCell):
    """One step of a gated recurrent cache, as a Keras RNN cell.

    It runs in a stock `keras.layers.RNN` and, with episode starts, in `MemoryRNN`;
    `GRCMemory` holds the same weights and runs whole sequences at once. Inside a stock
    `keras.layers.RNN` the state takes the dtype that the RNN gives it, so use a
    float32 policy there.

    Args: those of `GRCMemory`, with the same defaults.

    Call arguments, returns and errors: as in `SequenceCell`.
    """

    block_class = GRCMemoryBlock

    @classmethod
    def check_config(cls, config: dict[str, Any]) -> None:
        super().check_config(config)
        check_heads(config, parts=2)


@keras.saving.register_keras_serializable(package="keras_agalite")
class GRCMemory(SequenceMemory):
    """The gated recurrent cache of Cached Transformers: slots updated in turn.

    `return_sequences` is True unless told otherwise.

    A block has `num_slots` slots C of half its width. With n_t its layer-normalised
    input, first(a) the first half of the channels of a, and C the slot that was updated
    longest ago:

        o_t = W_o W_v n_t                    s_t = first(o_t)
        r, u = sigmoid(W_r [C, s_t]), sigmoid(W_u [C, s_t])
        C = u LN(gelu(W_c [r C, s_t])) + (1 - u) C
        c_t = P attention(Q first(n_t); K C_i, V C_i)        over all slots
        mix_t = share c_t + (1 - share) o_t

    share = sigmoid(lambda), with one lambda a head. c_t has half the channels of o_t:
    it is added in the first half of those of each head. A slot is a GRU that ticks at
    every `num_slots`-th step of an episode.

    Zhang et al., "Cached Transformers: Improving Transformers with Differentiable
    Memory Cache", AAAI 2024, arXiv 2312.12742. The authors' code updates all slots with
    a whole segment of tokens, so that tokens see what later ones wrote; takes the mean
    of the caches over the batch, so that rows read each other; and stops gradients
    between segments. With one token a segment all slots would stay alike. Ours: the
    slots take turns, each row has its own, gradients flow through them, and o_t is what
    attention over one token computes. The skips and the feed-forward are ours too.

    Args:
        num_layers: Number of blocks.
        hidden_dim: Width of the residual stream and of the output; a multiple of
            2 `num_heads`.
        num_heads: Number of heads.
        num_slots: Number of slots of a block.
        intermediate_dim: Width of the feed-forward.
        **kwargs: Arguments of `MemoryRNN`.

    Call arguments, returns and errors: as in `MemoryRNN`. The state is a list of
    `num_layers` tensors of shape `(batch, num_slots * hidden_dim / 2)`.

    Example:

    >>> memory = GRCMemory(num_layers=2, return_state=True)
    >>> outputs, *state = memory(np.random.normal(size=(8, 32, 16)))
    >>> outputs, *state = memory(next_inputs, initial_state=state, start=start)
    """

    short_name = "grc"
    cell_class = GRCMemoryCell

    def __init__(
        self,
        num_layers: int = 4,
        *,
        hidden_dim: int = 128,
        num_heads: int = 4,
        num_slots: int = 8,
        intermediate_dim: int = 256,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_layers=num_layers,
            hidden_dim=hidden_dim,
            num_heads=num_heads,
            num_slots=num_slots,
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
            "intermediate_dim": hidden_dim,
        }
