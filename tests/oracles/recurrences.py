"""The recurrent memories of blocks in float64 NumPy, one token after the other."""

import hashlib
import itertools
import math

import numpy as np

from tests.oracles import dense, norm, sigmoid


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


def ffm(w, x, state, index):
    update = dense(w, "input_projection", x) * sigmoid(dense(w, "input_gate", x))
    rate = np.exp(-np.abs(w["decay"])[:, None] + 1j * w["frequency"])
    s = np.array([1, 1j]) @ np.split(state, 2)
    s = rate * s.reshape(rate.shape) + update[:, None]
    state = np.concatenate([s.real.ravel(), s.imag.ravel()])
    z = dense(w, "state_projection", state)
    z = (z - z.mean()) / np.sqrt(z.var() + 1e-6)
    gate = sigmoid(dense(w, "output_gate", x))
    return z * gate + dense(w, "skip", x) * (1 - gate), state


def silu(x):
    return x * sigmoid(x)


def root_mean_square_norm(w, name, x):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * w[f"{name}/scale"]


def gated_delta_net(w, x, state, index):
    x = embed(w, x)
    n = root_mean_square_norm(w, "mix_norm", x)
    heads = len(w["rate_log"])
    size, channels = w["conv_kernel"].shape
    value_dim = len(w["read_norm/scale"])
    width = (channels - heads * value_dim) // 2
    matrix_size = width * value_dim
    recent = state[matrix_size:].reshape(size - 1, channels)
    recent = np.concatenate([recent, [n @ w["projection/kernel"]]])
    mixed = silu((recent[::-1] * w["conv_kernel"]).sum(0))
    query, key, value = (
        y.reshape(heads, -1) for y in np.split(mixed, [width, 2 * width])
    )
    decay, beta = np.split(n @ w["gates/kernel"], 2)
    alpha = np.exp(-np.exp(w["rate_log"]) * np.log1p(np.exp(decay + w["step_bias"])))
    matrices = state[:matrix_size].reshape(heads, value_dim, -1).copy()
    read = []
    for h, b in enumerate(sigmoid(beta)):
        q, k = (y[h] / np.sqrt((y[h] ** 2).sum() + 1e-6) for y in (query, key))
        forget = np.eye(len(k)) - b * np.outer(k, k)
        matrices[h] = alpha[h] * matrices[h] @ forget + b * np.outer(value[h], k)
        read.append(matrices[h] @ q)
    read = root_mean_square_norm(w, "read_norm", np.array(read)).ravel()
    x = x + (read * silu(n @ w["output_gate/kernel"])) @ w["mix_output/kernel"]
    n = root_mean_square_norm(w, "feedforward_norm", x)
    gate, value = np.split(n @ w["feedforward_intermediate/kernel"], 2)
    x = x + (silu(gate) * value) @ w["feedforward_output/kernel"]
    return x, np.concatenate([matrices.ravel(), recent[1:].ravel()])


def memformer(w, x, state, index, heads=2, tau=0.5, segment=2):
    x = embed(w, x)
    n = norm(w, "mix_norm", x)
    dim, size = len(n), w["bias"].size
    tokens = state[size:-1].reshape(-1, dim)[: round(state[-1])]
    m = state[:size].reshape(-1, dim) + w["bias"]
    m = m * np.sqrt(dim) / np.linalg.norm(m, axis=1, keepdims=True)
    items, read, new = np.concatenate([m, tokens]), np.zeros(dim), m.copy()
    parts = np.arange(dim).reshape(heads, -1)
    scale = np.sqrt(dim // heads)
    for part in parts:
        keys, values = (items @ w[f"read_{y}"][:, part] for y in ("key", "value"))
        scores = np.exp(keys @ (n @ w["read_query"][:, part]) / scale)
        read[part] = scores / scores.sum() @ values
    read = read @ w["read_output"]
    tokens = np.concatenate([tokens, [n + read]])
    if len(tokens) == segment:
        for i, part in itertools.product(range(len(m)), parts):
            query = m[i] @ w["write_query"][:, part]
            keys = np.concatenate([m[i : i + 1], tokens]) @ w["write_key"][:, part]
            scores = np.exp(keys @ query / scale / tau)
            own, *others = scores / scores.sum()
            written = others @ (tokens @ w["write_value"][:, part])
            new[i, part] = own * m[i, part] + written
        tokens = tokens[:0]
    else:
        new = state[:size]
    held = np.zeros((segment - 1, dim))
    held[: len(tokens)] = tokens
    x = x + read
    update = dense(w, "feedforward_intermediate", norm(w, "feedforward_norm", x))
    x = x + dense(w, "feedforward_output", gelu(update))
    return x, np.concatenate([new.ravel(), held.ravel(), [len(tokens)]])


def attention(query, keys, values, heads):
    """Of one query to some keys, all by head, with the mean of the values."""
    parts = np.split(np.arange(len(query)), heads)
    read = np.zeros(values.shape[1])
    for part, wide in zip(parts, np.split(np.arange(len(read)), heads), strict=True):
        scores = np.exp(keys[:, part] @ query[part] / np.sqrt(len(part)))
        read[wide] = scores / scores.sum() @ values[:, wide]
    return read


def grc(w, x, state, index, heads=2):
    x = embed(w, x)
    n = norm(w, "mix_norm", x)
    own = dense(w, "own_output", n @ w["own_value/kernel"])
    width = len(n) // 2
    slots, written = state.reshape(-1, width), own[:width]
    gates = slots[0] @ w["slot_gate_kernel"] + dense(w, "gates", written)
    r, u = np.split(sigmoid(gates), 2)
    new = (r * slots[0]) @ w["slot_candidate_kernel"] + dense(w, "candidate", written)
    new = gelu(new)
    new = (new - new.mean()) / np.sqrt(new.var() + 1e-5)
    new = new * w["norm_scale"] + w["norm_offset"]
    slots = np.concatenate([slots[1:], [u * new + (1 - u) * slots[0]]])
    read = attention(
        n[:width] @ w["query_kernel"],
        slots @ w["key_kernel"],
        slots @ w["value_kernel"],
        heads,
    )
    cached = np.zeros((heads, len(n) // heads))
    cached[:, : width // heads] = dense(w, "cache_output", read).reshape(heads, -1)
    share = sigmoid(w["share"])[:, None]
    x = x + (share * cached + (1 - share) * own.reshape(heads, -1)).ravel()
    update = dense(w, "feedforward_intermediate", norm(w, "feedforward_norm", x))
    return x + dense(w, "feedforward_output", gelu(update)), slots.ravel()


def trmrl(w, x, state, index, heads=2, window=4):
    dim = w["embedding/kernel"].shape[1]
    count = round(state[-1])
    held = state[:-1].reshape(window - 1, dim)[window - 1 - count :]
    tokens = np.concatenate([held, [x @ w["embedding/kernel"]]])
    h = tokens.copy()
    for place, i in itertools.product(range(len(h)), range(dim)):
        angle = place * 10000 ** (-2 * (i // 2) / dim)
        h[place, i] += math.cos(angle) if i % 2 else math.sin(angle)
    for layer in range(sum(name.startswith("query") for name in w) // 2):
        keys, values = np.split(dense(w, f"key_value_{layer}", h), 2, axis=1)
        query = dense(w, f"query_{layer}", h)
        read = [
            attention(query[i], keys[: i + 1], values[: i + 1], heads)
            for i in range(len(h))
        ]
        h = h + dense(w, f"attention_output_{layer}", np.array(read))
        wide = np.maximum(dense(w, f"intermediate_{layer}", h), 0)
        h = h + dense(w, f"output_{layer}", wide)
    tokens = tokens[1 - window :]
    empty = np.zeros((window - 1 - len(tokens), dim))
    return h[-1], np.concatenate([empty.ravel(), tokens.ravel(), [len(tokens)]])


def spatial(w, x, state, index, heads=2, capacity=4, chunk_size=2, num_chunks=2):
    """With the strategy `mvfo`."""
    dim = w["embedding/kernel"].shape[1]
    count, clock = round(state[-1]), state[-2]
    ends = capacity * dim, capacity * (dim + 1), capacity * (dim + 2)
    features, places, times = (
        list(part[:count])
        for part in (
            state[: ends[0]].reshape(capacity, dim),
            *np.split(state, ends)[1:3],
        )
    )
    if count == capacity:
        most = max(places.count(place) for place in places)
        gone = places.index(min(p for p in places if places.count(p) == most))
        for items in (features, places, times):
            del items[gone]
    place = np.round(x[-1])
    features.append(dense(w, "embedding", x[:-1]))
    places.append(place)
    times.append(clock)
    items = [
        f + sinusoids(t, dim) + sinusoids(p, dim)
        for f, p, t in zip(features, places, times, strict=True)
    ]
    chunks = []
    for p in sorted(set(places)):
        here = [item for item, q in zip(items, places, strict=True) if q == p]
        chunks += [
            np.array(here[i : i + chunk_size]) for i in range(0, len(here), chunk_size)
        ]
    x = items[-1]
    for i in range(sum(name.startswith("query") for name in w)):
        own = norm(w, f"own_norm_{i}", x) @ w[f"own_value_{i}/kernel"]
        x = x + dense(w, f"own_output_{i}", own)
        n = norm(w, f"read_norm_{i}", x)
        summary = dense(w, f"summary_query_{i}", n)
        scores = np.array(
            [
                c.sum(0) / (len(c) + 1e-5) @ w[f"summary_key_{i}"] @ summary
                for c in chunks
            ]
        )
        best = np.argsort(-scores, kind="stable")[:num_chunks]
        shares = np.exp(scores[best] / np.sqrt(dim))
        read = sum(
            share
            * attention(
                n @ w[f"query_{i}"],
                chunks[c] @ w[f"key_{i}"],
                chunks[c] @ w[f"value_{i}"],
                heads,
            )
            for c, share in zip(best, shares / shares.sum(), strict=True)
        )
        x = x + dense(w, f"read_output_{i}", read)
        wide = dense(
            w, f"feedforward_intermediate_{i}", norm(w, f"feedforward_norm_{i}", x)
        )
        x = x + dense(w, f"feedforward_output_{i}", np.maximum(wide, 0))
    empty = capacity - len(items)
    features = np.pad(np.array(features), ((0, empty), (0, 0)))
    places, times = (np.pad(np.array(y), (0, empty)) for y in (places, times))
    return x, np.concatenate([features.ravel(), places, times, [clock + 1, len(items)]])


def sinusoids(x, dim):
    angle = x * 10000 ** (-np.arange(0, dim, 2) / dim)
    return np.concatenate([np.sin(angle), np.cos(angle)])


def shm(w, x, state, index):
    x = embed(w, x)
    rows, size = w["theta"].shape
    projected = norm(w, "mix_norm", x) @ w["projection/kernel"]
    query, key, value, calibration = np.split(projected[:-1], 4)
    query, key = (np.maximum(y, 0) for y in (query, key))
    query, key = (y / (y.sum() + 1e-5) for y in (query, key))
    clock = round(state[-1])
    theta = w["theta"][row_of(clock, rows, 0, index)]
    memory = state[:-1].reshape(size, size) * (
        1 + np.tanh(np.outer(theta, calibration))
    )
    memory = memory + sigmoid(projected[-1]) * np.outer(value, key)
    x = x + dense(w, "mix_output", memory @ query)
    update = dense(w, "feedforward_intermediate", norm(w, "feedforward_norm", x))
    x = x + dense(w, "feedforward_output", gelu(update))
    return x, np.append(memory.ravel(), clock + 1)


def row_of(clock, rows, seed, block):
    """The row that Stable Hadamard Memory draws, in whole numbers of Python."""
    stream = hashlib.shake_128(f"{seed},{block}".encode()).digest(2**15)

    def number(place):
        return int.from_bytes(stream[4 * place : 4 * place + 4], "little")

    return (number(clock % 4096) + number(4096 + clock // 4096)) % rows
