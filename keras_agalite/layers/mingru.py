"""MinGRU: the block, the cell that takes one step, the layer that takes many."""

from typing import Any

import keras
from keras import ops

from keras_agalite.layers.block_cell import BlockCell
from keras_agalite.layers.counting import count_dense
from keras_agalite.layers.residual_block import ResidualBlock
from keras_agalite.layers.sequence_memory import SequenceMemory
from keras_agalite.ops.linear_recurrence import linear_recurrence
from keras_agalite.ops.precision import at_least_float32


@keras.saving.register_keras_serializable(package="keras_agalite")
class MinGRUBlock(ResidualBlock):
    """One block of MinGRU: the recurrence and a feed-forward, as in `ResidualBlock`.

    The recurrence is as in `MinGRU`; a dense layer brings its state back to the
    width of the stream.

    Call arguments and returns: as in `Block`.
    """

    def __init__(
        self,
        hidden_dim: int,
        expansion: int,
        intermediate_dim: int,
        embed: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(hidden_dim, intermediate_dim, embed, **kwargs)
        self.state_size = expansion * hidden_dim
        # Gate, candidate.
        self.projection = self.dense(2 * self.state_size, "projection")
        self.mix_output = self.dense(hidden_dim, "mix_output")

    def build_mix(self, shape: Any) -> None:
        self.projection.build(shape)
        self.mix_output.build((*shape[:-1], self.state_size))

    @classmethod
    def count_mix(cls, hidden_dim: int, **config: Any) -> int:
        width = config["expansion"] * hidden_dim
        return count_dense(hidden_dim, 2 * width) + count_dense(width, hidden_dim)

    def mix(self, x: Any, state: Any, start: Any, mask: Any) -> Any:
        projected = self.projection(x)
        projected = ops.cast(projected, at_least_float32(projected.dtype))
        gate, candidate = ops.split(projected, 2, axis=-1)
        z = ops.sigmoid(gate)
        candidate = ops.where(candidate >= 0, candidate + 0.5, ops.sigmoid(candidate))
        read, state = linear_recurrence(
            1.0 - z, z * candidate, state, start=start, mask=mask
        )
        return self.mix_output(read), state


@keras.saving.register_keras_serializable(package="keras_agalite")
class MinGRUCell(BlockCell):
    """One step of MinGRU, as a Keras RNN cell.

    It runs in a stock `keras.layers.RNN` and, with episode starts, in `MemoryRNN`;
    `MinGRU` holds the same weights and runs whole sequences at once. Inside a stock
    `keras.layers.RNN` the state takes the dtype that the RNN gives it, so use a
    float32 policy there.

    Args: those of `MinGRU`, with the same defaults.

    Call arguments, returns and errors: as in `SequenceCell`.
    """

    block_class = MinGRUBlock


@keras.saving.register_keras_serializable(package="keras_agalite")
class MinGRU(SequenceMemory):
    """MinGRU, a GRU whose gate and candidate do not look at its state.

    `return_sequences` is True unless told otherwise.

        z_t = sigmoid(W_z x_t)
        c_t = g(W_h x_t)        g(a) = a + 0.5 where a >= 0, else sigmoid(a)
        h_t = (1 - z_t) * h_(t-1) + z_t * c_t

    Feng et al., "Were RNNs All We Needed?", 2024, arXiv 2410.01201. This is the
    plain recurrence, not its form in log-space; with the paper's g, which the form in
    log-space asks for, both compute the same. The state starts at zero. The block
    around it is ours: x is normalised first, a dense layer brings h back to the width
    of the stream, and a feed-forward follows, both with a skip; the convolutions that
    the paper adds for some tasks are left out.

    Args:
        num_layers: Number of blocks.
        hidden_dim: Width of the residual stream and of the output.
        expansion: Width of h as a multiple of `hidden_dim`.
        intermediate_dim: Width of the feed-forward.
        **kwargs: Arguments of `MemoryRNN`.

    Call arguments, returns and errors: as in `MemoryRNN`. The state is a list of
    `num_layers` tensors of shape `(batch, expansion * hidden_dim)`.

    Example:

    >>> memory = MinGRU(num_layers=2, return_state=True)
    >>> outputs, *state = memory(np.random.normal(size=(8, 32, 16)))
    >>> outputs, *state = memory(next_inputs, initial_state=state, start=start)
    """

    short_name = "mingru"
    cell_class = MinGRUCell

    def __init__(
        self,
        num_layers: int = 4,
        *,
        hidden_dim: int = 128,
        expansion: int = 1,
        intermediate_dim: int = 256,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_layers=num_layers,
            hidden_dim=hidden_dim,
            expansion=expansion,
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
            "expansion": 1,
            "intermediate_dim": hidden_dim,
        }
