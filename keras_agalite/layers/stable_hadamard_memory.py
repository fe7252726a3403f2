"""Stable Hadamard Memory: the block, the cell that takes one step, the layer."""

from typing import Any

import keras
from keras import ops

from keras_agalite.layers.block_cell import BlockCell
from keras_agalite.layers.counting import count_dense
from keras_agalite.layers.initializers import GlorotUniform
from keras_agalite.layers.residual_block import ResidualBlock
from keras_agalite.layers.sequence_memory import SequenceMemory
from keras_agalite.ops.episodes import steps_of_episode
from keras_agalite.ops.hadamard_memory import hadamard_memory, hashed_rows
from keras_agalite.ops.precision import at_least_float32, largest_count


@keras.saving.register_keras_serializable(package="keras_agalite")
class StableHadamardMemoryBlock(ResidualBlock):
    """One block of Stable Hadamard Memory, as in `ResidualBlock`.

    The recurrence is as in `StableHadamardMemory`; a dense layer brings what it reads
    to the width of the stream.

    Call arguments and returns: as in `Block`. The state holds the matrix, row
    by row, and the clock.
    """

    def __init__(
        self,
        hidden_dim: int,
        matrix_dim: int,
        num_rows: int,
        random_row: bool,
        intermediate_dim: int,
        seed: int,
        index: int,
        embed: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(hidden_dim, intermediate_dim, embed, **kwargs)
        self.matrix_dim = matrix_dim
        self.num_rows = num_rows
        self.random_row = random_row
        self.keys = (seed, index)
        self.state_size = matrix_dim**2 + 1
        # Query, key, value, calibration; eta.
        self.projection = self.dense(4 * matrix_dim + 1, "projection", use_bias=False)
        self.mix_output = self.dense(hidden_dim, "mix_output")

    def build_mix(self, shape: Any) -> None:
        self.projection.build(shape)
        self.mix_output.build((*shape[:-1], self.matrix_dim))
        self.theta = self.add_weight(
            name="theta",
            shape=(self.num_rows, self.matrix_dim),
            initializer=GlorotUniform(),
        )

    @classmethod
    def count_mix(cls, hidden_dim: int, **config: Any) -> int:
        matrix_dim = config["matrix_dim"]
        return (
            count_dense(hidden_dim, 4 * matrix_dim + 1, use_bias=False)
            + count_dense(matrix_dim, hidden_dim)
            + config["num_rows"] * matrix_dim
        )

    def mix(self, x: Any, state: Any, start: Any, mask: Any) -> Any:
        projected = self.projection(x)
        projected = ops.cast(projected, at_least_float32(projected.dtype))
        size = self.matrix_dim
        query, key, value, calibration, eta = (
            projected[..., i * size : (i + 1) * size] for i in range(5)
        )
        steps, clock = steps_of_episode(
            ops.cast(state[:, -1], "int32"), query[:, :, 0], start, mask
        )
        limit = largest_count(state.dtype)
        rows = ops.zeros_like(steps)
        if self.random_row:
            rows = hashed_rows(steps % limit, self.num_rows, *self.keys)
        memory = ops.reshape(state[:, :-1], (-1, self.matrix_dim, self.matrix_dim))
        read, memory = hadamard_memory(
            share(query),
            share(key),
            ops.sigmoid(eta) * value,
            calibration,
            ops.take(ops.convert_to_tensor(self.theta), rows, axis=0),
            memory,
            start=start,
            mask=mask,
        )
        clock = ops.cast(clock % limit, state.dtype)
        memory = ops.reshape(memory, (-1, self.matrix_dim**2))
        state = ops.concatenate([memory, clock[:, None]], axis=1)
        return self.mix_output(read), state


def share(x: Any) -> Any:
    """What is positive, as shares of its sum."""
    x = ops.relu(x)
    return x / (ops.sum(x, axis=-1, keepdims=True) + 1e-5)


@keras.saving.register_keras_serializable(package="keras_agalite")
class StableHadamardMemoryCell(BlockCell):
    """One step of Stable Hadamard Memory, as a Keras RNN cell.

    It runs in a stock `keras.layers.RNN` and, with episode starts, in `MemoryRNN`;
    `StableHadamardMemory` holds the same weights and runs whole sequences at once.
    Inside a stock `keras.layers.RNN` the state takes the dtype that the RNN gives
    it, so use a float32 policy there.

    Args: those of `StableHadamardMemory`, with the same defaults.

    Call arguments, returns and errors: as in `SequenceCell`.
    """

    block_class = StableHadamardMemoryBlock
    bool_args = ("random_row",)

    @classmethod
    def check_config(cls, config: dict[str, Any]) -> None:
        seed = config["seed"]
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise ValueError(
                f"`seed` must be an integer, not negative. Received: seed={seed!r}"
            )
        super().check_config({k: v for k, v in config.items() if k != "seed"})

    @classmethod
    def block_config(cls, index: int, num_layers: int, **sizes: Any) -> dict[str, Any]:
        return {**super().block_config(index, num_layers, **sizes), "index": index}


@keras.saving.register_keras_serializable(package="keras_agalite")
class StableHadamardMemory(SequenceMemory):
    """Stable Hadamard Memory: a matrix whose entries are calibrated one by one.

    `return_sequences` is True unless told otherwise.

    With n_t the layer-normalised input of the block, share(a) = a / (sum a + 1e-5),
    and a column times a row an outer product:

        q_t = share(relu(W_q n_t))    k_t = share(relu(W_k n_t))    v_t = W_v n_t
        C_t = 1 + tanh(theta_t (W_c n_t)^T)         eta_t = sigmoid(w . n_t)
        M_t = M_(t-1) * C_t + eta_t v_t k_t^T
        y_t = M_t q_t

    theta_t is a row of a learned table, drawn at random for every step. Here the row
    follows from `seed`, the number of the block and a clock by a hash. The clock is
    the last number of the state and counts the steps of the episode: a start empties
    M and sets the clock to zero, so that a restart equals a fresh state, and a
    sequence in steps, in chunks or whole draws the same rows. The authors' code has
    the table but always takes row 0; `random_row=False` does so.

    Le et al., "Stable Hadamard Memory: Revitalizing Memory-Augmented Agents for
    Reinforcement Learning", ICLR 2025, arXiv 2410.10132. The authors use one layer,
    LN and the recurrence and a dense layer; the skip around them and the feed-forward
    after them are ours, so that layers can be stacked. C_t lies between 0 and 2; the
    paper shows its mean to be 1 under assumptions, and nothing else bounds M.

    Args:
        num_layers: Number of blocks.
        hidden_dim: Width of the residual stream and of the output.
        matrix_dim: Rows and columns of M.
        num_rows: Rows of the table of theta (L in the paper).
        random_row: Whether each step draws its row, or takes row 0.
        intermediate_dim: Width of the feed-forward.
        seed: Seed of the rows, 0 or more.
        **kwargs: Arguments of `MemoryRNN`.

    Call arguments, returns and errors: as in `MemoryRNN`. The state is a list of
    `num_layers` tensors of shape `(batch, matrix_dim ** 2 + 1)`.

    Raises:
        ValueError: If `random_row` is not a boolean, `seed` is negative or another
            argument is not a positive integer.

    Example:

    >>> memory = StableHadamardMemory(matrix_dim=64, return_state=True)
    >>> outputs, *state = memory(np.random.normal(size=(8, 32, 16)))
    >>> outputs, *state = memory(next_inputs, initial_state=state, start=start)
    """

    short_name = "shm"
    cell_class = StableHadamardMemoryCell

    def __init__(
        self,
        num_layers: int = 1,
        *,
        hidden_dim: int = 128,
        matrix_dim: int = 128,
        num_rows: int = 128,
        random_row: bool = True,
        intermediate_dim: int = 256,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_layers=num_layers,
            hidden_dim=hidden_dim,
            matrix_dim=matrix_dim,
            num_rows=num_rows,
            random_row=random_row,
            intermediate_dim=intermediate_dim,
            seed=seed,
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
            "matrix_dim": 64,
            "num_rows": 128,
            "random_row": True,
            "intermediate_dim": hidden_dim,
            "seed": 0,
        }
