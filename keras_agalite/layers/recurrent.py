"""Keras's recurrent cells as memories: the baselines."""

from typing import Any

import keras

from keras_agalite.layers.sequence_memory import ArgumentsMemory, check_sizes


class _Recurrent(ArgumentsMemory):
    """A stack of Keras cells of one width."""

    cell_class: type[keras.layers.Layer]

    def __init__(
        self, hidden_dim: int = 128, num_layers: int = 1, **kwargs: Any
    ) -> None:
        arguments = {"hidden_dim": hidden_dim, "num_layers": num_layers}
        check_sizes(arguments)
        dtype = kwargs.get("dtype")
        cells = [
            self.cell_class(hidden_dim, name=f"cell_{i}", dtype=dtype)
            for i in range(num_layers)
        ]
        super().__init__(cells if num_layers > 1 else cells[0], **kwargs)
        self.arguments = arguments


@keras.saving.register_keras_serializable(package="keras_agalite")
class GRU(_Recurrent):
    """`keras.layers.GRUCell` as a memory: Cho et al., EMNLP 2014, arXiv 1406.1078.

    Args:
        hidden_dim: Units of a cell.
        num_layers: Number of cells, one on the other.
        **kwargs: Arguments of `MemoryRNN`.
    """

    cell_class = keras.layers.GRUCell


@keras.saving.register_keras_serializable(package="keras_agalite")
class LSTM(_Recurrent):
    """`keras.layers.LSTMCell` as a memory: Hochreiter and Schmidhuber, 1997.

    Args:
        hidden_dim: Units of a cell.
        num_layers: Number of cells, one on the other.
        **kwargs: Arguments of `MemoryRNN`.
    """

    cell_class = keras.layers.LSTMCell
