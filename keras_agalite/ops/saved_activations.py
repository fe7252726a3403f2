"""Operations whose backward pass reads their inputs in 8 bits.

Each computes exactly what its plain form computes. What it keeps of activations for
the backward pass are codes of 8 bits (`eight_bits`); weights are kept as they are.
Pan et al., "Mesa: A Memory-saving Training Framework for Transformers", 2021, arXiv
2111.11124.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_agalite.ops._backend import custom_gradient
from keras_agalite.ops.eight_bits import decode, encode
from keras_agalite.ops.precision import at_least_float32

_FORMS = (None, "int8")


def check_saved_activations(form: Any) -> None:
    """Raises a ValueError if activations cannot be kept in this form."""
    if form not in _FORMS:
        raise ValueError(
            "`saved_activations` must be None or 'int8'. "
            f"Received: saved_activations={form!r}"
        )


def product(x: Any, kernel: Any) -> Any:
    """`x kernel`, for x of shape `(..., inputs)`, which is kept in 8 bits."""

    def keep(inputs: Any, output: Any) -> list[Any]:
        x, kernel = inputs
        return [*encode(x), kernel]

    return custom_gradient(ops.matmul, keep, product_gradients, x, kernel)


def product_gradients(kept: Any, d_y: Any) -> list[Any]:
    """The gradients of `product`, from what it keeps."""
    *codes, kernel = kept
    d_x = ops.matmul(d_y, ops.transpose(kernel))
    return [d_x, kernel_gradient(decode(codes, d_y.dtype), d_y)]


def kernel_gradient(x: Any, d_y: Any) -> Any:
    """The gradient of the kernel of `x kernel`, for that of the product."""
    x, d_y = (ops.reshape(t, (-1, t.shape[-1])) for t in (x, d_y))
    return ops.matmul(ops.transpose(x), d_y)


def distance_product(query: Any, position: Any) -> Any:
    """Scores `(batch, heads, tokens, distances)` of queries, which are kept in 8 bits.

    Args:
        query: Tensor of shape `(batch, tokens, heads, head_dim)`.
        position: Tensor of shape `(distances, heads, head_dim)`.
    """

    def keep(inputs: Any, output: Any) -> list[Any]:
        query, position = inputs
        return [*encode(query), position]

    def backward(kept: Any, d_y: Any) -> list[Any]:
        *codes, position = kept
        return [
            ops.einsum("bhqw,whd->bqhd", d_y, position),
            ops.einsum("bhqw,bqhd->whd", d_y, decode(codes, d_y.dtype)),
        ]

    return custom_gradient(plain_distance_product, keep, backward, query, position)


def plain_distance_product(query: Any, position: Any) -> Any:
    """`distance_product`, which keeps what the backend keeps."""
    return ops.einsum("bqhd,whd->bhqw", query, position)


def pair_product(query: Any, key: Any) -> Any:
    """Scores `(..., tokens, keys)` of queries and keys, both kept in 8 bits.

    Args:
        query: Tensor of shape `(..., tokens, head_dim)`.
        key: Tensor of shape `(..., keys, head_dim)`.
    """

    def keep(inputs: Any, output: Any) -> list[Any]:
        query, key = inputs
        return [*encode(query), *encode(key)]

    return custom_gradient(plain_pair_product, keep, pair_gradients, query, key)


def plain_pair_product(query: Any, key: Any) -> Any:
    """`pair_product`, which keeps what the backend keeps."""
    return ops.matmul(query, ops.swapaxes(key, -1, -2))


def pair_gradients(kept: Any, d_y: Any) -> list[Any]:
    """The gradients of `pair_product`, from what it keeps."""
    query, key = decode(kept[:3], d_y.dtype), decode(kept[3:], d_y.dtype)
    return [ops.matmul(d_y, key), ops.matmul(ops.swapaxes(d_y, -1, -2), query)]


def softmax_product(scores: Any, value: Any) -> Any:
    """`softmax(scores) value`; softmax and values are kept in 8 bits.

    A weight of zero stays zero.

    Args:
        scores: Tensor of shape `(..., tokens, keys)`.
        value: Tensor of shape `(..., keys, head_dim)`.
    """

    def keep(inputs: Any, output: Any) -> list[Any]:
        scores, value = inputs
        weights = ops.softmax(scores, axis=-1)
        # Ranges from 0 do not depend on whether hidden keys are there.
        zero = ops.zeros([1] * len(weights.shape), dtype=weights.dtype)
        return [*encode(weights, low=zero), *encode(value)]

    return custom_gradient(
        plain_softmax_product, keep, _softmax_product_gradients, scores, value
    )


def plain_softmax_product(scores: Any, value: Any) -> Any:
    """`softmax_product`, which keeps what the backend keeps."""
    weights = ops.softmax(scores, axis=-1)
    return ops.matmul(ops.cast(weights, value.dtype), value)


def _softmax_product_gradients(kept: Any, d_y: Any) -> list[Any]:
    wide = at_least_float32(d_y.dtype)
    weights, value = decode(kept[:3], wide), decode(kept[3:], d_y.dtype)
    d_weights = ops.cast(ops.matmul(d_y, ops.swapaxes(value, -1, -2)), wide)
    d_value = ops.matmul(ops.swapaxes(ops.cast(weights, d_y.dtype), -1, -2), d_y)
    return [softmax_gradient(weights, d_weights), d_value]


def softmax_gradient(weights: Any, d_weights: Any) -> Any:
    """The gradient of the scores of a softmax, for that of its weights."""
    mean = ops.sum(weights * d_weights, axis=-1, keepdims=True)
    return weights * (d_weights - mean)


class AttentionProducts(NamedTuple):
    """The products of an attention, all with the heads before the tokens.

    Attributes:
        query_key: As `pair_product`.
        query_distance: As `distance_product`.
        softmax_value: As `softmax_product`.
    """

    query_key: Callable[[Any, Any], Any]
    query_distance: Callable[[Any, Any], Any]
    softmax_value: Callable[[Any, Any], Any]


def attention_products(form: str | None) -> AttentionProducts:
    """The products, plainly or with what they keep in this form.

    Raises:
        ValueError: If there is no such form.
    """
    check_saved_activations(form)
    if form is None:
        return AttentionProducts(
            plain_pair_product, plain_distance_product, plain_softmax_product
        )
    return AttentionProducts(pair_product, distance_product, softmax_product)


def layer_normalization(x: Any, gamma: Any, beta: Any, epsilon: float) -> Any:
    """Layer normalisation over the last axis; x is kept in 8 bits.

    The mean and the deviation are exact.
    """

    def forward(x: Any, gamma: Any, beta: Any) -> Any:
        return ops.layer_normalization(x, gamma, beta, axis=-1, epsilon=epsilon)

    def keep(inputs: Any, output: Any) -> list[Any]:
        x, gamma, _ = inputs
        codes, step, low = encode(x)
        x = ops.cast(x, step.dtype)
        mean, variance = ops.moments(x, axes=-1, keepdims=True)
        rate = ops.rsqrt(variance + epsilon)
        # The codes are also those of (x - mean) rate.
        return [codes, step * rate, (low - mean) * rate, rate, gamma]

    return custom_gradient(forward, keep, normalization_gradients, x, gamma, beta)


def normalization_gradients(kept: Any, d_y: Any) -> list[Any]:
    """The gradients of `layer_normalization`, from what it keeps."""
    *codes, rate, gamma = kept
    normal, d_y = decode(codes, rate.dtype), ops.cast(d_y, rate.dtype)
    d_normal = d_y * ops.cast(gamma, rate.dtype)
    mean = ops.mean(d_normal, axis=-1, keepdims=True)
    share = ops.mean(d_normal * normal, axis=-1, keepdims=True)
    rows = tuple(range(len(d_y.shape) - 1))
    return [
        rate * (d_normal - mean - normal * share),
        ops.sum(d_y * normal, axis=rows),
        ops.sum(d_y, axis=rows),
    ]


def gelu_slope(x: Any) -> Any:
    """The derivative of gelu."""
    density = ops.exp(-0.5 * x * x) * 0.3989422804014327  # 1 / sqrt(2 pi)
    return 0.5 * (1.0 + ops.erf(x * 0.7071067811865476)) + x * density


def _silu_slope(x: Any) -> Any:
    gate = ops.sigmoid(x)
    return gate * (1.0 + x * (1.0 - gate))


# Slopes, as functions of the input or of the output.
_OF_INPUT = {"gelu": gelu_slope, "silu": _silu_slope}
_OF_OUTPUT = {
    "tanh": lambda y: 1.0 - y * y,
    "sigmoid": lambda y: y * (1.0 - y),
}


def activation(function: Callable[[Any], Any], x: Any) -> Any:
    """One of Keras's activations.

    relu keeps which outputs are positive; gelu and silu keep their input and tanh and
    sigmoid their output in 8 bits. Another activation keeps what it does elsewhere.
    """
    name = getattr(function, "__name__", "")
    if getattr(keras.activations, name, None) is not function:
        return function(x)
    if name == "relu":

        def keep(inputs: Any, output: Any) -> list[Any]:
            return [output > 0.0]

        def backward(kept: Any, d_y: Any) -> list[Any]:
            return [ops.where(kept[0], d_y, 0.0)]

    elif name in _OF_INPUT or name in _OF_OUTPUT:
        slope = _OF_INPUT.get(name) or _OF_OUTPUT[name]

        def keep(inputs: Any, output: Any) -> list[Any]:
            return encode(inputs[0] if name in _OF_INPUT else output)

        def backward(kept: Any, d_y: Any) -> list[Any]:
            wide = at_least_float32(d_y.dtype)
            return [ops.cast(d_y, wide) * slope(decode(kept, wide))]

    else:
        return function(x)
    return custom_gradient(function, keep, backward, x)
