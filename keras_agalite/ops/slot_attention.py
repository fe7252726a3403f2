"""Attention to slots that a loop carries, without keys and values in the loop.

A score `(W_q x) . (W_k m)` is `(W_k^T W_q x) . m`, and a mean of `W_v m` is `W_v` of
the mean of m: queries are made before a loop, values after it, and the loop reads the
slots alone.
"""

import math
from typing import Any

from keras import ops

from keras_agalite.ops.relative_attention import HIDDEN


def slot_queries(x: Any, query: Any, key: Any, heads: int) -> Any:
    """Queries by head, `W_k^T W_q x / sqrt(head_dim)`.

    Args:
        x: Tensor of shape `(batch, time, dim)`.
        query: W_q of shape `(dim, heads * head_dim)`, inputs first.
        key: W_k of shape `(slot_dim, heads * head_dim)`.
        heads: Number of heads.

    Returns:
        Tensor of shape `(batch, time, heads, slot_dim)`.
    """
    slot_dim, width = key.shape
    y = ops.reshape(ops.matmul(x, query), (-1, heads, width // heads))
    key = ops.transpose(_by_head(key, heads), (0, 2, 1))
    y = ops.transpose(ops.matmul(ops.transpose(y, (1, 0, 2)), key), (1, 0, 2))
    y = ops.reshape(y, (*ops.shape(x)[:2], heads, slot_dim))
    return y / math.sqrt(width // heads)


def attend_to_slots(query: Any, slots: Any, visible: Any = None) -> Any:
    """By head, the mean of the slots under a softmax of `query . slot`.

    Args:
        query: Tensor of shape `(batch, heads, slot_dim)`, from `slot_queries`.
        slots: Tensor of shape `(batch, slots, slot_dim)`.
        visible: Optional boolean tensor of shape `(batch, slots)`.

    Returns:
        Tensor of the shape of `query`.
    """
    scores = ops.matmul(query, ops.transpose(slots, (0, 2, 1)))
    if visible is not None:
        scores = ops.where(visible[:, None], scores, HIDDEN)
    return ops.matmul(ops.softmax(scores, axis=-1), slots)


def slot_values(mixed: Any, value: Any) -> Any:
    """W_v of what the heads read.

    Args:
        mixed: Tensor of shape `(..., heads, slot_dim)`, from `attend_to_slots`.
        value: W_v of shape `(slot_dim, heads * head_dim)`.

    Returns:
        Tensor of shape `(..., heads * head_dim)`.
    """
    shape, heads = ops.shape(mixed)[:-2], mixed.shape[-2]
    mixed = ops.reshape(mixed, (-1, heads, mixed.shape[-1]))
    y = ops.matmul(ops.transpose(mixed, (1, 0, 2)), _by_head(value, heads))
    return ops.reshape(ops.transpose(y, (1, 0, 2)), (*shape, value.shape[-1]))


def _by_head(matrix: Any, heads: int) -> Any:
    """`(inputs, heads * head_dim)` to `(heads, inputs, head_dim)`."""
    return ops.transpose(ops.reshape(matrix, (matrix.shape[0], heads, -1)), (1, 0, 2))
