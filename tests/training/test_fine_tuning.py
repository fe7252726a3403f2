"""Fine-tuning in both engines: what is trained, what stays, and what it costs."""

import dataclasses
import importlib
import shutil

import keras
import numpy as np
import pytest

from keras_agalite import MemoryPolicy
from keras_agalite.presets import Preset
from tests.models.conftest import randomise
from tests.training import processes
from training.envs.make import make_spaces
from training.learning.fine_tuning import frozen_weights
from training.learning.policy import make_policy
from training.runs.footprint import footprint

pytestmark = pytest.mark.usefixtures("quick_compilation")

ENGINE = {"jax": "jax", "tensorflow": "tf_agents"}[keras.backend.backend()]
engine = importlib.import_module(f"training.engines.{ENGINE}")
SMALL = dataclasses.replace(
    processes.SMALL,
    engine=ENGINE,
    encoder_arguments={"units": [8]},
    memory="mingru",
    memory_arguments={"num_layers": 3, "hidden_dim": 8, "intermediate_dim": 8},
    fine_tune_units=4,
    total_steps=160,
    checkpoint_interval=80,
)


@pytest.fixture(scope="module")
def initial(tmp_path_factory):
    """A policy, and the recipe that begins with it."""
    policy = make_policy(SMALL, *make_spaces(SMALL))
    randomise(policy, scale=0.3)
    folder = tmp_path_factory.mktemp("initial") / "preset"
    policy.save_to_preset(folder)
    return policy, dataclasses.replace(SMALL, initial_preset=str(folder))


def tuned(initial, **changes):
    policy, recipe = initial
    recipe = dataclasses.replace(recipe, **changes)
    return make_policy(recipe, policy.observation_space, policy.action_space)


def step(policy):
    observation = policy.sample_observation(4, seed=0)
    logits, value, state = policy.step(observation)
    return [logits, value, *map(keras.ops.convert_to_numpy, state)]


@pytest.mark.parametrize("kind", ["heads", "sherl", "lora"])
def test_it_begins_with_the_preset_and_trains_what_it_names(kind, initial, tmp_path):
    policy = tuned(initial, fine_tune=kind)
    for one, other in zip(step(policy), step(initial[0]), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)

    trained = {v.path for v in policy.trainable_variables}
    parts = {
        "heads": [],
        "sherl": ["block_2", "merge"],
        "lora": ["lora_kernel_a", "lora_kernel_b"],
    }[kind]
    heads = ["actor", *(x.path for x in (policy.critic_hidden, policy.critic_output))]
    for variable in policy.variables:
        named = any(part in variable.path for part in [*heads, *parts])
        assert (variable.path in trained) == named, variable.path
    frozen = {v.path for v in frozen_weights(policy)}
    assert frozen == {v.path for v in policy.weights} - trained
    # Adapters are added to the kernels where it is saved.
    if kind == "lora":
        randomise(policy)
    policy.save_to_preset(tmp_path / "preset")
    loaded = MemoryPolicy.from_preset(tmp_path / "preset")
    for one, other in zip(step(policy), step(loaded), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    units = 4 if kind == "sherl" else 0
    assert Preset.find(tmp_path / "preset").merge_units == units


def frozen_arrays(run):
    return [v.numpy().copy() for v in frozen_weights(run.policy)]


@pytest.mark.process
def test_a_resumed_run_repeats_the_one_that_was_not_stopped(initial, tmp_path):
    _, recipe = initial
    recipe = dataclasses.replace(recipe, fine_tune="sherl")
    whole = engine.Run(recipe, tmp_path / "whole")
    frozen, trained = frozen_arrays(whole), whole.policy.get_weights()
    whole.train()
    whole.update_policy()
    whole.close()
    for one, other in zip(frozen, frozen_arrays(whole), strict=True):
        np.testing.assert_array_equal(one, other)
    changed = whole.policy.get_weights()
    moved = sum((a != b).any() for a, b in zip(trained, changed, strict=True))
    # The kernels in front of the merge's last scale, which is 0 at first, move later.
    assert moved > (len(changed) - len(frozen)) // 2

    shutil.copytree(tmp_path / "whole", tmp_path / "half")
    checkpoints = tmp_path / "half" / "checkpoints"
    (checkpoints / "step_000000000160.npz").unlink()
    # The checkpoint has all weights: what the preset holds now does not matter.
    other = tuned(initial)
    randomise(other, seed=1)
    other.save_to_preset(tmp_path / "preset")
    held = (tmp_path / "half" / "recipe.toml").read_text()
    moved_to = str(tmp_path / "preset")
    (tmp_path / "half" / "recipe.toml").write_text(
        held.replace(recipe.initial_preset, moved_to)
    )
    resumed = engine.Run(
        dataclasses.replace(recipe, initial_preset=moved_to), tmp_path / "half"
    )
    assert resumed.step == 80
    resumed.train()
    resumed.update_policy()
    resumed.close()
    for one, other in zip(changed, resumed.policy.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def kept(policy):
    """Numbers a step that JAX keeps for the gradient of the trained weights."""
    import jax

    variables = policy.trainable_variables

    def differentiate(weights, observation):
        def logits(weights):
            with keras.StatelessScope(list(zip(variables, weights, strict=True))):
                return policy(observation)[0].logits

        return jax.vjp(logits, weights)[1]

    weights, sizes = [v.value for v in variables], []
    for steps in (16, 32):
        shape = (1, steps, *policy.observation_space.shape)
        arrays = jax.eval_shape(differentiate, weights, np.zeros(shape, "float32"))
        sizes.append(sum(x.size for x in jax.tree.leaves(arrays)))
    return (sizes[1] - sizes[0]) / 16


@pytest.mark.skipif(ENGINE != "jax", reason="JAX says what it keeps")
def test_nothing_is_kept_of_what_is_frozen(initial, tmp_path):
    numbers = {}
    for layers in (3, 5):
        arguments = {**SMALL.memory_arguments, "num_layers": layers}
        deep = dataclasses.replace(SMALL, memory_arguments=arguments)
        policy, preset = tuned((initial[0], deep)), tmp_path / str(layers)
        policy.save_to_preset(preset)
        deep = dataclasses.replace(deep, initial_preset=str(preset))
        for kind in ("full", "heads", "sherl"):
            numbers[kind, layers] = kept(tuned((policy, deep), fine_tune=kind))

    more = {k: (numbers[k, 5] - numbers[k, 3]) / 2 for k in ("full", "heads", "sherl")}
    assert numbers["heads", 3] < numbers["sherl", 3] < numbers["full", 3]
    assert more["heads"] == 0
    # Of a block the merge keeps its output, and a few vectors that it makes of it.
    assert more["sherl"] <= 8 + 16 * SMALL.fine_tune_units
    assert more["sherl"] < 0.5 * more["full"], numbers


def test_an_estimate_counts_no_frozen_activation(initial):
    sizes = {
        kind: footprint(tuned(initial, fine_tune=kind), SMALL)
        for kind in ("full", "sherl", "heads")
    }
    for name in ("activations", "weights"):
        full, sherl, heads = (sizes[k][name] for k in ("full", "sherl", "heads"))
        assert heads < sherl < full, name


def test_it_goes_on_from_a_policy_with_a_merge(initial, tmp_path):
    policy = tuned(initial, fine_tune="sherl")
    randomise(policy)
    policy.save_to_preset(tmp_path / "tuned")
    preset = {"initial_preset": str(tmp_path / "tuned")}

    again = tuned(initial, fine_tune="sherl", **preset)

    for one, other in zip(policy.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    for changes in ({}, {"fine_tune": "sherl", "fine_tune_units": 5}):
        with pytest.raises(ValueError, match="must hold the policy that the recipe"):
            tuned(initial, **preset, **changes)


def test_what_it_refuses(initial):
    with pytest.raises(ValueError, match="`fine_tune` must be one of"):
        tuned(initial, fine_tune="prompt")
    with pytest.raises(ValueError, match='must be "full" without an initial_preset'):
        dataclasses.replace(SMALL, fine_tune="sherl")
    one = {**SMALL.memory_arguments, "num_layers": 1}
    with pytest.raises(ValueError, match="at least two blocks"):
        tuned(initial, fine_tune="sherl", memory_arguments=one)
    with pytest.raises(ValueError, match="`fine_tune_units` must be greater than 0"):
        tuned(initial, fine_tune_units=0)
