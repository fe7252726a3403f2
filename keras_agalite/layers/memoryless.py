"""No memory at all: the baseline that shows what a task asks of a memory."""

from typing import Any

import keras

from keras_agalite.layers.gru_gate import orthogonal
from keras_agalite.layers.memory_rnn import MemoryRNN


@keras.saving.register_keras_serializable(package="keras_agalite")
class MemorylessCell(keras.layers.Layer):
    """Dense layers of one width; its list of states is empty."""

    def __init__(
        self, hidden_dim: int = 128, num_layers: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        for name, value in (("hidden_dim", hidden_dim), ("num_layers", num_layers)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(
                    f"`{name}` must be a positive integer. Received: {name}={value!r}"
                )
        self.arguments = {"hidden_dim": hidden_dim, "num_layers": num_layers}
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

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.arguments}


@keras.saving.register_keras_serializable(package="keras_agalite")
class Memoryless(MemoryRNN):
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

    def inner_loop(
        self,
        sequences: Any,
        initial_state: Any,
        mask: Any,
        training: bool = False,
        start: Any = None,
    ) -> tuple[Any, Any, Any]:
        outputs, state = self.cell(sequences, [])
        if mask is not None:
            outputs = self.hold_outputs(outputs, mask)
        return outputs[:, -1], outputs, state

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["cell"]
        return {**config, **self.cell.arguments}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        return cls(**config)
