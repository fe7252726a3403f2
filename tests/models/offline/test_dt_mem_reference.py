"""The numbers of DT-Mem's released code: its memory, and models of our parts."""

import numpy as np
import pytest
from keras import ops

from keras_agalite.models.offline.dt_mem import CausalAttention
from keras_agalite.models.offline.parts import FeedForward, Noise, norm
from tests.helpers import gradients
from tests.models.offline.released import ReleasedGatedMemory
from tests.models.offline.test_reference import (
    assert_close,
    assert_gradients,
    load,
    sampled,
)

MEMORY = {
    "input_projector": "input_projection",
    "query_proj": "query",
    "key_proj": "key",
    "value_proj": "value",
    "attention_mlp.0": "mix",
    "input_gate_projector.linear": "input_gate",
    "memory_gate_projector.linear": "memory_gate",
    "attended_memory_layernorm": "attention_norm",
    "attended_memory_layernorm2": "mix_norm",
}
SCALARS = {
    "input_gate_projector.w": "input_scale",
    "input_bias": "input_bias",
    "forget_bias": "forget_bias",
}
ATTENTION = {"query": "query", "key": "key", "value": "value", "proj": "output_layer"}


class Weights:
    """Weights of layers by the names of the authors' arrays."""

    def __init__(self, params):
        self.params, self.by_name = params, {}

    def add(self, layer, name):
        """A dense layer or a normalisation, which it fills."""
        weights = layer.weights
        for weight, kind in zip(weights, ("weight", "bias"), strict=True):
            self.set(weight, f"{name}.{kind}")

    def set(self, weight, name):
        value = self.params[name]
        weight.assign(value.T if value.ndim == 2 else value)
        self.by_name[name] = weight

    def add_memory(self, layer, prefix=""):
        for theirs, ours in MEMORY.items():
            self.add(getattr(layer, ours), f"{prefix}{theirs}")
        for theirs, ours in SCALARS.items():
            self.set(getattr(layer, ours), f"{prefix}{theirs}")

    def gradients(self, grads):
        return {name: grad.T for name, grad in zip(self.by_name, grads, strict=True)}


def make_memory(hidden_dim, num_heads, rounds, gates="unit", top_k=0, layers=1):
    memory = ReleasedGatedMemory(hidden_dim, num_heads, rounds, gates, top_k)
    memory.mlp_layers = layers
    memory.build()
    memory.built = True
    return memory


@pytest.mark.parametrize("stem", ["dtmem_memory", "dtmem_memory_gate_per_slot"])
def test_the_memory_equals_that_of_the_authors(stem):
    reference = load(stem)
    config = reference.config
    memory = make_memory(
        config["head_size"],
        config["num_heads"],
        config["num_blocks"],
        {"unit": "unit", "memory": "slot"}[config["gate_style"]],
        config["topk"] or 0,
        config["attention_mlp_layers"],
    )
    weights = Weights(reference.group("params"))
    weights.add_memory(memory)

    def run(inputs, slots):
        outputs, memories, inside = [], [], []
        for n in range(config["steps"]):
            x = memory.project(inputs[n])
            inside.append([memory.candidate(x, slots), *memory.gates(x, slots)])
            slots = memory.write(x, slots)
            outputs.append(memory.read(x, slots))
            memories.append(slots)
        return outputs, slots, memories, inside

    cotangents = [*reference["cotangent"], reference["cotangent_memory"]]
    (outputs, _, memories, inside), (grad_inputs, grad_slots, *grads) = gradients(
        run,
        [reference["inputs"], reference["memory_in"][0]],
        list(weights.by_name.values()),
        lambda flat: [*cotangents, *(0.0 for _ in flat[len(cotangents) :])],
    )

    assert_close(np.stack(outputs), reference["outputs"])
    assert_close(np.stack(memories), reference["memory_out"])
    for i, name in enumerate(("written_candidate", "input_gate", "forget_gate")):
        assert_close(np.stack([step[i] for step in inside]), reference[name])
    check_gradients(
        reference, weights, {"inputs": grad_inputs, "memory_in": grad_slots}, grads
    )


def check_gradients(reference, weights, inputs, grads, more=()):
    received = {**weights.gradients(grads), **dict(more)}
    expected = reference.group("grad_params")
    # The biases of keys have a gradient of zero.
    for name in [n for n in expected if n.endswith(("key_proj.bias", "key.bias"))]:
        assert_close(received.pop(name), 0.0, 1e-4)
        del expected[name]
    for name, grad in inputs.items():
        received[name], expected[name] = grad, sampled(reference[f"grad_{name}"])
    assert_gradients(received, expected)


class ReleasedModel:
    """Patches, return, action and reward of each step, and blocks without positions."""

    def __init__(self, reference):
        self.reference, self.config = reference, reference.config
        params = reference.group("params")
        self.weights = Weights(params)
        self.blocks = [self.make_block(i) for i in range(self.config["n_layer"])]
        self.free = {
            name: x for name, x in params.items() if not name.startswith("transformer")
        }

    def make_block(self, i):
        width, heads = self.config["n_embd"], self.config["n_head"]
        prefix = f"transformer.blocks.{i}"
        feedforward = FeedForward(width, 4 * width, "gelu")
        norms = [norm(None, name) for name in ("first", "second")]
        attention = (
            make_memory(width, heads, self.config["num_blocks"])
            if self.config["use_memory"]
            else CausalAttention(width, heads)
        )
        feedforward.build()
        for layer, name in zip(norms, ("ln1", "ln2"), strict=True):
            layer.build((None, None, width))
            self.weights.add(layer, f"{prefix}.{name}")
        self.weights.add(feedforward.intermediate, f"{prefix}.mlp.0")
        self.weights.add(feedforward.output_layer, f"{prefix}.mlp.2")
        if self.config["use_memory"]:
            self.weights.add_memory(attention, f"{prefix}.attn_net.relational_memory.")
        else:
            attention.build()
            for theirs, ours in ATTENTION.items():
                self.weights.add(
                    getattr(attention, ours), f"{prefix}.attn_net.{theirs}"
                )
        return *norms, attention, feedforward

    def tokens(self, images, free):
        reference, (batch, steps) = self.reference, images.shape[:2]
        patch, kernel = self.config["patch"], free["conv_net.weight"]
        channels, size = self.config["image"][:2]
        number = size // patch
        split = ops.reshape(
            images / 255.0,
            (batch, steps, channels, number, patch, number, patch),
        )
        patches = ops.einsum("btciujv,dcuv->btdij", split, kernel)
        patches = patches + free["conv_net.bias"][:, None, None]
        # A reshape where a transpose was meant.
        patches = ops.reshape(patches, (batch, steps, number**2, -1))
        low, high = self.config["return_range"]
        to_go = np.trunc(reference["returns_to_go"][..., 0])
        to_go = (np.clip(to_go, low, high) - low).astype(int)
        sign = np.sign(reference["rewards"][..., 0]).astype(int)
        rewards = np.where(sign < 0, 3, sign)
        returns = ops.take(free["ret_encoder.weight"], to_go, axis=0)
        is_first = (np.arange(steps) == 0).astype("float32")
        returns = returns * ops.convert_to_tensor(is_first[None, :, None])
        parts = [
            patches + ops.convert_to_tensor(reference["patch_noise"]),
            returns[:, :, None],
            ops.take(free["act_encoder.weight"], reference["actions"], axis=0),
            ops.take(free["rew_encoder.weight"], rewards, axis=0)[:, :, None],
        ]
        self.patches = number**2
        tokens = ops.concatenate(parts, axis=2)
        return ops.reshape(tokens, (batch, -1, tokens.shape[-1]))

    def visible(self, count):
        """Earlier tokens and the patches of one step, but no return after the first."""
        step, place = np.divmod(np.arange(count), self.patches + 3)
        is_patch = place < self.patches
        same = (step[:, None] == step) & is_patch[:, None] & is_patch
        hidden = (place == self.patches) & (step > 0)
        return ((np.tril(np.ones((count, count), bool)) | same) & ~hidden)[None]

    def __call__(self, images, *free):
        free = dict(zip(self.free, free, strict=True))
        x, memories = self.tokens(images, free), []
        count = x.shape[1]
        if self.config["use_memory"]:
            slots = np.repeat(self.reference["memory_seed"], count, axis=1)
            slots = ops.convert_to_tensor(slots)
        for first, second, attention, feedforward in self.blocks:
            if self.config["use_memory"]:
                inputs = attention.project(first(x))
                slots = attention.write(inputs, slots)
                memories.append(slots)
                x = x + attention.read(inputs, slots)
            else:
                x = x + attention(first(x), self.visible(count), noise=Noise())
            x = x + feedforward(second(x), noise=Noise())
        step = self.patches + 3
        heads = {"return": ("ret", -1), "action": ("act", 0), "reward": ("rew", 1)}
        logits = {}
        for name, (short, place) in heads.items():
            token = x[:, self.patches + place :: step]
            kernel = ops.transpose(free[f"{short}_mlp.weight"])
            logits[name] = ops.matmul(token, kernel) + free[f"{short}_mlp.bias"]
        return [logits["action"], logits["return"], logits["reward"], *memories]


@pytest.mark.parametrize("stem", ["dtmem_baseline_dt", "dtmem_model"])
def test_the_model_equals_that_of_the_authors(stem):
    reference = load(stem)
    model = ReleasedModel(reference)
    names = [f"{name}_logits" for name in ("action", "return", "reward")]
    cotangents = [reference[f"cotangent/{name}"] for name in names]

    outputs, (grad_images, *grads) = gradients(
        model,
        [reference["observations"], *model.free.values()],
        list(model.weights.by_name.values()),
        lambda flat: [*cotangents, *(0.0 for _ in flat[3:])],
    )

    for received, name in zip(outputs, names, strict=False):
        assert_close(received, reference[f"outputs/{name}"])
    if len(outputs) > 3:
        assert_close(np.stack(outputs[3:]), reference["memory_out"])
    free, grads = grads[: len(model.free)], grads[len(model.free) :]
    inputs = {"observations": grad_images}
    more = dict(zip(model.free, free, strict=True))
    check_gradients(reference, model.weights, inputs, grads, more)
