"""The recurrent memories of blocks in float64 NumPy, one token after the other."""

import math

import numpy as np

from tests.oracle import dense, norm, sigmoid


def memory(x, *arrays, block, names, layers, start, mask):
    """A stack of blocks.

    Args:
        x: Array of shape `(batch, time, features)`.
        *arrays: The states of the `layers` blocks, then the weights.
        block: One of the functions below: weights, token and state of one row to
            the block's output and next state.
        names: Names of the weights, `"block_0/embedding/kernel"` and so on.
        layers: Number of blocks.
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
    outputs = {}
    for row, t in zip(*np.nonzero(mask), strict=True):
        y = x[row, t]
        for i, (w, state) in enumerate(zip(blocks, states, strict=True)):
            if start[row, t]:
                state[row] = 0
            y, state[row] = block(w, y, state[row], i)
        outputs[row, t] = y
    whole = np.zeros((*x.shape[:2], len(y)))
    for where, y in outputs.items():
        whole[where] = y
    return whole, *states


def gelu(x):
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def embed(w, x):
    return dense(w, "embedding", x) if "embedding/kernel" in w else x


def mingru(w, x, h, index):
    x = embed(w, x)
    z, c = np.split(dense(w, "projection", norm(w, "mix_norm", x)), 2)
    z, c = sigmoid(z), np.where(c >= 0, c + 0.5, sigmoid(c))
    h = (1 - z) * h + z * c
    x = x + dense(w, "mix_output", h)
    update = dense(w, "feedforward_intermediate", norm(w, "feedforward_norm", x))
    return x + dense(w, "feedforward_output", gelu(update)), h


def lru(w, x, h, index):
    x = embed(w, x)
    normed = norm(w, "mix_norm", x)
    b_real, b_imaginary = np.split(w["input_projection/kernel"], 2, axis=1)
    c_real, minus_c_imaginary = np.split(w["state_projection/kernel"], 2)
    rate = np.exp(-np.exp(w["nu_log"]) + 1j * np.exp(w["theta_log"]))
    h = np.array([1, 1j]) @ np.split(h, 2)
    h = rate * h + np.exp(w["gamma_log"]) * (normed @ (b_real + 1j * b_imaginary))
    y = (h @ (c_real - 1j * minus_c_imaginary)).real + w["feedthrough"] * normed
    value, gate = np.split(dense(w, "gated_unit", gelu(y)), 2)
    return x + value * sigmoid(gate), np.concatenate([h.real, h.imag])
