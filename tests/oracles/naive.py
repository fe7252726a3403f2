"""NumPy loops in float64: the oracle of every test, short enough to be checked."""

from typing import Any

import numpy as np


def linear_recurrence(
    decay: Any, update: Any, state: Any, start: Any = None, mask: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """See `keras_agalite.ops.linear_recurrence`."""
    decay, update, state = (np.array(x, np.float64) for x in (decay, update, state))
    states = []
    for t in range(decay.shape[1]):
        for row in range(len(state)):
            if mask is not None and not mask[row][t]:
                continue
            if start is not None and start[row][t]:
                state[row] = 0.0
            state[row] = decay[row, t] * state[row] + update[row, t]
        states.append(state.copy())
    return np.stack(states, 1), state


def agalite_attention(
    query: Any,
    key: Any,
    value: Any,
    beta: Any,
    gamma: Any,
    expansions: Any,
    tilde_k: Any,
    tilde_v: Any,
    s: Any,
    tick: Any,
    start: Any = None,
    restart_clock: bool = False,
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """The official form: all r oscillators, cosines of an ever-growing clock.

    Inputs as in `keras_agalite.ops.agalite_attention`; the state is the authors':
    `tilde_k (batch, r, heads, eta * head_dim)`, `tilde_v (batch, r, heads,
    head_dim)`, `s (batch, heads, eta * head_dim)`, `tick (batch,)`, which starts
    at 1.
    """
    query, key, value, beta, gamma, p_q, p_k, p_g, tilde_k, tilde_v, s, tick = (
        np.asarray(x, np.float64)
        for x in (
            query,
            key,
            value,
            beta,
            gamma,
            *expansions,
            tilde_k,
            tilde_v,
            s,
            tick,
        )
    )
    r = tilde_k.shape[1]
    omega = np.linspace(-np.pi, np.pi, r)

    def flat(p: np.ndarray, x: np.ndarray) -> np.ndarray:
        outer = p[..., :, None] * x[..., None, :]
        return outer.reshape(*outer.shape[:-2], -1)

    outputs = []
    for t in range(query.shape[1]):
        if start is not None:
            first = np.asarray(start, bool)[:, t, None, None]
            tilde_k = np.where(first[:, None], 0.0, tilde_k)
            tilde_v = np.where(first[:, None], 0.0, tilde_v)
            s = np.where(first, 0.0, s)
            if restart_clock:
                tick = np.where(first[:, 0, 0], 1.0, tick)
        tick = tick + 1.0
        cos = np.cos(omega * tick[:, None])[:, :, None, None]
        k, q = flat(p_k[:, t], key[:, t]), flat(p_q[:, t], query[:, t])
        g, b = flat(p_g[:, t], gamma[:, t]), beta[:, t]
        tilde_v = (1 - b)[:, None] * tilde_v + cos * (b * value[:, t])[:, None]
        tilde_k = (1 - g)[:, None] * tilde_k + cos * (g * k)[:, None]
        s = (1 - g) * s + g * k
        read = np.einsum("brhf,bhf->brh", tilde_k, q)
        norm = np.einsum("bhf,bhf->bh", s, q)
        y = np.einsum("brhd,brh->bhd", tilde_v, read)
        outputs.append(y / (2 * r * norm + 1e-5)[..., None])
    return np.stack(outputs, 1), (tilde_k, tilde_v, s, tick)


def galite_attention(
    query: Any,
    key: Any,
    value: Any,
    beta: Any,
    gamma: Any,
    expansions: Any,
    c: Any,
    s: Any,
    start: Any = None,
) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """The equations of `keras_agalite.ops.galite_attention`, one after the other.

    The state is the authors': `c (batch, heads, head_dim, head_dim * eta)` and
    `s (batch, heads, head_dim * eta)`.
    """
    query, key, value, beta, gamma, p_q, p_k, p_g, c, s = (
        np.asarray(x, np.float64)
        for x in (query, key, value, beta, gamma, *expansions, c, s)
    )

    def flat(x: np.ndarray, p: np.ndarray) -> np.ndarray:
        return np.einsum("bhd,bhn->bhdn", x, p).reshape(*x.shape[:2], -1)

    outputs = []
    for t in range(query.shape[1]):
        if start is not None:
            first = np.asarray(start, bool)[:, t, None, None]
            c, s = np.where(first[..., None], 0.0, c), np.where(first, 0.0, s)
        k, q = flat(key[:, t], p_k[:, t]), flat(query[:, t], p_q[:, t])
        g, b = flat(gamma[:, t], p_g[:, t]), beta[:, t]
        gate = np.einsum("bhd,bhf->bhdf", b, g)
        c = (1 - gate) * c + np.einsum("bhd,bhf->bhdf", b * value[:, t], g * k)
        s = (1 - g) * s + g * k
        norm = np.einsum("bhf,bhf->bh", s, q)
        outputs.append(np.einsum("bhdf,bhf->bhd", c, q) / (norm + 1e-10)[..., None])
    return np.stack(outputs, 1), (c, s)


def relative_attention(
    query: Any,
    key: Any,
    value: Any,
    position: Any,
    content_bias: Any,
    position_bias: Any,
    episode: Any,
    memory_length: int,
    sliding_window: bool = True,
) -> np.ndarray:
    """See `keras_agalite.ops.relative_attention`; one token after the other."""
    query, key, value, position, content_bias, position_bias = (
        np.asarray(x, np.float64)
        for x in (query, key, value, position, content_bias, position_bias)
    )
    outputs = np.zeros(query.shape)
    for b, i, h in np.ndindex(*query.shape[:3]):
        here = memory_length + i
        scores = {}
        for j in range(here - memory_length if sliding_window else 0, here + 1):
            if episode[b, j] == episode[b, here]:
                content = (query[b, i, h] + content_bias[h]) @ key[b, j, h]
                distance = position[len(position) - 1 - (here - j), h]
                score = content + (query[b, i, h] + position_bias[h]) @ distance
                scores[j] = score / np.sqrt(query.shape[-1])
        weights = np.exp(np.array(list(scores.values())) - max(scores.values()))
        outputs[b, i, h] = weights / weights.sum() @ value[b, list(scores), h]
    return outputs
