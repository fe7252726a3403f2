"""How much each frozen layer counts where SHERL merges their outputs.

Diao et al., "SHERL: Synthesizing High Accuracy and Efficient Memory for
Resource-Limited Transfer Learning", ECCV 2024, arXiv 2407.07523.
"""

from typing import Any

from keras import ops

from keras_agalite.ops.precision import at_least_float32

EPSILON = 1e-8


def layer_redundancy(projected: Any) -> Any:
    """How much of a layer the others say as well.

        rho_l = sum_j relu(cosine(p_l, p_j))

    Args:
        projected: Tensor of shape `(..., layers, units)`.

    Returns:
        Tensor of shape `(..., layers)`, at least 1: a layer counts itself. It has at
        least float32.
    """
    projected = ops.cast(projected, at_least_float32(projected.dtype))
    # Zero vectors have a direction of zeros, and a gradient of zero through it.
    square = ops.sum(ops.square(projected), axis=-1, keepdims=True)
    unit = projected / ops.sqrt(ops.maximum(square, EPSILON**2))
    cosine = ops.matmul(unit, ops.swapaxes(unit, -1, -2))
    return ops.maximum(ops.sum(ops.relu(cosine), axis=-1), 1.0)


def layer_weights(projected: Any, guide: Any, kernel: Any, bias: Any) -> Any:
    """The weights of the layers in SHERL's merge.

        b_l = relu(c . (p_l * g) + c_0) / rho_l       w_l = b_l / (sum_j b_j + 1e-8)

    Args:
        projected: The layers p, tensor of shape `(..., layers, units)`.
        guide: The last layer g, tensor of shape `(..., units)`.
        kernel: c, tensor of shape `(units, 1)`.
        bias: c_0, tensor of shape `(1,)`.

    Returns:
        Tensor of shape `(..., layers)`, of which the last axis sums to 1 or, where no
        layer agrees with the guide, to 0. It has at least float32.
    """
    wide = at_least_float32(projected.dtype)
    projected, guide, kernel, bias = (
        ops.cast(x, wide) for x in (projected, guide, kernel, bias)
    )
    agreement = ops.matmul(projected * guide[..., None, :], kernel) + bias
    rated = ops.relu(agreement[..., 0]) / layer_redundancy(projected)
    return rated / (ops.sum(rated, axis=-1, keepdims=True) + EPSILON)
