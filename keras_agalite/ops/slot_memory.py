"""The slots of Memformer: read by each token, written after each segment.

Wu et al., "Memformer: A Memory-Augmented Transformer for Sequence Modeling", 2020,
arXiv 2010.06891.
"""

import math
from typing import Any, NamedTuple

from keras import ops

from keras_agalite.ops.checks import check_inputs
from keras_agalite.ops.episodes import memory_scan
from keras_agalite.ops.precision import at_least_float32
from keras_agalite.ops.slot_attention import (
    attend_to_slots,
    slot_queries,
    slot_values,
)


class SlotWeights(NamedTuple):
    """The weights of the slots. Matrices are of shape `(dim, dim)`, inputs first.

    Attributes:
        bias: v, of shape `(slots, dim)`: what empty slots are, and what all fade to.
        read_query: R_q.
        read_key: R_k.
        read_value: R_v.
        read_output: R_o.
        write_query: W_q.
        write_key: W_k.
        write_value: W_v.
    """

    bias: Any
    read_query: Any
    read_key: Any
    read_value: Any
    read_output: Any
    write_query: Any
    write_key: Any
    write_value: Any


def normalize_slots(slots: Any, bias: Any, slot_norm: float) -> Any:
    """Slots as they are read: `slots + bias`, each of the Euclidean length given."""
    slots = slots + bias
    square = ops.sum(slots * slots, axis=-1, keepdims=True)
    return slots * (slot_norm * ops.rsqrt(square + 1e-12))


def write_slots(
    slots: Any,
    tokens: Any,
    query: Any,
    key: Any,
    value: Any,
    heads: int,
    temperature: float,
) -> Any:
    """Each slot attends to itself and to the tokens of a segment, and becomes that.

    Args:
        slots: Normalised slots of shape `(batch, slots, dim)`.
        tokens: Tensor of shape `(batch, tokens, dim)`.
        query: W_q.
        key: W_k.
        value: W_v.
        heads: Number of heads.
        temperature: tau.

    Returns:
        Tensor of the shape of `slots`.
    """
    dim = slots.shape[-1]
    head_dim = dim // heads

    def split(x: Any) -> Any:
        x = ops.reshape(x, (-1, x.shape[1], heads, head_dim))
        return ops.transpose(x, (0, 2, 1, 3))

    q = split(ops.matmul(slots, query))
    own = ops.sum(q * split(ops.matmul(slots, key)), axis=-1, keepdims=True)
    other_key = ops.transpose(split(ops.matmul(tokens, key)), (0, 1, 3, 2))
    scores = ops.concatenate([own, ops.matmul(q, other_key)], axis=-1)
    w = ops.softmax(scores / (math.sqrt(head_dim) * temperature), axis=-1)
    written = ops.matmul(w[..., 1:], split(ops.matmul(tokens, value)))
    new = w[..., :1] * split(slots) + written
    return ops.reshape(ops.transpose(new, (0, 2, 1, 3)), (-1, slots.shape[1], dim))


def slot_memory(
    x: Any,
    weights: SlotWeights,
    state: Any,
    *,
    heads: int,
    temperature: float,
    slot_norm: float = 1.0,
    start: Any = None,
    mask: Any = None,
) -> tuple[Any, Any]:
    """Runs the slots of one block of Memformer over a sequence.

    With m the slots as they are read, y_j the earlier tokens of the segment, and an
    attention of `heads` heads:

        m_i = slot_norm (s_i + v_i) / |s_i + v_i|
        read_t = R_o attention(R_q x_t; R_k [m; y_j], R_v [m; y_j])
        y_t = x_t + read_t

    After the last token of a segment of S tokens, by head, with w the softmax of
    `W_q m_i . [W_k m_i; W_k y_1..S] / (sqrt(head_dim) temperature)`:

        s_i = w_0 m_i + sum_j w_j W_v y_j

    The loop keeps no state per time step: its backward pass computes the states again.

    Args:
        x: Tensor of shape `(batch, time, dim)`.
        weights: The weights.
        state: List of tensors, zeros if empty: the slots s of shape
            `(batch, slots, dim)` and, unless S is 1, the earlier tokens of the segment,
            `(batch, S - 1, dim)`, and their number, `(batch, 1)`.
        heads: Number of heads, of which `dim` is a multiple.
        temperature: tau.
        slot_norm: Euclidean length of a slot as it is read; 1 in the paper.
        start: Optional boolean tensor `(batch, time)`: empties the memory before the
            token is read; a segment begins.
        mask: Optional boolean tensor `(batch, time)`: where False, the token is
            skipped, its start included.

    Returns:
        A tuple `(read, state)`: `read` of the shape of `x`, the state in the shapes and
        dtypes it came in. Both are computed in float32 at least.

    Raises:
        ValueError: If batch sizes differ, or the shape of `start` or `mask` is another.
    """
    check_inputs(state, start, mask, x=x)
    dtype = at_least_float32(x.dtype)
    x = ops.cast(x, dtype)
    weights = SlotWeights(*(ops.cast(w, dtype) for w in weights))
    query = slot_queries(x, weights.read_query, weights.read_key, heads)
    length = state[1].shape[1] if len(state) > 1 else 0

    def step(carry: Any, inputs: Any, weights: Any) -> tuple[list[Any], Any]:
        (slots, *segment), (x, query) = carry, inputs
        bias, read_value, read_output, query_kernel, key, value = weights

        def write(tokens: Any) -> Any:
            kernels = query_kernel, key, value
            return write_slots(slots_read, tokens, *kernels, heads, temperature)

        slots_read = normalize_slots(slots, bias, slot_norm)
        items, visible = slots_read, None
        if segment:
            tokens, count = segment[0], ops.stop_gradient(segment[1])
            places = ops.arange(length, dtype=dtype)[None, :]
            items = ops.concatenate([slots_read, tokens], axis=1)
            visible = ops.concatenate(
                [ops.ones_like(slots_read[:, :, 0], dtype="bool"), places < count],
                axis=1,
            )
        read = slot_values(attend_to_slots(query, items, visible), read_value)
        read = ops.matmul(read, read_output)
        y = (x + read)[:, None]
        if not segment:
            return [write(y)], read
        whole = ops.concatenate([tokens, y], axis=1)
        last = count >= length
        tokens = ops.where((places == count)[:, :, None], y, tokens)
        return [
            ops.where(last[:, :, None], write(whole), slots),
            ops.where(last[:, :, None], 0.0, tokens),
            ops.where(last, 0.0, count + 1.0),
        ], read

    return memory_scan(
        step,
        state,
        [x, query],
        start,
        mask,
        [weights.bias, *weights[3:]],
    )
