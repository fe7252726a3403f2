"""The gate of GTrXL: plainly, or with a backward pass that reads 8 bits.

Parisotto et al., "Stabilizing Transformers for Reinforcement Learning", ICML 2020,
section 3.2.
"""

from typing import Any

from keras import ops

from keras_agalite.ops._backend import custom_gradient
from keras_agalite.ops.eight_bits import decode, encode
from keras_agalite.ops.saved_activations import check_saved_activations, kernel_gradient


def gru_gate(
    stream: Any,
    update: Any,
    update_kernel: Any,
    stream_kernel: Any,
    candidate_kernel: Any,
    bias: Any,
    saved_activations: str | None = None,
) -> Any:
    """Gates an update y into a stream x.

        r = sigmoid(y W_r + x U_r)
        z = sigmoid(y W_z + x U_z - b)
        h = tanh(y W_g + (r * x) U_g)
        output = (1 - z) * x + z * h

    Args:
        stream: Tensor of shape `(..., dim)`.
        update: Tensor of the same shape.
        update_kernel: W_r, W_z and W_g, tensor of shape `(dim, 3 * dim)`.
        stream_kernel: U_r and U_z, tensor of shape `(dim, 2 * dim)`.
        candidate_kernel: U_g, tensor of shape `(dim, dim)`.
        bias: b, tensor of shape `(dim,)`.
        saved_activations: With "int8", stream and update are kept in 8 bits, and all
            else is computed again from them in the backward pass.

    Returns:
        Tensor of the shape of `stream`.

    Raises:
        ValueError: If `saved_activations` is neither None nor "int8".
    """
    check_saved_activations(saved_activations)
    inputs = (stream, update, update_kernel, stream_kernel, candidate_kernel, bias)
    if saved_activations is None:
        return _forward(*inputs)
    return custom_gradient(_forward, _keep, _backward, *inputs)


def _parts(
    x: Any, y: Any, update_kernel: Any, stream_kernel: Any, kernel: Any, bias: Any
) -> tuple[Any, Any, Any]:
    from_update = ops.split(ops.matmul(y, update_kernel), 3, axis=-1)
    from_stream = ops.split(ops.matmul(x, stream_kernel), 2, axis=-1)
    r = ops.sigmoid(from_update[0] + from_stream[0])
    z = ops.sigmoid(from_update[1] + from_stream[1] - bias)
    h = ops.tanh(from_update[2] + ops.matmul(r * x, kernel))
    return r, z, h


def _forward(stream: Any, *others: Any) -> Any:
    _, z, h = _parts(stream, *others)
    return (1.0 - z) * stream + z * h


def _keep(inputs: Any, output: Any) -> list[Any]:
    stream, update, *weights = inputs
    return [*encode(stream), *encode(update), *weights]


def _backward(kept: Any, d_output: Any) -> list[Any]:
    x, y = decode(kept[:3], d_output.dtype), decode(kept[3:6], d_output.dtype)
    update_kernel, stream_kernel, kernel, bias = kept[6:]
    r, z, h = _parts(x, y, update_kernel, stream_kernel, kernel, bias)

    d_candidate = d_output * z * (1.0 - h * h)
    d_reset_stream = ops.matmul(d_candidate, ops.transpose(kernel))
    d_z = d_output * (h - x) * z * (1.0 - z)
    d_r = d_reset_stream * x * r * (1.0 - r)
    d_from_stream = ops.concatenate([d_r, d_z], axis=-1)
    d_from_update = ops.concatenate([d_r, d_z, d_candidate], axis=-1)
    return [
        d_output * (1.0 - z)
        + d_reset_stream * r
        + ops.matmul(d_from_stream, ops.transpose(stream_kernel)),
        ops.matmul(d_from_update, ops.transpose(update_kernel)),
        kernel_gradient(y, d_from_update),
        kernel_gradient(x, d_from_stream),
        kernel_gradient(r * x, d_candidate),
        -ops.sum(d_z, axis=tuple(range(len(d_z.shape) - 1))),
    ]
