"""Dense layers as encoders and heads use them: orthogonal kernels, zero biases."""

from typing import Any

from keras_agalite.layers.counting import count_dense
from keras_agalite.layers.initializers import RELU_GAIN, Orthogonal, Zeros
from keras_agalite.layers.saved_activations import Dense


def dense(
    units: int,
    activation: str | None,
    dtype: Any,
    gain: float = RELU_GAIN,
    saved_activations: str | None = None,
) -> Dense:
    """A dense layer whose kernel begins orthogonal, with this gain."""
    return Dense(
        units,
        activation,
        kernel_initializer=Orthogonal(gain),
        bias_initializer=Zeros(),
        dtype=dtype,
        saved_activations=saved_activations,
    )


def mlp(
    units: int,
    activation: str,
    outputs: int,
    dtype: Any,
    gain: float = RELU_GAIN,
    saved_activations: str | None = None,
) -> tuple[Dense, Dense]:
    """A hidden layer and a linear output layer, which begins with the gain."""
    saved = saved_activations
    return (
        dense(units, activation, dtype, saved_activations=saved),
        dense(outputs, None, dtype, gain, saved),
    )


def count_mlp(features: int, units: int, outputs: int) -> int:
    """Number of weights of `mlp` on so many features; without units, of its output."""
    if not units:
        return count_dense(features, outputs)
    return count_dense(features, units) + count_dense(units, outputs)
