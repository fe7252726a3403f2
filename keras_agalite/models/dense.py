"""Dense layers as encoders and heads use them: orthogonal kernels, zero biases."""

from typing import Any

import keras

from keras_agalite.layers.counting import count_dense
from keras_agalite.layers.initializers import RELU_GAIN, Orthogonal, Zeros


def dense(
    units: int, activation: str | None, dtype: Any, gain: float = RELU_GAIN
) -> keras.layers.Dense:
    """A dense layer whose kernel begins orthogonal, with this gain."""
    return keras.layers.Dense(
        units,
        activation,
        kernel_initializer=Orthogonal(gain),
        bias_initializer=Zeros(),
        dtype=dtype,
    )


def mlp(
    units: int, activation: str, outputs: int, dtype: Any, gain: float = RELU_GAIN
) -> tuple[keras.layers.Dense, keras.layers.Dense]:
    """A hidden layer and a linear output layer, which begins with the gain."""
    return dense(units, activation, dtype), dense(outputs, None, dtype, gain)


def count_mlp(features: int, units: int, outputs: int) -> int:
    """Number of weights of `mlp` on so many features; without units, of its output."""
    if not units:
        return count_dense(features, outputs)
    return count_dense(features, units) + count_dense(units, outputs)
