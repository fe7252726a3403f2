"""No memory at all: the baseline that shows what a task asks of a memory."""

from typing import Any

import keras

from keras_agalite.layers.gru_gate import orthogonal
from keras_agalite.layers.sequence_memory import SequenceMemory, check_sizes


@keras.saving.register_keras_serializable(package="keras_agalite")
class MemorylessCell(keras.layers.Layer):
    """Dense layers of one width; its list of states is empty."""

    def __init__(
        self, hidden_dim: int = 128, num_layers: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.arguments = {"hidden_dim": hidden_dim, "num_layers": num_layers}
        check_sizes(self.arguments)
        self.state_size: list[int] = []
        self.output_size = hidden_dim
        self.dense = [
            keras.layers.Dense(
                hidden_dim,
                "relu",
                kernel_initializer=orthogonal(),
                name=f"dense_{i}",
                dtype=self.dtype_policy,
            )
            for i in range(num_layers)
        ]

    def get_initial_state(self, batch_size: Any = None) -> list[Any]:
        return []

    def build(self, inputs_shape: Any, states_shape: Any = None) -> None:
        for layer in self.dense:
            layer.build(inputs_shape)
            inputs_shape = (*inputs_shape[:-1], self.output_size)

    def call(self, inputs: Any, states: Any = ()) -> tuple[Any, list[Any]]:
        for layer in self.dense:
            inputs = layer(inputs)
        return inputs, []

    def run(
        self, sequences: Any, states: Any, start: Any = None, mask: Any = None
    ) -> tuple[Any, list[Any]]:
        return self(sequences, states)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.arguments}


@keras.saving.register_keras_serializable(package="keras_agalite")
class Memoryless(SequenceMemory):
    """Dense layers behind the interface of a memory: each step stands alone.

    Args:
        hidden_dim: Width of the layers.
        num_layers: Number of layers.
        **kwargs: Arguments of `MemoryRNN`.
    """

    def __init__(
        self, hidden_dim: int = 128, num_layers: int = 1, **kwargs: Any
    ) -> None:
        cell = MemorylessCell(
            hidden_dim, num_layers, name="cell", dtype=kwargs.get("dtype")
        )
        super().__init__(cell, **kwargs)
