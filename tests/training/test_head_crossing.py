"""Crossed heads and skipped blocks against plain forms, on every backend."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from keras import ops

from keras_agalite import GTrXL
from keras_agalite.models import MemoryPolicy, MLPEncoder
from keras_agalite.ops import relative_attention
from keras_agalite.ops.sinusoids import sinusoids
from tests.helpers import gradients
from tests.models.conftest import ACTION_SPACES, VECTOR, randomise
from training.learning.head_crossing import HeadCrossing, head_order
from training.recipe import Recipe

REFERENCE = Path(__file__).parents[1] / "reference/memories/cross_head_layer.npz"
RECIPE = Recipe(
    name="crossed",
    engine="offline",
    environment="",
    recordings="unread",
    total_steps=40_000,
    batch_size=10,
    sequence_length=10,
    memory="gtrxl",
    cross_heads=0.3,
    skip_blocks=0.8,
)
BLOCKS, HEADS = 3, 4


def make_policy(num_layers=BLOCKS):
    sizes = {"hidden_dim": 8, "head_dim": 2, "intermediate_dim": 8}
    memory = GTrXL(num_layers, num_heads=HEADS, memory_length=4, **sizes)
    encoder, actions = MLPEncoder(VECTOR), ACTION_SPACES["discrete"]
    policy = MemoryPolicy(encoder, memory, actions, head_units=8)
    randomise(policy)
    return policy


@pytest.fixture(scope="module")
def policy():
    return make_policy()


def observations():
    random = np.random.default_rng(0)
    return random.normal(size=(2, 6, *VECTOR.shape)).astype("float32")


def logits(policy, drawn=None):
    x = ops.convert_to_tensor(observations())
    if drawn is None:
        return ops.convert_to_numpy(policy(x)[0].logits)
    with HeadCrossing(policy, RECIPE).scope(drawn):
        return ops.convert_to_numpy(policy(x)[0].logits)


def nothing():
    order = np.tile(np.arange(HEADS, dtype=np.int32), (BLOCKS, 1))
    return {"order": order, "skipped": np.zeros(BLOCKS, np.float32)}


def test_crossed_heads_are_those_of_the_authors():
    """Their layer from our parts: they have no relative shift, so token by token."""
    arrays = dict(np.load(REFERENCE))
    config = json.loads(str(arrays.pop("config")))
    heads, dim, memory = (config[k] for k in ("heads", "d_model", "memory"))
    epsilon = config["layer_norm_epsilon"]
    names = [name.removeprefix("params/") for name in arrays if name[:7] == "params/"]
    biases = ("content_bias", "positional_bias")

    def layer(x, weights, order, positions):
        def project(y, name):
            kernel = ops.transpose(weights[f"attn.{name}.weight"])
            if name != "w_q":
                kernel = ops.take(kernel, head_order(order, dim), axis=-1)
            y = ops.matmul(y, kernel)
            return ops.reshape(y, (*y.shape[:-1], heads, dim // heads))

        def norm(y, name):
            mean = ops.mean(y, axis=-1, keepdims=True)
            scale = ops.sqrt(ops.var(y, axis=-1, keepdims=True) + epsilon)
            scaled = (y - mean) / scale * weights[f"{name}.weight"]
            return scaled + weights[f"{name}.bias"]

        items = ops.concatenate([arrays["memory_in"], x], axis=1)
        key, value = project(items, "w_k"), project(items, "w_v")
        encoding = sinusoids(ops.cast(positions, "float32"), dim)
        position, query = project(encoding, "r_net"), project(x, "w_q")
        attended = []
        for i in range(x.shape[1]):
            seen = memory + i + 1
            attended.append(
                relative_attention(
                    query[:, i : i + 1],
                    key[:, :seen],
                    value[:, :seen],
                    position[:seen],
                    *(weights[name] for name in biases),
                    np.zeros((x.shape[0], seen), "int32"),
                    memory_length=seen - 1,
                )
            )
        attended = ops.reshape(ops.concatenate(attended, axis=1), x.shape)
        update = ops.matmul(attended, ops.transpose(weights["attn.w_o.weight"]))
        h = norm(x + update, "norm1")
        wide = ops.matmul(h, ops.transpose(weights["ff.fc1.weight"]))
        wide = ops.relu(wide + weights["ff.fc1.bias"])
        narrow = ops.matmul(wide, ops.transpose(weights["ff.fc2.weight"]))
        return norm(h + narrow + weights["ff.fc2.bias"], "norm2")

    keys = [*names, *biases]
    values = [arrays[f"params/{name}"] for name in names] + [arrays[k] for k in biases]
    for case in ("plain", "crossed", "crossed_skipped"):
        order = arrays["permutation"] if "crossed" in case else np.arange(heads)
        order = order.astype("int32")

        def function(x, *tensors, order=order, case=case):
            weights = dict(zip(keys, tensors, strict=True))
            positions = arrays[f"{case}/positions"]
            return layer(x, weights, ops.convert_to_tensor(order), positions)

        outputs, grads = gradients(
            function,
            [arrays["inputs"], *values],
            cotangents=lambda y: [arrays["cotangent"]],
        )

        np.testing.assert_allclose(outputs, arrays[f"{case}/outputs"], atol=1e-5)
        expected = ["inputs", *(f"params/{name}" for name in names), *biases]
        for name, grad in zip(expected, grads, strict=True):
            right = arrays[f"{case}/grad_{name}"]
            error = np.linalg.norm(grad - right) / np.linalg.norm(right)
            assert error < 1e-4, (case, name)


def test_keys_in_another_order_are_queries_in_the_inverse_order(policy):
    """The same GTrXL with the heads of queries, biases and outputs moved by hand."""
    drawn = nothing()
    orders = [np.random.default_rng(i).permutation(HEADS) for i in range(BLOCKS)]
    drawn["order"] = np.array(orders, np.int32)
    crossed = logits(policy, drawn)
    assert np.abs(crossed - logits(policy)).max() > 1e-2

    # The biases belong to the places of queries, and all blocks share them.
    one = nothing()
    one["order"] = np.array([orders[0]] * BLOCKS, np.int32)
    other, inverse = make_policy(), np.argsort(orders[0])
    cell = other.memory.cell
    for variable in (cell.content_bias, cell.position_bias):
        variable.assign(ops.convert_to_numpy(variable)[inverse])
    for block in cell.blocks:
        dense, out = block.query_projection, block.attention_output
        for variable, axis in ((dense.kernel, 1), (dense.bias, 0), (out.kernel, 0)):
            array = ops.convert_to_numpy(variable)
            columns = np.arange(array.shape[axis]).reshape(HEADS, -1)[inverse].ravel()
            variable.assign(np.take(array, columns, axis))
    np.testing.assert_allclose(logits(policy, one), logits(other), atol=1e-5)


def test_a_skipped_block_is_as_if_it_were_not_there(policy):
    drawn = nothing()
    np.testing.assert_allclose(logits(policy, drawn), logits(policy), atol=1e-5)
    drawn["skipped"][1] = 1.0
    shorter = make_policy(BLOCKS - 1)
    left = [v for v in policy.weights if "block_1" not in v.path]
    for variable, source in zip(shorter.weights, left, strict=True):
        variable.assign(source)

    np.testing.assert_allclose(logits(policy, drawn), logits(shorter), atol=1e-5)

    def skipping(observations):
        with HeadCrossing(policy, RECIPE).scope(drawn):
            return policy(observations)[0].logits

    for block in (0, 1):
        weights = policy.memory.cell.blocks[block].trainable_weights
        _, (_, *grads) = gradients(skipping, [observations()], weights)
        assert all(np.isfinite(x).all() for x in grads)
        assert any(x.any() for x in grads) == (block == 0)


def test_draws_follow_from_the_seed_and_the_number_of_the_batch(policy):
    crossing = HeadCrossing(policy, RECIPE)
    draws = [crossing.draw(i) for i in range(400)]
    again, other = crossing.draw(7), dataclasses.replace(RECIPE, seed=1)
    for name, array in again.items():
        np.testing.assert_array_equal(array, draws[7][name])
    changed = [HeadCrossing(policy, other).draw(i)["skipped"] for i in range(9)]
    assert any((a != b["skipped"]).any() for a, b in zip(changed, draws, strict=False))
    order = np.array([x["order"] for x in draws])
    skipped = np.array([x["skipped"] for x in draws])
    np.testing.assert_array_equal(np.sort(order, axis=-1) - np.arange(HEADS), 0)
    # One permutation of 24 is that of the heads as they are.
    crossed = (order != np.arange(HEADS)).any(-1)
    np.testing.assert_allclose(crossed.mean(0), 0.3 * 23 / 24, atol=0.08)
    np.testing.assert_allclose(
        skipped[:200].mean(0), [0.8 / 3, 0.8 * 2 / 3, 0.0], atol=0.12
    )
    assert not skipped[200:].any()


@pytest.mark.once
def test_what_it_refuses():
    with pytest.raises(ValueError, match="PPO compares probabilities"):
        dataclasses.replace(RECIPE, engine="jax", recordings="", environment="tmaze")
    with pytest.raises(ValueError, match="`skip_share` must be between 0 and 1"):
        dataclasses.replace(RECIPE, skip_share=1.5)
    with pytest.raises(ValueError, match="another memory than gtrxl"):
        HeadCrossing(object(), dataclasses.replace(RECIPE, memory="gru"))
