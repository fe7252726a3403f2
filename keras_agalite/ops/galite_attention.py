"""The read-out of GaLiTe: gated linear attention with an outer-product gate.

Pramanik et al., "AGaLiTe: Approximate Gated Linear Transformers for Online
Reinforcement Learning", TMLR 2024, arXiv 2310.15719.
"""

from typing import Any

import keras
from keras import ops

from keras_agalite.ops.gated_linear_attention import attention_inputs
from keras_agalite.ops.linear_scan import linear_scan

EPSILON = 1e-10


def galite_state_size(num_heads: int, head_dim: int, eta: int) -> int:
    """Number of floats that one block carries for one environment."""
    return num_heads * head_dim * eta * (head_dim + 1)


def unpack_galite_state(
    state: Any, num_heads: int, head_dim: int, eta: int
) -> tuple[Any, Any]:
    """Splits a state of shape `(batch, size)` into sum and normaliser.

    Returns:
        `c` of shape `(batch, heads, head_dim, eta * head_dim)` and `s` of shape
        `(batch, heads, eta * head_dim)`.
    """
    wide = head_dim * eta
    size = num_heads * head_dim * wide
    c = ops.reshape(state[:, :size], (-1, num_heads, head_dim, wide))
    return c, ops.reshape(state[:, size:], (-1, num_heads, wide))


def pack_galite_state(c: Any, s: Any) -> Any:
    """The inverse of `unpack_galite_state`."""
    heads, head_dim, wide = c.shape[1:]
    flat = ops.reshape(c, (-1, heads * head_dim * wide))
    return ops.concatenate([flat, ops.reshape(s, (-1, heads * wide))], axis=1)


def galite_attention(
    query: Any,
    key: Any,
    value: Any,
    beta: Any,
    gamma: Any,
    expansions: Any,
    state: Any,
    *,
    start: Any = None,
    mask: Any = None,
) -> tuple[Any, Any]:
    """Runs the memory of one GaLiTe block over a sequence.

    With `k = key (x) p_k`, `q = query (x) p_q`, `g = gamma (x) p_g` (outer products,
    flattened to `eta * head_dim`):

        C = (1 - beta g^T) * C + (beta * value) (g * k)^T
        s = (1 - g) * s + g * k
        y = C q / (s . q + 1e-10)

    What is carried is read as it goes: see `linear_scan`.

    Args:
        query: Tensor of shape `(batch, time, heads, head_dim)`, not negative.
        key: Tensor of the same shape, not negative.
        value: Tensor of the same shape.
        beta: Tensor of the same shape, in (0, 1): gate of the values.
        gamma: Tensor of the same shape, in (0, 1): gate of the keys.
        expansions: Tuple `(p_q, p_k, p_g)` of tensors of shape
            `(batch, time, heads, eta)`.
        state: Tensor of shape `(batch, galite_state_size(...))`; zeros are the empty
            memory.
        start: Optional boolean tensor `(batch, time)`: empties the memory before
            the token is read.
        mask: Optional boolean tensor `(batch, time)`: where False, the token is
            skipped, its start included.

    Returns:
        A tuple `(y, state)`: `y` of shape `(batch, time, heads, head_dim)`, the
        state with the shape and dtype it came in. Both are computed in float32 at
        least.

    Raises:
        ValueError: If batch sizes differ, or the shape of `start` or `mask` is
            another.
    """
    state = ops.convert_to_tensor(state)
    state_dtype = keras.backend.standardize_dtype(state.dtype)
    inputs, state, start = attention_inputs(
        (query, key, value, beta, gamma, *expansions), state, start, mask
    )
    heads, head_dim = inputs[2].shape[2:]
    eta = inputs[5].shape[-1]

    def flat(x: Any, p: Any) -> Any:
        outer = x[..., :, None] * p[..., None, :]
        return ops.reshape(outer, (-1, heads, head_dim * eta))

    def gates(inputs: Any) -> tuple[list[Any], list[Any]]:
        _, k, v, b, g, _, p_k, p_g = inputs
        g = flat(g, p_g)
        new_key = g * flat(k, p_k)
        decays = [1.0 - b[..., :, None] * g[..., None, :], 1.0 - g]
        return decays, [(b * v)[..., :, None] * new_key[..., None, :], new_key]

    def read(carry: Any, inputs: Any) -> Any:
        c, s = carry
        q = flat(inputs[0], inputs[5])
        norm = ops.sum(s * q, axis=-1, keepdims=True)
        return ops.sum(c * q[..., None, :], axis=-1) / (norm + EPSILON)

    carry = unpack_galite_state(state, heads, head_dim, eta)
    outputs, (c, s) = linear_scan(gates, read, carry, inputs, start)
    return outputs, ops.cast(pack_galite_state(c, s), state_dtype)
