"""Attention by relative distance within a segment, where the caller says who sees whom.

Dai et al., "Transformer-XL: Attentive Language Models beyond a Fixed-Length
Context", ACL 2019, section 3.3; with distances below zero for tokens that see later
ones, as the memory tokens of RATE do (arXiv 2306.09459).
"""

import math
from collections.abc import Callable
from typing import Any

from keras import ops

from keras_agalite.ops.checks import check_batches
from keras_agalite.ops.precision import at_least_float32
from keras_agalite.ops.relative_attention import HIDDEN, skew
from keras_agalite.ops.saved_activations import attention_products


def distance_scores(query: Any, position: Any, length: Any) -> Any:
    """Scores by the distance from a token to each key, also to a later one.

    Args:
        query: Tensor of shape `(batch, tokens, heads, head_dim)`; its tokens are the
            last of the keys.
        position: Keys of the distances `length - 1, ..., 0, ..., 1 - tokens`, tensor
            of shape `(length + tokens - 1, heads, head_dim)`.
        length: Number of keys.

    Returns:
        Tensor of shape `(batch, heads, tokens, length)`.
    """
    by_distance = ops.einsum("bqhd,whd->bhqw", query, position)
    first = ops.shape(query)[1] - 1
    return skew(by_distance)[..., first : first + length]


def segment_attention(
    query: Any,
    key: Any,
    value: Any,
    by_distance: Any,
    visible: Any,
    drop: Callable[[Any], Any] | None = None,
    saved_activations: str | None = None,
) -> Any:
    """Attends from tokens to keys that the caller lets them see.

    With d the width of a head:

        y_i = sum_j softmax_j((q_i . k_j + by_distance_ij) / sqrt(d)) v_j

    Args:
        query: Tensor of shape `(batch, tokens, heads, head_dim)`.
        key: Tensor of shape `(batch, length, heads, head_dim)`.
        value: Tensor of the same shape.
        by_distance: Tensor of shape `(batch, heads, tokens, length)`, or one that
            broadcasts to it.
        visible: Boolean tensor of shape `(batch or 1, tokens, length)`; each token
            sees at least one key.
        drop: Dropout of the weights.
        saved_activations: With "int8", the backward pass reads queries, keys and
            values in 8 bits, and the softmax where nothing is dropped.

    Returns:
        Tensor of shape `(batch, tokens, heads, head_dim)`; the softmax is computed in
        float32 at least.

    Raises:
        ValueError: If batch sizes differ.
    """
    check_batches(query=query, key=key, value=value)
    query_by_head, key_by_head, value_by_head = (
        ops.transpose(x, (0, 2, 1, 3)) for x in (query, key, value)
    )
    products = attention_products(saved_activations)
    scores = products.query_key(query_by_head, key_by_head) + by_distance
    scores = ops.cast(scores, at_least_float32(query.dtype))
    scores = scores / math.sqrt(query.shape[-1])
    scores = ops.where(visible[:, None], scores, HIDDEN)
    if drop is None:
        y = products.softmax_value(scores, value_by_head)
    else:
        weights = drop(ops.softmax(scores, axis=-1))
        y = ops.matmul(ops.cast(weights, value.dtype), value_by_head)
    return ops.transpose(y, (0, 2, 1, 3))
