"""Memories against numbers that other code computed in float64.

Each file of `tests/reference/memories` holds a configuration, weights under the names
of torch, inputs, outputs, memories and gradients of sum(outputs * cotangent).
"""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_agalite.layers import TrMRL
from keras_agalite.layers.sherl_merge import SHERLMerge
from keras_agalite.ops.cached_memory import share_heads, update_cache
from keras_agalite.ops.eight_bits import encode
from keras_agalite.ops.layer_merge import layer_redundancy, layer_weights
from keras_agalite.ops.place_memory import STRATEGIES, allocate, hierarchical_read
from keras_agalite.ops.saved_activations import (
    gelu_slope,
    normalization_gradients,
    pair_gradients,
    product_gradients,
    softmax_gradient,
)
from keras_agalite.ops.slot_attention import (
    attend_to_slots,
    slot_queries,
    slot_values,
)
from keras_agalite.ops.slot_memory import (
    SlotWeights,
    normalize_slots,
    slot_memory,
    write_slots,
)
from tests.helpers import compiled, gradients, to_numpy

FOLDER = Path(__file__).parents[1] / "reference" / "memories"


class Reference:
    """The arrays of a file."""

    def __init__(self, name):
        self.arrays = dict(np.load(FOLDER / f"{name}.npz"))
        self.config = json.loads(str(self.arrays.pop("config")))

    def __getitem__(self, name):
        return self.arrays[name]

    def group(self, prefix):
        start = f"{prefix}/"
        return {
            name.removeprefix(start): array
            for name, array in self.arrays.items()
            if name.startswith(start)
        }

    def check(self, function, arrays, expected, tolerance=1e-5):
        """Compares a function of arrays and weights, by torch's names.

        Args:
            function: Takes the tensors of `arrays` and a dict of weights, and returns
                tensors, of which the first is multiplied by the cotangent.
            arrays: Names of the arrays to differentiate by.
            expected: Names of what it returns.
            tolerance: Largest difference of an output.
        """
        weights = self.group("params")
        number = len(arrays)

        def run(*tensors):
            by_name = dict(zip(weights, tensors[number:], strict=True))
            return function(*tensors[:number], by_name)

        outputs, grads = gradients(
            run,
            [*(self[name] for name in arrays), *weights.values()],
            cotangents=lambda y: [self["cotangent"], *(0.0 for _ in y[1:])],
        )

        for name, output in zip(expected, outputs, strict=True):
            np.testing.assert_allclose(output, self[name], atol=tolerance, err_msg=name)
        names = [f"grad_{name}" for name in arrays]
        names += [f"grad_params/{name}" for name in weights]
        for name, grad in zip(names, grads, strict=True):
            assert_close(grad, self[name], name)


def slot_weights(weights):
    matrices = [ops.transpose(w) for name, w in weights.items() if name != "v_bias"]
    return SlotWeights(weights["v_bias"], *matrices)


def test_one_token_a_segment():
    reference = Reference("memformer_one_token")
    heads, tau = reference.config["heads"], reference.config["temperature"]

    def function(x, slots, weights):
        read, (slots,) = slot_memory(
            x,
            slot_weights(weights),
            [slots],
            heads=heads,
            temperature=tau,
            start=reference["starts"],
        )
        return x + read, slots

    reference.arrays["memory_out"] = reference["memory_out"][:, -1]
    reference.check(function, ["inputs", "memory_in"], ["outputs", "memory_out"])


def test_whole_segments():
    reference = Reference("memformer_equations")
    heads, tau = reference.config["heads"], reference.config["temperature"]

    def function(x, slots, weights):
        w, outputs, reads, memories = slot_weights(weights), [], [], []
        for segment, reset in zip(range(len(x)), reference["resets"], strict=True):
            slots = ops.where(reset[:, None, None], 0.0, slots)
            items = normalize_slots(slots, w.bias, 1.0)
            query = slot_queries(x[segment], w.read_query, w.read_key, heads)
            mixed = [attend_to_slots(query[:, t], items) for t in range(x.shape[2])]
            read = slot_values(ops.stack(mixed, axis=1), w.read_value)
            tokens = x[segment] + ops.matmul(read, w.read_output)
            slots = write_slots(items, tokens, *w[5:], heads, tau)
            outputs.append(tokens)
            reads.append(items)
            memories.append(slots)
        return ops.stack(outputs), ops.stack(reads), ops.stack(memories)

    reference.check(
        function,
        ["inputs", "memory_in"],
        ["outputs", "memory_read", "memory_out"],
    )


@pytest.mark.parametrize(
    "name", ["per_environment", "per_environment_interpolated", "batch_mean"]
)
def test_gated_recurrent_cache(name):
    """Segments update all slots; `batch_mean` keeps the mean over the rows."""
    reference = Reference(f"grc_{name}")
    heads, slots = (reference.config[key] for key in ("heads", "cache_length"))
    mean, x = name == "batch_mean", reference["inputs"]
    starts = np.zeros(x.shape[:2], bool) if mean else reference["starts"]
    first = reference["memory_in"][0] if mean else reference["memory_in"]
    reference.arrays["cache"] = np.zeros_like(first) + first
    if not mean:
        reference.arrays["grad_cache"] = reference["grad_memory_in"]

    def attend(x, slots, w, name):
        key, value = ops.split(ops.transpose(w[f"{name}.kv.weight"]), 2, axis=1)
        query = slot_queries(x, ops.transpose(w[f"{name}.q.weight"]), key, heads)
        batch, length, _, width = query.shape
        mixed = attend_to_slots(ops.reshape(query, (batch, -1, width)), slots)
        mixed = ops.reshape(mixed, (batch, length, heads, width))
        read = slot_values(mixed, value)
        return linear(w, f"{name}.proj", read)

    def function(x, cache, w):
        width, outputs, memories = cache.shape[-1], [], []
        kernels = {
            name: ops.split(ops.transpose(w[f"linear_{name}.weight"]), [width])
            for name in ("reset", "update", "add")
        }
        for tokens, start in zip(x, starts, strict=True):
            cache = ops.where(start[:, None, None], 0.0, cache)
            own = attend(tokens, tokens, w, "attn_self_func")
            places = np.arange(slots) * tokens.shape[1] // slots
            written = ops.stack([own[:, i, :width] for i in places], axis=1)
            from_slots, from_tokens = (
                ops.concatenate([kernels[n][i] for n in ("reset", "update")], axis=1)
                for i in (0, 1)
            )
            bias = [w[f"linear_{n}.bias"] for n in ("reset", "update")]
            cache = update_cache(
                cache,
                ops.matmul(written, from_tokens) + ops.concatenate(bias),
                ops.matmul(written, kernels["add"][1]) + w["linear_add.bias"],
                from_slots,
                kernels["add"][0],
                ops.stack([w["Norm1.weight"], w["Norm1.bias"]]),
            )
            cached = attend(tokens[..., :width], cache, w, "attn_mem")
            outputs.append(share_heads(ops.sigmoid(w["lam"]), own, cached))
            if mean:
                cache = ops.stop_gradient(ops.mean(cache, axis=0, keepdims=True))
            memories.append(cache)
        return ops.stack(outputs), ops.stack(memories)

    if mean:  # no gradient through the cache
        first = reference["cache"]
        reference.check(
            lambda x, w: function(x, first, w), ["inputs"], ["outputs", "memory_out"]
        )
    else:
        reference.check(function, ["inputs", "cache"], ["outputs", "memory_out"])


def linear(weights, name, x):
    return (
        ops.matmul(x, ops.transpose(weights[f"{name}.weight"]))
        + weights[f"{name}.bias"]
    )


def test_window_of_raw_tokens():
    reference = Reference("trmrl_window")
    config = reference.config
    memory = TrMRL(
        num_layers=config["layers"],
        hidden_dim=config["d_model"],
        num_heads=config["heads"],
        window=config["window"],
        intermediate_dim=config["ff"],
    )
    memory.build((None, None, config["input_dim"]))
    block = memory.cell.blocks[0]
    np.testing.assert_allclose(
        block.positions, reference["positional_encoding"], atol=1e-6
    )

    def ours(group):
        """Our weights, in our order, from those of torch."""
        found = {"embedding": [group["_obs_embedding.weight"].T]}
        for i in range(config["layers"]):
            prefix = f"_transformer_module.layers.{i}."
            for name, torch_name in TORCH_NAMES.items():
                kernel, bias = (group[f"{prefix}{t}"] for t in torch_name)
                part = {"query": slice(0, 16), "key_value": slice(16, 48)}.get(name)
                found[f"{name}_{i}"] = [
                    kernel[part or slice(None)].T,
                    bias[part or slice(None)],
                ]
        return {
            f"{name}/{kind}": value
            for name, values in found.items()
            for kind, value in zip(("kernel", "bias"), values, strict=False)
        }

    names = [w.path.split("block_0/", 1)[1] for w in memory.trainable_weights]
    values, expected = (ours(reference.group(g)) for g in ("params", "grad_params"))
    memory.set_weights([values[name] for name in names])

    outputs, (grad_inputs, *grads) = gradients(
        lambda x: memory(x, start=reference["starts"]),
        [reference["inputs"]],
        memory.trainable_weights,
        lambda outputs: [reference["cotangent"]],
    )

    np.testing.assert_allclose(outputs, reference["outputs"], atol=1e-5)
    assert_close(grad_inputs, reference["grad_inputs"])
    for name, grad in zip(names, grads, strict=True):
        assert_close(grad, expected[name], name)


TORCH_NAMES = {
    "query": ("self_attn.in_proj_weight", "self_attn.in_proj_bias"),
    "key_value": ("self_attn.in_proj_weight", "self_attn.in_proj_bias"),
    "attention_output": ("self_attn.out_proj.weight", "self_attn.out_proj.bias"),
    "intermediate": ("linear1.weight", "linear1.bias"),
    "output": ("linear2.weight", "linear2.bias"),
}


def assert_close(grad, expected, name=""):
    """Two gradients, by the norm of their difference."""
    difference = np.linalg.norm(grad - expected)
    assert difference < 1e-4 * max(1.0, np.linalg.norm(expected)), name


@pytest.mark.parametrize("case", range(3))
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_which_items_stay(case, strategy):
    group = Reference("sat_allocation").group(f"case_{case}")
    place, expected = group["places"].astype("float32"), group[strategy]
    batch, _, capacity = expected.shape
    sizes = [capacity, capacity, 1, 1]
    empty = [np.zeros((batch, size), "float32") for size in sizes]

    def function(place, *empty):
        held, source, state = allocate(place, list(empty), strategy)
        return [*held, source, *state]

    outputs = to_numpy(compiled(function)(place, *empty))

    source, places, times, count, clock, last, *state = outputs
    for row, t in np.ndindex(batch, expected.shape[1]):
        number = int(count[row, t, 0])
        items = (source[row, t, :number] - capacity).astype(int)
        kept = expected[row, t]
        assert sorted(items) == sorted(kept[kept >= 0])
        np.testing.assert_array_equal(times[row, t, :number], items)
        np.testing.assert_array_equal(places[row, t, :number], place[row, items])
        assert clock[row, t, 0] == t
    np.testing.assert_array_equal(last, source[:, -1])
    for after, step in zip(state[:3], (places, times, count), strict=True):
        np.testing.assert_array_equal(after, step[:, -1])


def test_hierarchical_read():
    reference = Reference("sat_read")
    config = reference.config
    heads, dim = config["heads"], config["d_model"]
    place = reference["place"]
    # Without the key's bias: it moves all scores of chunks alike.
    for group in ("params", "grad_params"):
        for i in range(config["layers"]):
            name = f"{group}/{i}.hcamblock.attn.to_summary_keys.bias"
            bias = reference.arrays.pop(name)
            assert group == "params" or np.abs(bias).max() < 1e-5
    added = reference["time_embedding"] + reference["place_embedding"][place]
    reference.arrays["features"] = reference["features"]
    reference.arrays["grad_features"] = reference["grad_inputs"]

    def normed(x, w, name):
        x = x - ops.mean(x, axis=-1, keepdims=True)
        x = x * ops.rsqrt(ops.mean(x * x, axis=-1, keepdims=True) + 1e-5)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def attend(x, w, name):
        """Self-attention of the queries, which the layer has none of."""
        key, value = ops.split(ops.transpose(w[f"{name}.to_kv.weight"]), 2, axis=1)
        query = slot_queries(x, ops.transpose(w[f"{name}.to_q.weight"]), key, heads)
        mixed = [attend_to_slots(query[:, i], x) for i in range(x.shape[1])]
        return linear(w, f"{name}.to_out", slot_values(ops.stack(mixed, 1), value))

    def function(features, x, w):
        batch, queries = x.shape[:2]

        def by_query(y):
            y = ops.repeat(ops.expand_dims(y, 1), queries, axis=1)
            return ops.reshape(y, (batch * queries, *y.shape[2:]))

        items = by_query(features + ops.convert_to_tensor(added, "float32"))
        places = by_query(ops.convert_to_tensor(place, "float32"))
        for i in range(config["layers"]):
            x = x + attend(normed(x, w, f"{i}.lablock.norm"), w, f"{i}.lablock.attn")
            n, name = normed(x, w, f"{i}.hcamblock.norm"), f"{i}.hcamblock.attn"
            key, value = ops.split(
                ops.transpose(w[f"{name}.attn.to_kv.weight"]), 2, axis=1
            )
            query = ops.transpose(w[f"{name}.attn.to_q.weight"])
            summary = linear(w, f"{name}.to_summary_queries", n)
            summary = ops.matmul(summary, w[f"{name}.to_summary_keys.weight"])
            mixed = hierarchical_read(
                ops.reshape(slot_queries(n, query, key, heads), (-1, heads, dim)),
                ops.reshape(summary / dim**0.5, (-1, dim)),
                items,
                places,
                places >= 0,
                chunk_size=config["chunk"],
                num_chunks=config["top_k"],
            )
            read = ops.reshape(slot_values(mixed, value), x.shape)
            x = x + linear(w, f"{name}.attn.to_out", read)
            n = normed(x, w, f"{i}.norm")
            x = x + linear(
                w, f"{i}.mlp.mlp.3", ops.relu(linear(w, f"{i}.mlp.mlp.0", n))
            )
        return [x]

    reference.check(function, ["features", "query"], ["outputs"])


class MesaStep:
    """One training step of a layer in `mesa_layers`.

    The authors' ranges are those of three groups of channels (of heads, where there are
    four axes), and moving averages from the second step on.
    """

    def __init__(self, layer, step):
        reference = Reference("mesa_layers")
        self.arrays = reference.group(f"{layer}/step_{step}")
        self.weights = reference.group(f"{layer}/params")
        self.groups = reference.config["groups"]
        self.epsilon = reference.config["layer_norm_epsilon"]

    def __getitem__(self, name):
        return self.arrays[name]

    def rows(self, x):
        """`(groups, numbers of a group)`, as the codes are."""
        if x.ndim == 4:
            return np.swapaxes(x, 0, 1).reshape(self.groups, -1)
        x = x.reshape(-1, self.groups, x.shape[-1] // self.groups)
        return np.swapaxes(x, 0, 1).reshape(self.groups, -1)

    def encoded(self, number, x):
        """The authors' codes of x, as `encode` gives them."""
        places = np.argsort(self.rows(np.arange(x.size).reshape(x.shape)), axis=None)
        step, low = (
            np.repeat(y[:, None], self[f"codes_{number}"].shape[1], axis=1)
            for y in (self[f"range_{number}"] / 255, self[f"minimum_{number}"])
        )
        return [
            y.ravel()[places].reshape(x.shape)
            for y in (self[f"codes_{number}"], step, low)
        ]


# What is kept of a layer: number in the file, name of the array.
MESA_KEPT = {
    "linear": {0: "input_0"},
    "layer_norm": {0: "input_0"},
    "gelu": {0: "input_0"},
    "softmax": {1: "output"},
    "matmul": {0: "input_0", 1: "input_1"},
}


@pytest.mark.once
@pytest.mark.parametrize("layer", MESA_KEPT)
def test_codes_of_mesa(layer):
    """The first step alone: its moving range is that of the present tensor."""
    step = MesaStep(layer, 0)
    for number, name in MESA_KEPT[layer].items():
        codes, size, low = to_numpy(encode(step.rows(step[name])))

        np.testing.assert_array_equal(codes, step[f"codes_{number}"])
        np.testing.assert_allclose(255 * size[:, 0], step[f"range_{number}"], 1e-6)
        np.testing.assert_array_equal(low[:, 0], step[f"minimum_{number}"])
        stored = codes * size + low
        np.testing.assert_allclose(stored, step[f"stored_{number}"], atol=1e-6)


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("layer", MESA_KEPT)
def test_gradients_of_mesa(layer, index):
    """What the backward passes make of the authors' codes, whatever their range."""
    step = MesaStep(layer, index)
    tensor, weights = ops.convert_to_tensor, step.weights
    d_y = tensor(step["cotangent"])
    encoded = [
        step.encoded(number, step[name]) for number, name in MESA_KEPT[layer].items()
    ]
    [(codes, size, low), *second] = encoded
    decoded = tensor(codes * size + low)
    expected = [step["grad_input_0"]]
    if weights:
        expected += [step[f"grad_params/{name}"] for name in ("weight", "bias")]
    if layer == "linear":
        kept = map(tensor, (codes, size, low, weights["weight"].T))
        d_input, d_kernel = product_gradients(list(kept), d_y)
        received = [d_input, ops.transpose(d_kernel), ops.sum(d_y, axis=(0, 1))]
    elif layer == "layer_norm":
        x = step["input_0"]
        rate = 1 / np.sqrt(x.var(-1, keepdims=True) + step.epsilon)
        low = (low - x.mean(-1, keepdims=True)) * rate
        kept = map(tensor, (codes, size * rate, low, rate, weights["weight"]))
        received = normalization_gradients(list(kept), d_y)
    elif layer == "gelu":
        received = [d_y * gelu_slope(decoded)]
    elif layer == "softmax":
        received = [softmax_gradient(decoded, d_y)]
    else:
        swapped = [np.swapaxes(y, -1, -2) for y in second[0]]
        kept = map(tensor, (codes, size, low, *swapped))
        d_first, d_second = pair_gradients(list(kept), d_y)
        received = [d_first, ops.swapaxes(d_second, -1, -2)]
        expected.append(step["grad_input_1"])

    for grad, wanted in zip(received, expected, strict=True):
        assert_close(to_numpy(grad), wanted, layer)


def test_sherl_merge():
    reference = Reference("sherl_merge")
    reference.arrays["grad_features"] = reference["grad_inputs"]
    config = reference.config
    layer = SHERLMerge(config["hidden"])
    layer.build([(None, None, config["d_model"])] * config["layers"])
    layer.output_norm.epsilon = config["layer_norm_epsilon_out"]
    parts = {
        **{f"hor_block.{i}.fc.0": x for i, x in enumerate(layer.projections)},
        **{f"hor_block.{i}.fc.1": x for i, x in enumerate(layer.norms)},
        "guide_block.fc_attn": layer.agreement,
        "fc_out.1": layer.output_dense,
        "fc_out.2": layer.output_norm,
    }

    def function(features, weights):
        # Their gate is a tanh; ours is what it gives.
        gate = ops.tanh(weights["gate_params"][0] / config["gate_temperature"])
        values = [(layer.gate, gate)]
        for name, part in parts.items():
            kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
            kernel = ops.transpose(kernel) if len(kernel.shape) == 2 else kernel
            values += zip(part.weights, (kernel, bias), strict=True)
        with keras.StatelessScope(values):
            outputs = layer(list(features))
            pairs = zip(layer.projections, layer.norms, features, strict=True)
            projected = ops.stack([norm(dense(x)) for dense, norm, x in pairs], axis=2)
            layers, guide = projected[:, :, :-1], projected[:, :, -1]
            shares = layer_weights(layers, guide, *layer.agreement.weights)
        return outputs, projected, layer_redundancy(layers), shares

    assert layer.count_params() == layer.count_weights(
        [config["d_model"]] * config["layers"], config["hidden"]
    )
    reference.check(
        function,
        ["features"],
        ["outputs", "projected", "redundancy", "merge_weights"],
    )
