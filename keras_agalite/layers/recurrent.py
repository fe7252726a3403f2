"""Keras's recurrent cells as memories: the baselines."""

import abc
from typing import Any, ClassVar

import keras
import numpy as np

from keras_agalite.layers.checks import check_sizes
from keras_agalite.layers.initializers import (
    GlorotUniform,
    NumpyInitializer,
    Orthogonal,
    Zeros,
)
from keras_agalite.layers.sequence_memory import ConfiguredMemory


class RecurrentMemory(ConfiguredMemory):
    """A stack of Keras cells of one width.

    Args:
        hidden_dim: Units of a cell.
        num_layers: Number of cells, one on the other.
        **kwargs: Arguments of `MemoryRNN`.

    Attributes:
        num_gates: Products of the input, and of the state, in a cell.
        num_biases: Biases of each of them.
    """

    num_gates: ClassVar[int]
    num_biases: ClassVar[int]

    def __init__(
        self, hidden_dim: int = 128, *, num_layers: int = 1, **kwargs: Any
    ) -> None:
        config = {"hidden_dim": hidden_dim, "num_layers": num_layers}
        check_sizes(config)
        cells = [
            self.make_cell(hidden_dim, name=f"cell_{i}", dtype=kwargs.get("dtype"))
            for i in range(num_layers)
        ]
        super().__init__(cells if num_layers > 1 else cells[0], **kwargs)
        self.cell_config = config

    @abc.abstractmethod
    def make_cell(self, units: int, **kwargs: Any) -> Any:
        """One cell, which begins as Keras's own but draws with NumPy."""

    @classmethod
    def count_weights(
        cls, features: int, *, hidden_dim: int = 128, num_layers: int = 1, **kwargs: Any
    ) -> int:
        def count_cell(inputs: int) -> int:
            return cls.num_gates * hidden_dim * (inputs + hidden_dim + cls.num_biases)

        return count_cell(features) + (num_layers - 1) * count_cell(hidden_dim)

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
        return {"hidden_dim": hidden_dim, "num_layers": 1}


@keras.saving.register_keras_serializable(package="keras_agalite")
class GRU(RecurrentMemory):
    """`keras.layers.GRUCell` as a memory.

    `return_sequences` is True unless told otherwise.

    Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for
    Statistical Machine Translation", EMNLP 2014, arXiv 1406.1078.

    Args:
        hidden_dim: Units of a cell.
        num_layers: Number of cells, one on the other.
        **kwargs: Arguments of `MemoryRNN`.

    Call arguments and returns: as in `MemoryRNN`. The state is a list of `num_layers`
    tensors of shape `(batch, hidden_dim)`.

    Raises:
        ValueError: If an argument is not a positive integer, or as in `MemoryRNN`.

    Example:

    >>> memory = GRU(64, return_state=True)
    >>> outputs, *state = memory(np.random.normal(size=(8, 32, 16)))
    >>> outputs, *state = memory(next_inputs, initial_state=state, start=start)
    """

    short_name = "gru"
    num_gates, num_biases = 3, 2

    def make_cell(self, units: int, **kwargs: Any) -> Any:
        return keras.layers.GRUCell(
            units,
            kernel_initializer=GlorotUniform(),
            recurrent_initializer=Orthogonal(),
            bias_initializer=Zeros(),
            **kwargs,
        )


@keras.saving.register_keras_serializable(package="keras_agalite")
class LSTM(RecurrentMemory):
    """`keras.layers.LSTMCell` as a memory.

    `return_sequences` is True unless told otherwise.

    Hochreiter and Schmidhuber, "Long Short-Term Memory", Neural Computation 9, 1997.

    Args:
        hidden_dim: Units of a cell.
        num_layers: Number of cells, one on the other.
        **kwargs: Arguments of `MemoryRNN`.

    Call arguments and returns: as in `MemoryRNN`. The state of a cell is h and c, both
    of shape `(batch, hidden_dim)`: a list of the two for one cell, a list of such
    lists for several.

    Raises:
        ValueError: If an argument is not a positive integer, or as in `MemoryRNN`.

    Example:

    >>> memory = LSTM(64, return_state=True)
    >>> outputs, *state = memory(np.random.normal(size=(8, 32, 16)))
    >>> outputs, *state = memory(next_inputs, initial_state=state, start=start)
    """

    short_name = "lstm"
    num_gates, num_biases = 4, 1

    def make_cell(self, units: int, **kwargs: Any) -> Any:
        return keras.layers.LSTMCell(
            units,
            kernel_initializer=GlorotUniform(),
            recurrent_initializer=Orthogonal(),
            bias_initializer=ForgetBiasInitializer(),
            unit_forget_bias=False,  # the initializer has it
            **kwargs,
        )


@keras.saving.register_keras_serializable(package="keras_agalite")
class ForgetBiasInitializer(NumpyInitializer):
    """The biases of an LSTM: ones for the forget gate, else zeros.

    Jozefowicz et al., "An Empirical Exploration of Recurrent Network Architectures",
    ICML 2015.
    """

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        # Input gate, forget gate, cell, output gate.
        return np.repeat([0.0, 1.0, 0.0, 0.0], shape[0] // 4)
