"""The gate that replaces residual connections in GTrXL and AGaLiTe."""

from typing import Any

import keras

from keras_agalite.layers.initializers import (
    RELU_GAIN,
    Constant,
    Orthogonal,
    OrthogonalBlocks,
)
from keras_agalite.ops.gru_gate import gru_gate
from keras_agalite.ops.saved_activations import check_saved_activations


@keras.saving.register_keras_serializable(package="keras_agalite")
class GRUGate(keras.layers.Layer):
    """Gates an update into a stream, as a GRU gates its input into its state.

    With `x` the stream and `y` the update:

        r = sigmoid(y W_r + x U_r)
        z = sigmoid(y W_z + x U_z - b)
        h = tanh(y W_g + (r * x) U_g)
        output = (1 - z) * x + z * h

    Parisotto et al., "Stabilizing Transformers for Reinforcement Learning", ICML
    2020, section 3.2. The bias starts positive, so a new gate lets the stream pass.

    Args:
        gate_bias: Initial value of `b`.
        saved_activations: None, or `"int8"`: for the backward pass, the stream and the
            update are kept in 8 bits, and all else is computed again from them.

    Call arguments:
        stream: Tensor of shape `(..., dim)`.
        update: Tensor of the same shape.

    Returns:
        Tensor of the same shape.

    Raises:
        ValueError: If the two shapes differ in their last axis, or `saved_activations`
            is neither.
    """

    def __init__(
        self,
        gate_bias: float = 2.0,
        saved_activations: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_saved_activations(saved_activations)
        self.gate_bias = gate_bias
        self.saved_activations = saved_activations
        self.supports_masking = True

    def build(self, stream_shape: Any, update_shape: Any) -> None:
        dim = stream_shape[-1]
        if update_shape[-1] != dim:
            raise ValueError(
                "GRUGate expects a stream and an update of the same width. "
                f"Received: stream_shape={tuple(stream_shape)}, "
                f"update_shape={tuple(update_shape)}"
            )
        self.update_kernel = self.add_weight(  # W_r, W_z, W_g
            name="update_kernel",
            shape=(dim, 3 * dim),
            initializer=OrthogonalBlocks(dim, RELU_GAIN),
        )
        self.stream_kernel = self.add_weight(  # U_r, U_z
            name="stream_kernel",
            shape=(dim, 2 * dim),
            initializer=OrthogonalBlocks(dim, RELU_GAIN),
        )
        self.candidate_kernel = self.add_weight(  # U_g
            name="candidate_kernel",
            shape=(dim, dim),
            initializer=Orthogonal(RELU_GAIN),
        )
        self.bias = self.add_weight(
            name="bias", shape=(dim,), initializer=Constant(self.gate_bias)
        )

    @staticmethod
    def count_weights(dim: int) -> int:
        """Number of weights of a gate between streams of this width."""
        return 6 * dim**2 + dim

    def call(self, stream: Any, update: Any) -> Any:
        return gru_gate(
            stream,
            update,
            self.update_kernel,
            self.stream_kernel,
            self.candidate_kernel,
            self.bias,
            self.saved_activations,
        )

    def compute_output_shape(self, stream_shape: Any, update_shape: Any) -> Any:
        return stream_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "gate_bias": self.gate_bias,
            "saved_activations": self.saved_activations,
        }
