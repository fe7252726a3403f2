"""No memory at all: the baseline that shows what a task asks of a memory."""

from typing import Any

import keras

from keras_agalite.layers.counting import count_dense
from keras_agalite.layers.initializers import RELU_GAIN, Orthogonal, Zeros
from keras_agalite.layers.saved_activations import Dense
from keras_agalite.layers.sequence_cell import SequenceCell
from keras_agalite.layers.sequence_memory import SequenceMemory


@keras.saving.register_keras_serializable(package="keras_agalite")
class MemorylessCell(SequenceCell):
    """Dense layers with ReLU as a Keras RNN cell: it remembers nothing.

    Args: those of `Memoryless`, with the same defaults.

    Call arguments:
        inputs: Tensor of shape `(batch, features)`.
        states: Empty list.
        start: Ignored.

    Returns:
        `(output, [])`: the output of shape `(batch, hidden_dim)`.

    Raises:
        ValueError: If an argument is not a positive integer.

    Example:

    >>> layer = keras.layers.RNN(MemorylessCell(64))
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dense = [
            Dense(
                self.output_size,
                "relu",
                kernel_initializer=Orthogonal(RELU_GAIN),
                bias_initializer=Zeros(),
                name=f"dense_{i}",
                dtype=self.dtype_policy,
                saved_activations=self.saved_activations,
            )
            for i in range(self.cell_config["num_layers"])
        ]

    @property
    def state_size(self) -> list[int]:
        return []

    def build(self, inputs_shape: Any, states_shape: Any = None) -> None:
        for layer in self.dense:
            layer.build(inputs_shape)
            inputs_shape = (*inputs_shape[:-1], self.output_size)

    @classmethod
    def count_weights(cls, features: int, **config: Any) -> int:
        width = config["hidden_dim"]
        later = (config["num_layers"] - 1) * count_dense(width, width)
        return count_dense(features, width) + later

    def call(
        self,
        inputs: Any,
        states: Any = (),
        start: Any = None,
        training: bool = False,
    ) -> Any:
        return self.run(inputs, states)

    def run(
        self, sequences: Any, states: Any, start: Any = None, mask: Any = None
    ) -> tuple[Any, list[Any]]:
        for layer in self.dense:
            sequences = layer(sequences)
        return sequences, []


@keras.saving.register_keras_serializable(package="keras_agalite")
class Memoryless(SequenceMemory):
    """Dense layers behind the interface of a memory: each step stands alone.

    `return_sequences` is True unless told otherwise.

    Args:
        hidden_dim: Width of the layers.
        num_layers: Number of layers.
        **kwargs: Arguments of `MemoryRNN`.

    Call arguments and returns: as in `MemoryRNN`. The state is an empty list, and a
    start changes nothing.

    Raises:
        ValueError: If an argument is not a positive integer, or as in `MemoryRNN`.

    Example:

    >>> memory = Memoryless(64, num_layers=2)
    >>> outputs = memory(np.random.normal(size=(8, 32, 16)))  # (8, 32, 64)
    """

    short_name = "memoryless"
    cell_class = MemorylessCell

    def __init__(
        self, hidden_dim: int = 128, *, num_layers: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(hidden_dim=hidden_dim, num_layers=num_layers, **kwargs)

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
        return {"hidden_dim": hidden_dim, "num_layers": 4}
