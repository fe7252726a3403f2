"""Plain float64 forms to compare with, and gradients of them by differences."""

import numpy as np
from keras import tree

from keras_agalite.ops import naive
from tests.helpers import random_cotangents


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


def agalite_attention(query, key, value, beta, gamma, *rest, r, start=None, mask=None):
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
        )
        outputs[row, kept] = y[0]
        states[row] = fold(*final)[0]
    return outputs, states
