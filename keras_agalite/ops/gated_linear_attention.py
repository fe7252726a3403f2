"""The read-out of AGaLiTe: gated linear attention with oscillators.

Pramanik et al., "AGaLiTe: Approximate Gated Linear Transformers for Online
Reinforcement Learning", TMLR 2024, arXiv 2310.15719.

Two facts make the state smaller than the paper's, with the same outputs:

- The frequencies lie evenly on [-pi, pi], both ends in, and cosine is even, so
  oscillators i and r-1-i are equal. We keep the first `ceil(r / 2)` and let a
  pair weigh 2.
- All cosines repeat after `2 (r - 1)` steps (2 for r = 1), so the clock counts
  modulo that period and the cosines come from a table that is exact at any step.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_agalite.ops import _backend
from keras_agalite.ops.checks import check_inputs
from keras_agalite.ops.episodes import steps_of_episode
from keras_agalite.ops.linear_scan import linear_scan
from keras_agalite.ops.precision import at_least_float32, largest_count

EPSILON = 1e-5


def oscillators(r: int) -> tuple[np.ndarray, np.ndarray]:
    """Folded oscillators: cosines of shape `(period, ceil(r/2))` and their weights.

    Row n belongs to the token read after n steps. The official clock starts at 1
    and is advanced before use, so that token has t = n + 2.
    """
    period = 2 * (r - 1) or 2
    folded = (r + 1) // 2
    omega = np.linspace(-np.pi, np.pi, r)[:folded]
    cosines = np.cos(omega * (np.arange(period)[:, None] + 2))
    weights = np.full(folded, 2.0)
    if r % 2:
        weights[-1] = 1.0
    return cosines, weights


def agalite_state_size(num_heads: int, head_dim: int, eta: int, r: int) -> int:
    """Number of floats that one block carries for one environment."""
    folded = (r + 1) // 2
    return num_heads * head_dim * (eta * (folded + 1) + folded) + 1


def unpack_agalite_state(
    state: Any, num_heads: int, head_dim: int, eta: int, r: int
) -> tuple[Any, Any, Any]:
    """Splits a state of shape `(batch, size)` into keys, values and clock.

    Returns:
        `keys` of shape `(batch, folded + 1, heads, eta, head_dim)`, in which the
        last entry of axis 1 is the normaliser s (an oscillator that stands still),
        `values` of shape `(batch, folded, heads, head_dim)` and `clock` of shape
        `(batch,)`: steps since the clock's start.
    """
    folded = (r + 1) // 2
    num_keys = (folded + 1) * num_heads * eta * head_dim
    keys = ops.reshape(state[:, :num_keys], (-1, folded + 1, num_heads, eta, head_dim))
    values = ops.reshape(state[:, num_keys:-1], (-1, folded, num_heads, head_dim))
    return keys, values, state[:, -1]


def pack_agalite_state(keys: Any, values: Any, clock: Any) -> Any:
    """The inverse of `unpack_agalite_state`."""
    size_keys, size_values = np.prod(keys.shape[1:]), np.prod(values.shape[1:])
    return ops.concatenate(
        [
            ops.reshape(keys, (-1, int(size_keys))),
            ops.reshape(values, (-1, int(size_values))),
            clock[:, None],
        ],
        axis=1,
    )


def clock_modulus(r: int, dtype: str) -> int:
    """The largest multiple of the period up to which `dtype` counts exactly."""
    period = 2 * (r - 1) or 2
    return max(1, largest_count(dtype) // period) * period


def attention_inputs(
    tensors: Sequence[Any], state: Any, start: Any, mask: Any
) -> tuple[list[Any], Any, Any]:
    """Brings what an attention reads, and its state, into float32 at least.

    Args:
        tensors: query, key, value, beta, gamma and the three expansions.
        state: The state.
        start: Optional starts; a masked one is skipped.
        mask: Optional mask; a masked token becomes zeros, which closes the gates
            beta and gamma, and with closed gates it neither fades nor writes
            anything, be it NaN.

    Returns:
        The list of tensors, the state, and the starts that are not masked.

    Raises:
        ValueError: As `check_inputs` does.
    """
    names = ("query", "key", "value", "beta", "gamma", "p_q", "p_k", "p_g")
    inputs = [ops.convert_to_tensor(x) for x in tensors]
    check_inputs(state, start, mask, **dict(zip(names, inputs, strict=True)))
    dtype = at_least_float32(inputs[2].dtype)
    inputs = [ops.cast(x, dtype) for x in inputs]
    if start is not None:
        start = ops.cast(start, "bool")
    if mask is not None:
        valid = ops.cast(mask, "bool")[:, :, None, None]
        inputs = [ops.where(valid, x, 0.0) for x in inputs]
        if start is not None:
            start = ops.logical_and(start, mask)
    return inputs, ops.cast(state, dtype), start


def agalite_attention(
    query: Any,
    key: Any,
    value: Any,
    beta: Any,
    gamma: Any,
    expansions: Any,
    state: Any,
    *,
    r: int,
    restart_clock: bool = False,
    start: Any = None,
    mask: Any = None,
) -> tuple[Any, Any]:
    """Runs the memory of one AGaLiTe block over a sequence.

    With `k = p_k (x) key`, `q = p_q (x) query`, `g = p_g (x) gamma` (outer
    products, equations 8 to 13 of the paper):

        vt_i = (1 - beta) * vt_i + cos(w_i t) beta * value       i = 1..r
        kt_i = (1 - g) * kt_i + cos(w_i t) g * k
        s    = (1 - g) * s + g * k
        y    = sum_i vt_i (kt_i . q) / (2 r (s . q) + 1e-5)

    What is carried is read as it goes: see `linear_scan`.

    Args:
        query: Tensor of shape `(batch, time, heads, head_dim)`, not negative.
        key: Tensor of the same shape, not negative.
        value: Tensor of the same shape.
        beta: Tensor of the same shape, in (0, 1): gate of the values.
        gamma: Tensor of the same shape, in (0, 1): gate of the keys.
        expansions: Tuple `(p_q, p_k, p_g)` of tensors of shape
            `(batch, time, heads, eta)`.
        state: Tensor of shape `(batch, agalite_state_size(...))`; zeros are the
            empty memory with the clock at its start.
        r: Number of oscillators.
        restart_clock: Whether the clock starts again with an episode. In the authors'
            code it runs on, which makes no difference for `r` of 3 and below.
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
    value, p_query = inputs[2], inputs[5]
    dtype = value.dtype
    heads, head_dim = value.shape[2:]
    eta = p_query.shape[-1]
    keys, values, clock = unpack_agalite_state(state, heads, head_dim, eta, r)
    cosines, weights = oscillators(r)
    length = ops.shape(value)[1]
    # Where no start sets the clock, one that is NaN would stay; it begins anew.
    count = ops.cast(ops.where(ops.isfinite(clock), clock, 0.0), "int32")
    # Steps taken before each token, from which its cosines follow.
    restart = start if restart_clock else None
    if restart is None and mask is None:
        steps = count[:, None] + ops.arange(length, dtype="int32")[None, :]
        total = count + length
    else:
        steps, total = steps_of_episode(count, value[:, :, 0, 0], restart, mask)
    # The last column is the normaliser's: an oscillator that stands still.
    table = np.pad(cosines, ((0, 0), (0, 1)), constant_values=1.0)
    phases = ops.take(
        ops.convert_to_tensor(table, dtype),
        steps % cosines.shape[0],
        axis=0,
    )
    inputs.append(phases)
    scale = 2.0 * r

    def gates(inputs: Any) -> tuple[list[Any], list[Any]]:
        _, k, v, b, g, _, p_k, p_g, phase = inputs
        # Factors are multiplied while they are small, so that few large tensors are
        # made: one for the decay, one for what is written, one for what is read.
        written = phase[..., None, None] * ops.expand_dims(p_g * p_k, 1)
        written = written[..., None] * ops.expand_dims(ops.expand_dims(g * k, 1), 3)
        key_decay = 1.0 - p_g[..., None] * ops.expand_dims(g, 2)
        new_value = phase[:, :-1][..., None, None] * ops.expand_dims(b * v, 1)
        decays = [ops.expand_dims(decay, 1) for decay in (key_decay, 1.0 - b)]
        return decays, [written, new_value]

    def read(carry: Any, inputs: Any) -> Any:
        keys, values = carry
        asked = inputs[5][..., None] * ops.expand_dims(inputs[0], 2)
        read = ops.sum(keys * ops.expand_dims(asked, 1), axis=(3, 4))
        weighted = read[:, :-1] * ops.cast(weights, dtype)[:, None]
        y = ops.sum(values * weighted[..., None], axis=1)
        return y / (scale * read[:, -1] + EPSILON)[..., None]

    form = _backend.own_form("oscillating_attention")
    if form is None or length == 1:
        carry = [keys, values]
        outputs, (keys, values) = linear_scan(gates, read, carry, inputs, start)
    else:
        folded = ops.convert_to_tensor(weights, dtype)
        outputs, keys, values = form(
            inputs, keys, values, start, folded, scale, EPSILON
        )
    clock = ops.cast(total % clock_modulus(r, state_dtype), dtype)
    return outputs, ops.cast(pack_agalite_state(keys, values, clock), state_dtype)
