"""Plain float64 forms to compare with, and gradients of them by differences."""

import numpy as np
from keras import tree

from tests.helpers import random_cotangents
from tests.oracles import naive


def project(outputs, weights):
    """The scalar whose gradients are compared: sum(outputs * weights)."""
    outputs = tree.flatten(outputs)
    return sum((x * w).sum() for x, w in zip(outputs, weights, strict=True))


def assert_gradients_match(oracle, arrays, grads, rtol=1e-4):
    """Compares gradients with central differences of a float64 function.

    Each array is moved along a random direction, which is exact to about 1e-8.
    """
    arrays = [np.asarray(x, np.float64) for x in arrays]
    random = np.random.default_rng(2)
    weights = random_cotangents(oracle(*arrays))
    step = 1e-6
    for i, (array, grad) in enumerate(zip(arrays, grads, strict=True)):
        direction = random.normal(size=array.shape)

        def moved(by, i=i, direction=direction):
            shifted = [*arrays[:i], arrays[i] + by * direction, *arrays[i + 1 :]]
            return project(oracle(*shifted), weights)

        expected = (moved(step) - moved(-step)) / (2 * step)
        received = np.sum(grad * direction)
        tolerance = rtol * max(1.0, np.linalg.norm(grad))
        assert abs(received - expected) < tolerance, f"array {i}"


def unfold(state, heads, head_dim, eta, r):
    """An official state from ours: all r oscillators, and t instead of steps."""
    folded = (r + 1) // 2
    num_keys = (folded + 1) * heads * eta * head_dim
    keys = state[:, :num_keys].reshape(-1, folded + 1, heads, eta * head_dim)
    values = state[:, num_keys:-1].reshape(-1, folded, heads, head_dim)
    pairs = [min(i, r - 1 - i) for i in range(r)]
    return keys[:, pairs], values[:, pairs], keys[:, -1], state[:, -1] + 1


def fold(tilde_k, tilde_v, s, tick):
    """The inverse of `unfold`; it keeps the first half of the oscillators."""
    batch, r = tilde_k.shape[:2]
    folded = (r + 1) // 2
    parts = [tilde_k[:, :folded], s, tilde_v[:, :folded], tick - 1]
    return np.concatenate([x.reshape(batch, -1) for x in parts], axis=1)


def agalite_attention(
    query, key, value, beta, gamma, *rest, r, restart_clock=False, start=None, mask=None
):
    """`naive.agalite_attention` with our state; a masked token is taken out."""
    *expansions, state = rest
    sizes = (*value.shape[2:], expansions[0].shape[-1], r)
    tokens = [query, key, value, beta, gamma, *expansions]
    if mask is None:
        mask = np.ones(value.shape[:2], bool)
    if start is None:
        start = np.zeros(value.shape[:2], bool)
    state = np.array(state, np.float64)
    state[:, -1] = state[:, -1].round()  # a count has no gradient
    outputs, states = np.zeros(value.shape), state.copy()
    for row in np.flatnonzero(mask.any(axis=1)):
        kept = mask[row]
        *inputs, p_q, p_k, p_g = (x[row : row + 1, kept] for x in tokens)
        y, final = naive.agalite_attention(
            *inputs,
            (p_q, p_k, p_g),
            *unfold(state[row : row + 1], *sizes),
            start=start[row : row + 1, kept],
            restart_clock=restart_clock,
        )
        outputs[row, kept] = y[0]
        states[row] = fold(*final)[0]
    return outputs, states


def galite_attention(query, key, value, beta, gamma, *rest, start=None, mask=None):
    """`naive.galite_attention` with our state; a masked token is taken out."""
    *expansions, state = rest
    heads, head_dim = value.shape[2:]
    wide = head_dim * expansions[0].shape[-1]
    tokens = [query, key, value, beta, gamma, *expansions]
    if mask is None:
        mask = np.ones(value.shape[:2], bool)
    if start is None:
        start = np.zeros(value.shape[:2], bool)
    outputs, states = np.zeros(value.shape), np.array(state, np.float64)
    for row in np.flatnonzero(mask.any(axis=1)):
        kept = mask[row]
        *inputs, p_q, p_k, p_g = (x[row : row + 1, kept] for x in tokens)
        c, s = np.split(states[row], [heads * head_dim * wide])
        y, (c, s) = naive.galite_attention(
            *inputs,
            (p_q, p_k, p_g),
            c.reshape(1, heads, head_dim, wide),
            s.reshape(1, heads, wide),
            start=start[row : row + 1, kept],
        )
        outputs[row, kept] = y[0]
        states[row] = np.concatenate([c.ravel(), s.ravel()])
    return outputs, states


def gtrxl(x, *arrays, names, layers, heads, length, start, mask):
    """GTrXL with a sliding window, one token after the other, in float64.

    Args:
        x: Array of shape `(batch, time, features)`.
        *arrays: The states of the `layers` blocks, then the weights.
        names: Names of the weights, `"block_0/embedding/kernel"` and so on.
        layers: Number of blocks.
        heads: Number of heads.
        length: Length of the memory.
        start: Boolean array of shape `(batch, time)`.
        mask: Boolean array of shape `(batch, time)`; the outputs of a masked token
            are zeros.

    Returns:
        `(outputs, *states)`.
    """
    states = [np.array(s, np.float64) for s in arrays[:layers]]
    weights = dict(zip(names, arrays[layers:], strict=True))
    blocks = [
        {name.removeprefix(f"block_{i}/"): w for name, w in weights.items()}
        for i in range(layers)
    ]
    outputs = np.zeros((*x.shape[:2], (states[0].shape[1] - 1) // length))
    for row, t in zip(*np.nonzero(mask), strict=True):
        y = relu(dense(blocks[0], "embedding", x[row, t]))
        for block, state in zip(blocks, states, strict=True):
            memory = state[row, :-1].reshape(length, -1).copy()
            seen = 0 if start[row, t] else round(state[row, -1])
            memory[: length - seen] = 0.0
            items = np.concatenate([memory[length - seen :], y[None]])
            memory = np.concatenate([memory[1:], y[None]])
            state[row] = [*memory.ravel(), min(seen + 1, length)]
            y = gtrxl_block(block, y, items, heads)
        outputs[row, t] = y
    return outputs, *states


def gtrxl_block(block, x, items, heads):
    """One token: it attends to the items, of which it is the last."""
    query = dense(block, "query_projection", x).reshape(heads, -1)
    normed = norm(block, "attention_norm", items)
    keys, values = np.split(dense(block, "key_value_projection", normed), 2, axis=1)
    distance = np.arange(len(items) - 1, -1, -1)[:, None]
    angle = distance / 10000 ** (np.arange(0, len(x), 2) / len(x))
    encoding = np.concatenate([np.sin(angle), np.cos(angle)], axis=1)
    places = dense(block, "position_projection", encoding)
    keys, values, places = (
        y.reshape(len(items), heads, -1) for y in (keys, values, places)
    )
    attended = []
    for h in range(heads):
        scores = keys[:, h] @ (query[h] + block["content_bias"][h])
        scores = scores + places[:, h] @ (query[h] + block["position_bias"][h])
        weights = np.exp(scores / np.sqrt(query.shape[1]))
        attended.append(weights / weights.sum() @ values[:, h])
    update = relu(dense(block, "attention_output", np.concatenate(attended)))
    x = gate(block, "attention_gate", x, update)
    update = norm(block, "feedforward_norm", x)
    for name in ("feedforward_intermediate", "feedforward_output"):
        update = relu(dense(block, name, update))
    return gate(block, "feedforward_gate", x, update)


def relu(x):
    return np.maximum(x, 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def dense(weights, name, x):
    return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]


def norm(weights, name, x):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
    return x * weights[f"{name}/gamma"] + weights[f"{name}/beta"]


def gate(weights, name, x, y):
    w_r, w_z, w_g = np.split(weights[f"{name}/update_kernel"], 3, axis=1)
    u_r, u_z = np.split(weights[f"{name}/stream_kernel"], 2, axis=1)
    r = sigmoid(y @ w_r + x @ u_r)
    z = sigmoid(y @ w_z + x @ u_z - weights[f"{name}/bias"])
    h = np.tanh(y @ w_g + (r * x) @ weights[f"{name}/candidate_kernel"])
    return (1 - z) * x + z * h
