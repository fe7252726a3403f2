"""The authors' numbers: outputs, memories and gradients.

The files hold the weights of small models, what went in and what came out. Of the
gradients of weights with more than 64 numbers they hold every n-th, n the size divided
by 64 and rounded up, of the array as PyTorch has it.
"""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces
from keras import ops

from keras_agalite import convert
from keras_agalite.models import MLPEncoder
from keras_agalite.models.offline.parts import Noise
from keras_agalite.models.offline.valves import CrossAttention2Valve
from tests.helpers import compiled, gradients, to_numpy
from tests.models.offline.released import (
    ReleasedDecisionTransformer,
    ReleasedELMUR,
    ReleasedRATE,
    ReleasedTransformer,
    leaky_relu,
)

FOLDER = Path(__file__).parents[2] / "reference" / "offline"
SEGMENTS = (
    "dt",
    "elmur_segments",
    "rate_cached_hidden",
    "rate_one_segment",
    "rate_three_segments",
    "rate_three_segments_continuous",
    "rmt_three_segments",
    "trxl_cached_hidden",
)


class Reference:
    def __init__(self, stem):
        self.arrays = dict(np.load(FOLDER / f"{stem}.npz"))
        self.config = json.loads(str(self.arrays.pop("config")))

    def __getitem__(self, name):
        return self.arrays[name]

    def __contains__(self, name):
        return name in self.arrays

    def group(self, prefix):
        return {
            name.removeprefix(f"{prefix}/"): array
            for name, array in self.arrays.items()
            if name.startswith(f"{prefix}/")
        }


load = functools.cache(Reference)


def make_policy(reference):
    config = reference.config
    encoder = MLPEncoder(spaces.Box(-np.inf, np.inf, (config["state_dim"],)))
    actions = spaces.Discrete(config["act_dim"])
    if config.get("padding_idx", 0) is None:
        actions = spaces.Box(-1.0, 1.0, (config["act_dim"],))
    sizes = {
        "segment_length": config["segment_length"],
        "num_layers": config["n_layer"],
        "hidden_dim": config["d_model"],
        "num_heads": config["n_head"],
        "target_return": 0.0,
        "action_activation": "linear" if isinstance(actions, spaces.Box) else "tanh",
        "dropout": 0.0,
    }
    if config["model"] == "ELMUR":
        policy = ReleasedELMUR(
            encoder,
            actions,
            **sizes,
            intermediate_dim=config["d_ff"],
            num_slots=config["memory_size"],
            blend=config["lru_blend_alpha"],
            max_distance=config["max_seq_len"],
        )
    else:
        feedforward = 0 if config["skip_dec_ffn"] else config["d_inner"]
        sizes |= {"head_dim": config["d_head"], "intermediate_dim": feedforward}
        if config["num_mem_tokens"] or config["mem_len"]:
            policy = ReleasedRATE(
                encoder,
                actions,
                **sizes,
                memory_tokens=config["num_mem_tokens"],
                cache_length=config["mem_len"],
                valve="ca2" if config["n_head_ca"] else "none",
                valve_heads=max(config["n_head_ca"], 1),
            )
            if config["mrv_act"] == "leaky_relu":
                policy.memory_valve.activation = leaky_relu
        else:
            policy = ReleasedDecisionTransformer(encoder, actions, **sizes)
    convert.load_official_weights(policy, reference.group("params"))
    return policy


def flat_actions(reference, actions):
    """What `previous_action` would be: -10 is no action."""
    if actions.dtype.kind == "f":
        return actions
    number = np.arange(reference.config["act_dim"])
    return (actions == number).astype("float32")


def logits_of(policy, outputs):
    logits = policy.actor(policy._of_observations(outputs))
    if not isinstance(policy.action_space, spaces.Box):
        return logits
    return ops.tanh(ops.split(logits, 2, axis=-1)[0])


def run_segments(policy, reference, states, returns):
    """Outputs and written memories, segment by segment, with all actions known."""
    batch, whole = states.shape[1], None
    memory = [ops.zeros((batch, size)) for size in policy.memory_sizes]
    if "memory" in reference:  # of ELMUR, drawn
        memory = [by_batch(reference["memory"][0])]
    outputs, memories = [], []
    for n in range(states.shape[0]):
        actions = flat_actions(reference, reference["actions"][n])
        entries = policy._entries(
            policy.observation_embedding(states[n]),
            ops.convert_to_tensor(actions),
            returns[n][..., 0],
        )
        tokens = policy.tokens(entries)
        policy.offset = n * tokens.shape[1]
        if hasattr(policy, "memory_tokens"):
            whole = tokens.shape[1] + 2 * policy.memory_tokens
            policy.cached = min(n * whole, policy.cache_length)
        segments = ops.full((batch,), float(n))
        out, memory = policy.run_segment(tokens, memory, segments, Noise(), True)
        outputs.append(logits_of(policy, out))
        memories.append(list(memory))
        if policy.detach_memory:
            memory = [ops.stop_gradient(x) for x in memory]
    return outputs, memories


def by_batch(memory):
    """ELMUR's memory `(layers, batch, slots, width)` as our state has it."""
    memory = np.swapaxes(memory, 0, 1)
    return ops.convert_to_tensor(memory.reshape(len(memory), -1))


def assert_close(received, expected, tolerance=1e-5):
    np.testing.assert_allclose(to_numpy(received), expected, rtol=0, atol=tolerance)


def official_gradients(policy, params, grads, halved):
    """Gradients of our weights as those of the authors' arrays."""
    by_name = {}
    names = convert.official_weight_names(policy, params)
    grads = dict(zip(map(id, policy.trainable_weights), grads, strict=True))
    for weight, (name, *_) in ((w, n) for w, n in names if n):
        by_name.setdefault(name, []).append(grads[id(weight)])
    for name, (grad, *more) in by_name.items():
        if name == "action_embeddings.0.weight":
            none = more[0] - grad.sum(axis=0)
            whole = np.concatenate([grad, none[None]])
            yield name, whole[: len(params[name])]
        elif name == "mem_tokens":
            yield name, grad[:, None]
        elif name.endswith(".weight") and "rel_bias" not in name:
            yield name, (0.5 if halved and "o_net" in name else 1.0) * grad.T
        else:
            yield name, grad


def sampled(x):
    return x.reshape(-1)[:: -(-x.size // 64)]


def assert_gradients(received, expected):
    assert received.keys() == expected.keys()
    for name, array in expected.items():
        error = np.linalg.norm(sampled(received[name]) - array.reshape(-1))
        # The biases of keys have a gradient of zero.
        scale = 1.0 if ".wk.bias" in name else np.linalg.norm(array)
        assert error <= 1e-4 * scale, (name, error, scale)


@pytest.mark.parametrize(
    ("stem", "detach"),
    [*((stem, False) for stem in SEGMENTS), ("rate_three_segments", True)],
)
def test_segments_equal_those_of_the_authors(stem, detach):
    reference, prefix = load(stem), "detached/" if detach else ""
    policy = make_policy(reference)
    policy.detach_memory = detach
    cotangents = list(reference["cotangent"])

    (outputs, memories), (grad_states, grad_returns, *grads) = gradients(
        lambda s, r: run_segments(policy, reference, s, r),
        [reference["states"], reference["returns_to_go"]],
        policy.trainable_weights,
        lambda flat: [*cotangents, *(0.0 for _ in flat[len(cotangents) :])],
    )

    for received, expected in zip(outputs, reference["outputs"], strict=True):
        assert_close(received, expected)
    for n, memory in enumerate(memories):
        check_memory(policy, reference, n, memory)
    params = reference.group("params")
    halved = isinstance(policy, ReleasedTransformer)
    received = dict(official_gradients(policy, params, grads, halved))
    expected = reference.group(f"{prefix}grad_params")
    for name, grad in (("states", grad_states), ("returns_to_go", grad_returns)):
        if f"{prefix}grad_{name}" in reference:  # none of the returns of ELMUR
            received[name] = grad
            expected[name] = sampled(reference[f"{prefix}grad_{name}"])
    assert_gradients(received, expected)


def check_memory(policy, reference, n, memory):
    if "memory" in reference:
        assert_close(memory[0], to_numpy(by_batch(reference["memory"][n + 1])))
        times = to_numpy(policy.changed(ops.full((1,), float(n + 1))))
        assert (times == reference["memory_pos"][n + 1].reshape(-1, times.size)).all()
    if "memory_out" in reference:
        expected = reference["memory_out"][n]
        assert_close(memory[0], expected.reshape(len(expected), -1))
    for i in range(policy.num_layers):
        if f"cache_out/{n}" in reference:
            expected = reference[f"cache_out/{n}"][i]
            shape = (-1, policy.num_layers, policy.cache_length, policy.hidden_dim)
            kept = memory[-1].reshape(shape)[:, i]
            assert_close(kept[:, -expected.shape[1] :], expected)


@pytest.mark.parametrize("case", range(4))
def test_the_valve_equals_that_of_the_authors(case):
    reference = load("mrv")
    config = reference.config["cases"][case]
    name, width = config["case"], config["d_model"]
    activation = "linear" if config["activation"] == "no_act" else config["activation"]
    valve = CrossAttention2Valve(width, config["heads"], activation)
    valve.build()
    valve.built = True
    if activation == "leaky_relu":
        valve.activation = leaky_relu
    layers = {
        "wq": valve.query,
        "wk": valve.key,
        "wv": valve.value,
        "dense": valve.output_layer,
    }
    params = reference.group(f"{name}/params")
    for key, layer in layers.items():
        layer.kernel.assign(params[f"{key}.weight"].T)
        layer.bias.assign(params[f"{key}.bias"])

    out, (grad_memory, grad_written, *grads) = gradients(
        lambda m, w: valve(m, w, None)[0],
        [reference[f"{name}/memory_in"], reference[f"{name}/written"]],
        [w for layer in layers.values() for w in layer.weights],
        lambda _: [reference[f"{name}/cotangent"]],
    )

    assert_close(out, reference[f"{name}/outputs"])
    received = {
        "memory_in": grad_memory,
        "written": grad_written,
        **{
            f".{key}.{kind}": grad.T
            for (key, kind), grad in zip(
                ((key, kind) for key in layers for kind in ("weight", "bias")),
                grads,
                strict=True,
            )
        },
    }
    expected = reference.group(f"{name}/grad_params")
    assert_gradients(
        received,
        {
            "memory_in": sampled(reference[f"{name}/grad_memory_in"]),
            "written": sampled(reference[f"{name}/grad_written"]),
            **{f".{key}": array for key, array in expected.items()},
        },
    )


def observations_of(reference, t, states):
    """What `act` sees at step t of a file whose axes are (batch, step, ...)."""
    actions, to_go = reference["actions"], reference["returns_to_go"]
    batch = len(states)
    previous = np.zeros((batch, reference.config["act_dim"]), "float32")
    reward = np.zeros((batch, 1), "float32")
    if t:
        previous = flat_actions(reference, actions[:, t - 1])
        reward = to_go[:, t - 1] - to_go[:, t]
    return {
        "observation": states[:, t],
        "previous_action": previous,
        "previous_reward": reward,
    }


def test_acting_equals_that_of_the_authors():
    reference = load("dt_online")
    policy = make_policy(reference)
    state, target = None, reference["returns_to_go"][:, 0, 0]
    for t in range(reference["states"].shape[1]):
        logits, _, state = policy.step(
            observations_of(reference, t, reference["states"]),
            state,
            target_return=target,
        )
        assert_close(logits, reference["outputs"][:, t])


@pytest.mark.parametrize("t", [3, 5])
def test_a_segment_without_its_last_action_equals_that_of_the_authors(t):
    reference = load("rate_online")
    policy = make_policy(reference)
    first = t - t % policy.segment_length
    actions = flat_actions(reference, reference["actions"][:, first : t + 1])
    held = reference["memory_used"][:, t]

    def run(states, returns):
        entries = policy._entries(
            policy.observation_embedding(states),
            ops.convert_to_tensor(actions),
            returns[..., 0],
        )
        tokens = policy.tokens(entries)[:, :-1]
        memory = [ops.convert_to_tensor(held.reshape(len(held), -1))]
        out, memory = policy.run_segment(
            tokens, memory, ops.ones((len(held),)), Noise(), True
        )
        return logits_of(policy, out), memory[0]

    logits, memory = to_numpy(
        compiled(run)(
            reference["states"][:, first : t + 1],
            reference["returns_to_go"][:, first : t + 1],
        )
    )

    assert_close(logits[:, -1], reference["outputs"][:, t])
    assert_close(memory.reshape(held.shape), reference["memory_candidate"][:, t])
