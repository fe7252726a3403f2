"""Keras's layers, with a backward pass that may read 8 bits."""

from typing import Any

import keras
from keras import ops

from keras_agalite.ops.saved_activations import (
    activation,
    check_saved_activations,
    layer_normalization,
    product,
)


class Dense(keras.layers.Dense):
    """`keras.layers.Dense`; what its backward pass reads may be kept in 8 bits.

    Args:
        saved_activations: None, or `"int8"`: the input, and what the gradient of the
            activation needs, are kept in 8 bits. The output is the same.
        **kwargs: Arguments of `keras.layers.Dense`.

    Raises:
        ValueError: If `saved_activations` is neither.
    """

    def __init__(self, *args: Any, saved_activations: Any = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        check_saved_activations(saved_activations)
        self.saved_activations = saved_activations

    def quantize(self, *args: Any, type_check: bool = True, **kwargs: Any) -> None:
        # Keras refuses subclasses, whose `call` it does not know. This is its own.
        type_check = type_check and self.saved_activations is not None
        super().quantize(*args, type_check=type_check, **kwargs)

    def call(self, inputs: Any, training: Any = None) -> Any:
        if self.saved_activations is None:
            return super().call(inputs, training=training)
        x = product(inputs, self.kernel)
        if self.bias is not None:
            x = ops.add(x, self.bias)
        return x if self.activation is None else activation(self.activation, x)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "saved_activations": self.saved_activations}


class LayerNormalization(keras.layers.LayerNormalization):
    """`keras.layers.LayerNormalization` over the last axis, with scale and offset.

    Args:
        saved_activations: None, or `"int8"`: the input is kept in 8 bits for the
            backward pass; the mean and the deviation are exact.
        **kwargs: Arguments of `keras.layers.LayerNormalization`.

    Raises:
        ValueError: If `saved_activations` is neither.
    """

    def __init__(self, *args: Any, saved_activations: Any = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        check_saved_activations(saved_activations)
        self.saved_activations = saved_activations

    def call(self, inputs: Any) -> Any:
        if self.saved_activations is None:
            return super().call(inputs)
        outputs = layer_normalization(inputs, self.gamma, self.beta, self.epsilon)
        return ops.cast(outputs, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "saved_activations": self.saved_activations}
