"""The attention of GTrXL: softmax attention over a memory, by relative distance.

Dai et al., "Transformer-XL: Attentive Language Models beyond a Fixed-Length
Context", ACL 2019, section 3.3 and appendix B.
"""

import math
from typing import Any

from keras import ops

from keras_agalite.ops.checks import check_batches
from keras_agalite.ops.precision import at_least_float32
from keras_agalite.ops.saved_activations import attention_products
from keras_agalite.ops.sinusoids import sinusoids

# As good as minus infinity, and a gradient through it is zero instead of NaN.
HIDDEN = -1e30


def distance_encoding(furthest: Any, dim: int, nearest: Any = 0) -> Any:
    """Encodes the distances `furthest, ..., nearest` by sines and cosines.

    Args:
        furthest: The first distance.
        dim: Width of the encoding.
        nearest: The last distance; a negative one is that of a later token.

    Returns:
        float32 tensor of shape `(furthest - nearest + 1, dim)`.
    """
    number = furthest - nearest + 1
    distance = furthest - ops.arange(number, dtype="int32")
    return sinusoids(ops.cast(distance, "float32"), dim)


def relative_attention(
    query: Any,
    key: Any,
    value: Any,
    position: Any,
    content_bias: Any,
    position_bias: Any,
    episode: Any,
    *,
    memory_length: int,
    sliding_window: bool = True,
    saved_activations: str | None = None,
) -> Any:
    """Attends from every token to itself, to earlier tokens and to the memory.

    With i a token, j what it sees and d the width of a head:

        score_ij = (q_i + u) . k_j + (q_i + v) . p_(i-j)
        y_i = sum_j softmax_j(score_ij / sqrt(d)) value_j

    A token sees what has its own episode number, and of all else not even a NaN.
    With `sliding_window` it sees at most `memory_length` items before itself; else
    all of them. A window works through chunks of `memory_length` tokens, so that no
    scores of time x time are made.

    Args:
        query: Tensor of shape `(batch, time, heads, head_dim)`.
        key: Tensor of shape `(batch, memory_length + time, heads, head_dim)`: keys
            of the memory, the oldest first, then of the tokens.
        value: Tensor of the same shape.
        position: Keys of the distances that can be seen, the furthest first:
            `memory_length, ..., 0`, without a window `memory_length + time - 1,
            ..., 0`. Tensor of shape `(distances, heads, head_dim)`.
        content_bias: Tensor `u` of shape `(heads, head_dim)`.
        position_bias: Tensor `v` of the same shape.
        episode: Integer tensor of shape `(batch, memory_length + time)`.
        memory_length: Number of items in the memory.
        sliding_window: Whether what a token sees is limited to `memory_length`
            items before it.
        saved_activations: With "int8", the backward pass reads queries, keys, values
            and the softmax in 8 bits.

    Returns:
        Tensor of shape `(batch, time, heads, head_dim)`; the softmax is computed in
        float32 at least.

    Raises:
        ValueError: If batch sizes differ.
    """
    check_batches(query=query, key=key, value=value, episode=episode)
    # Who sees a key that is NaN is NaN by its score. To the others, whose weight is
    # zero, its value must be a number.
    broken = ops.any(ops.isnan(key), axis=-1, keepdims=True)
    value = ops.where(broken, 0.0, value)
    length = query.shape[1]
    number = episode[:, memory_length:]
    # An unknown length, None or an exporter's symbol, may be any.
    is_short = isinstance(length, int) and length <= memory_length
    in_chunks = sliding_window and not is_short
    time = ops.shape(query)[1]
    if in_chunks:
        query, number = (_chunks(x, time, memory_length) for x in (query, number))
        key, value, episode = (
            _windows(x, time, memory_length) for x in (key, value, episode)
        )
    # Products, since the einsum of ONNX Runtime dies on a batch of 0.
    query_by_head, key_by_head, value_by_head = (
        ops.transpose(x, (0, 2, 1, 3)) for x in (query + content_bias, key, value)
    )
    products = attention_products(saved_activations)
    scores = products.query_key(query_by_head, key_by_head)
    by_distance = products.query_distance(query + position_bias, position)
    by_key = skew(by_distance)[..., -ops.shape(key)[1] :]
    dtype = at_least_float32(query.dtype)
    scores = ops.cast(scores + by_key, dtype) / math.sqrt(query.shape[-1])

    distance = (
        memory_length
        + ops.arange(ops.shape(query)[1], dtype="int32")[:, None]
        - ops.arange(ops.shape(key)[1], dtype="int32")[None, :]
    )
    seen = distance >= 0
    if sliding_window:
        seen = ops.logical_and(seen, distance <= memory_length)
    visible = ops.logical_and(seen, number[:, :, None] == episode[:, None, :])
    scores = ops.where(visible[:, None], scores, HIDDEN)
    y = products.softmax_value(scores, value_by_head)
    y = ops.transpose(y, (0, 2, 1, 3))
    if in_chunks:
        padded = -(-time // memory_length) * memory_length
        y = ops.reshape(y, (-1, padded, *y.shape[2:]))[:, :time]
    return y


def skew(scores: Any) -> Any:
    """From columns by distance `(..., W, ..., 0)` to columns by key.

    Row i of `(..., tokens, W + 1)` moves i places to the right. Of the columns
    `(..., tokens, W + tokens)` the last one is the last token, the one before it the
    last but one and so on; places out of a token's reach hold zeros.
    """
    batch, heads, tokens, distances = ops.shape(scores)
    zeros = ops.zeros((batch, heads, tokens, tokens), dtype=scores.dtype)
    padded = ops.concatenate([scores, zeros], axis=-1)
    columns = distances + tokens - 1
    flat = ops.reshape(padded, (batch, heads, tokens * (columns + 1)))
    return ops.reshape(flat[:, :, : tokens * columns], (batch, heads, tokens, columns))


def _pad(x: Any, time: Any, size: int) -> Any:
    """Zeros behind a sequence of `time` steps up to a multiple of `size`."""
    batch, *rest = ops.shape(x)[:1] + tuple(x.shape[2:])
    # Written so that an exporter's symbols show that `size` divides the sum.
    missing = -(-time // size) * size - time
    zeros = ops.zeros((batch, missing, *rest), dtype=x.dtype)
    return ops.concatenate([x, zeros], axis=1)


def _chunks(x: Any, time: Any, size: int) -> Any:
    """`(batch, time, ...)` to `(batch * chunks, size, ...)`."""
    return ops.reshape(_pad(x, time, size), (-1, size, *x.shape[2:]))


def _windows(x: Any, time: Any, size: int) -> Any:
    """`(batch, size + time, ...)` to each chunk with the `size` items before it."""
    padded = _pad(x, time, size)
    chunks = -(-time // size)
    parts = ops.reshape(padded, (-1, chunks + 1, size, *x.shape[2:]))
    pairs = ops.concatenate([parts[:, :-1], parts[:, 1:]], axis=2)
    return ops.reshape(pairs, (-1, 2 * size, *x.shape[2:]))
