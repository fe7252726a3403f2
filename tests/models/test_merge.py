"""A policy with SHERL's merge begins as the one without, and freezes what is in front.

The numbers of the merge are in `tests/layers/test_references.py`.
"""

import dataclasses
import json

import keras
import numpy as np
import pytest

from keras_agalite import GRU, AGaLiTe, GTrXL, Memoryless
from keras_agalite.layers.sherl_merge import SHERLMerge
from keras_agalite.models import MemoryPolicy, MLPEncoder, ReturnConditionedPolicy
from keras_agalite.presets import Preset
from keras_agalite.previous import previous_space
from tests.helpers import compiled, gradients, random_starts, to_numpy
from tests.models.conftest import ACTION_SPACES, VECTOR, randomise

SIZES = {"hidden_dim": 8, "num_heads": 2, "head_dim": 4, "intermediate_dim": 8}
ROWS, STEPS = 2, 6


def make(memory=AGaLiTe, merge_units=4, num_layers=3, **kwargs):
    if memory is GTrXL:
        kwargs["memory_length"] = 4
    return MemoryPolicy(
        MLPEncoder(VECTOR, units=[5]),
        memory(num_layers, **SIZES, **kwargs),
        ACTION_SPACES["discrete"],
        head_units=8,
        merge_units=merge_units,
    )


@pytest.fixture(scope="module")
def policy():
    policy = make()
    randomise(policy)
    return policy


def inputs():
    random = np.random.default_rng(0)
    observations = random.normal(size=(ROWS, STEPS, *VECTOR.shape)).astype("float32")
    return observations, random_starts(ROWS, STEPS)


def run(policy, observations, start, state=None):
    def call(observations, start, state):
        out, state = policy(observations, state, start)
        return out.logits, out.value, state

    state = policy.initial_state(len(observations)) if state is None else state
    return to_numpy(compiled(call)(observations, start, state))


@pytest.mark.parametrize("memory", [AGaLiTe, GTrXL])
def test_a_new_merge_changes_nothing(memory):
    random = np.random.default_rng(0)
    plain, merged = make(memory, merge_units=0), make(memory)
    randomise(plain)
    new = {id(v) for v in merged.memory.cell.merge.weights}
    others = [v for v in merged.weights if id(v) not in new]
    for variable, value in zip(others, plain.get_weights(), strict=True):
        variable.assign(value)

    expected, found = (run(x, *inputs()) for x in (plain, merged))

    # XLA rounds a program with a merge in other places; the merge itself is exact.
    for one, other in zip(*map(keras.tree.flatten, (expected, found)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    features = [random.normal(size=(2, 3, n)).astype("float32") for n in (5, 8, 8)]
    last = keras.ops.convert_to_numpy(merged.memory.cell.merge(features))
    np.testing.assert_array_equal(last, features[-1])


def test_chunks_give_what_the_whole_gives(policy):
    observations, start = inputs()
    logits, value, state = run(policy, observations, start)

    parts, carried = [], None
    for chunk in (slice(0, 3), slice(3, 6)):
        *part, carried = run(policy, observations[:, chunk], start[:, chunk], carried)
        parts.append(part)

    for whole, both in zip((logits, value), zip(*parts, strict=True), strict=True):
        np.testing.assert_allclose(whole, np.concatenate(both, axis=1), atol=1e-5)
    for one, other in zip(state, carried, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_no_gradient_reaches_what_is_in_front(policy):
    observations, start = inputs()
    *early, late = policy.memory.cell.blocks
    trained = [policy.memory.cell.merge, late, policy.actor]
    parts = [policy.encoder, *early, *trained]
    weights = [v for part in parts for v in part.trainable_weights]

    def logits(observations):
        return policy(observations, start=start)[0].logits

    _, (first, *grads) = gradients(logits, [observations], weights)

    assert not first.any()
    reached = {v.path for v, x in zip(weights, grads, strict=True) if x.any()}
    for part in parts:
        paths = {v.path for v in part.trainable_weights}
        assert bool(paths & reached) == (part in trained), part.name


def test_zeros_are_merged_without_nan(policy):
    """A layer that says nothing has no direction: LN of the zero vector is zero."""
    for variable in policy.memory.cell.merge.weights:
        if variable.path.endswith(("beta", "bias")):
            variable.assign(np.zeros(variable.shape))
    merge = policy.memory.cell.merge

    _, grads = gradients(
        lambda *x: merge(list(x)),
        [np.zeros((1, 1, 5), "float32")] + [np.zeros((1, 1, 8), "float32")] * 2,
        merge.trainable_weights,
    )

    assert all(np.isfinite(x).all() for x in grads)
    randomise(policy)


def test_half_precision_merges_without_nan():
    layer = SHERLMerge(4, dtype="float16")
    random = np.random.default_rng(0)
    features = [random.normal(size=(ROWS, STEPS, n)).astype("float16") for n in (5, 8)]
    features[0][0] = 0.0

    merged = to_numpy(layer(features))

    np.testing.assert_array_equal(merged, features[-1])


@pytest.mark.once
def test_a_merge_keeps_8_bits_where_its_memory_does():
    merge = make(saved_activations="int8").memory.cell.merge
    layers = [*merge.projections, *merge.norms, merge.output_dense, merge.output_norm]
    assert {layer.saved_activations for layer in layers} == {"int8"}


def test_a_preset_holds_the_merge(policy, tmp_path):
    policy.save_to_preset(tmp_path / "preset")
    config = json.loads((tmp_path / "preset" / "config.json").read_text())
    assert config["merge_units"] == 4
    loaded = MemoryPolicy.from_preset(tmp_path / "preset")
    policy.save(tmp_path / "policy.keras")
    again = keras.saving.load_model(tmp_path / "policy.keras")
    expected = policy.step(inputs()[0][:, 0])[0]
    for other in (loaded, again):
        logits = other.step(inputs()[0][:, 0])[0]
        np.testing.assert_allclose(logits, expected, atol=1e-6)
    preset = Preset.of(policy)
    assert preset.num_weights == policy.count_params()
    assert "merge_units" not in dataclasses.replace(preset, merge_units=0).to_config()


@pytest.mark.once
@pytest.mark.parametrize(
    ("memory", "told"),
    [
        (GRU(8), "a memory made of blocks, such as AGaLiTe or GTrXL. Received: GRU"),
        (Memoryless(8), "a memory made of blocks, such as AGaLiTe or GTrXL. Received"),
        (AGaLiTe(1, **SIZES), "at least two blocks. Received: AGaLiTeCell with 1"),
    ],
    ids=["cell", "memoryless", "one_block"],
)
def test_where_no_merge_can_be(memory, told):
    actions = ACTION_SPACES["discrete"]
    with pytest.raises(ValueError, match=told):
        MemoryPolicy(MLPEncoder(VECTOR), memory, actions, merge_units=4)
    described = Preset.of_parts(MLPEncoder(VECTOR), memory, actions, 8, "tanh")
    with pytest.raises(ValueError, match=told):
        Preset.from_config({**described.to_config(), "merge_units": 4})


@pytest.mark.once
def test_what_it_refuses():
    built = AGaLiTe(2, **SIZES)
    built.build((None, None, 3))
    actions = ACTION_SPACES["discrete"]
    with pytest.raises(ValueError, match="before the memory is built"):
        MemoryPolicy(MLPEncoder(VECTOR), built, actions, merge_units=4)
    for units in (-1, False, None, 0.0):
        with pytest.raises(ValueError, match="`merge_units` must be a positive"):
            MemoryPolicy(MLPEncoder(VECTOR), AGaLiTe(2), actions, merge_units=units)
    space = previous_space(VECTOR, actions)
    with pytest.raises(ValueError, match="Expected no argument `merge_units`"):
        ReturnConditionedPolicy(
            MLPEncoder(space), AGaLiTe(2), actions, target_return=1.0, merge_units=4
        )
