"""Recipes that name a policy of the zoo: both say the same, and overrides win."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest

from keras_agalite.layers import AGaLiTe
from keras_agalite.presets import Preset
from keras_agalite.presets.offline import find_any
from keras_agalite.zoo.specs import find_spec
from training.learning.policy import check_policy, make_policy
from training.recipe import Recipe, load_recipe

pytestmark = pytest.mark.once

RECIPES = {path.stem: path for path in Path("training/recipes").glob("*.toml")}
SAID = {stem: tomllib.loads(path.read_text()) for stem, path in RECIPES.items()}
OF_THE_ZOO = {stem: said["policy"] for stem, said in SAID.items() if "policy" in said}
PARTS = ("encoder", "memory")
# What a policy of the zoo gives, so that no recipe of one says it again.
GIVEN = {"encoder", "encoder_arguments", "memory_arguments", "head_units"}
GIVEN |= {"head_activation", "previous_action_reward", "normalize_observations"}


@pytest.fixture
def recipe_file(tmp_path):
    file = tmp_path / "small.toml"
    file.write_text('policy = "tmaze_10"\ntotal_steps = 100\n')
    return file


def config_of(policy, preset=Preset):
    config = preset.of(policy).to_config()
    return {key: value for key, value in config.items() if key != "keras_agalite"}


def test_all_recipes_but_those_of_other_environments_name_a_policy():
    offline = {stem for stem, said in SAID.items() if said.get("engine") == "offline"}
    assert set(RECIPES) - set(OF_THE_ZOO) - offline == {"ale_pong"}


@pytest.mark.parametrize("stem", sorted(OF_THE_ZOO))
def test_no_recipe_repeats_what_the_zoo_says(stem):
    assert GIVEN & set(SAID[stem]) <= {"memory_arguments"}

    given = find_spec(OF_THE_ZOO[stem]).memory_arguments() | AGaLiTe.added_arguments
    for name, value in SAID[stem].get("memory_arguments", {}).items():
        assert value != given[name], name


@pytest.mark.parametrize("stem", sorted(OF_THE_ZOO))
def test_a_recipe_describes_the_policy_of_the_zoo(stem):
    recipe, spec = load_recipe(RECIPES[stem]), find_spec(OF_THE_ZOO[stem])

    own = SAID[stem].get("memory_arguments", {})
    assert recipe.memory_arguments == spec.memory_arguments(recipe.memory) | own
    assert recipe.environment.removeprefix("fast_") == spec.environment
    for key in GIVEN - {"memory_arguments"}:
        assert getattr(recipe, key) == getattr(spec, key), key


@pytest.mark.parametrize(
    "name", sorted(set(OF_THE_ZOO.values()) - {f"tmaze_{n}" for n in (20, 50, 70)})
)
def test_a_recipe_builds_the_policy_of_the_zoo(name):
    spec = find_spec(name)
    stem = next(stem for stem, policy in OF_THE_ZOO.items() if policy == name)
    recipe = load_recipe(RECIPES[stem], ['initial_preset=""'])

    policy = make_policy(recipe, spec.observation_space, spec.action_space)

    assert config_of(policy).items() <= spec.config(recipe.memory).items()


def test_an_override_wins_and_the_rest_stays(recipe_file):
    recipe = load_recipe(
        recipe_file,
        ["environment_arguments.corridor_length=20", "memory_arguments.eta=2"],
    )
    spec = find_spec("tmaze_10")
    assert recipe.environment == "tmaze"
    assert recipe.environment_arguments == {"corridor_length": 20, "num_distractors": 6}
    assert recipe.memory_arguments == {**spec.memory_arguments(), "eta": 2}
    assert recipe.head_units == spec.head_units


def test_another_memory_has_about_as_many_weights(recipe_file):
    recipe = load_recipe(recipe_file, ["memory=gru"])
    assert recipe.memory_arguments == find_spec("tmaze_10").memory_arguments("gru")


def test_another_environment_or_encoder_has_its_own_arguments(recipe_file):
    changed = ["environment=memory_chain", "encoder=grid"]
    recipe = load_recipe(recipe_file, changed)
    assert recipe.environment_arguments == recipe.encoder_arguments == {}
    assert recipe.memory_arguments == find_spec("tmaze_10").memory_arguments()


def test_a_name_that_is_no_text_is_refused(recipe_file):
    message = r"`memory` must be of type str. Received: memory=\['gru'\]"
    with pytest.raises(ValueError, match=message):
        load_recipe(recipe_file, ['memory=["gru"]'])


def test_a_run_keeps_every_key_written_out(recipe_file, tmp_path):
    recipe = load_recipe(recipe_file, ["memory=lstm"])
    copy = tmp_path / "copy.toml"
    copy.write_text(recipe.to_toml())
    assert "policy" not in tomllib.loads(copy.read_text())
    assert load_recipe(copy) == recipe


@pytest.mark.parametrize("path", sorted(Path("zoo").glob("*/config.json")), ids=str)
def test_a_released_recipe_describes_what_was_trained(path):
    preset = find_any(path.parent)
    policy = make_policy(
        load_recipe(path.with_name("recipe.toml"), ['initial_preset=""']),
        preset.encoder.arguments["observation_space"],
        preset.action_space,
    )
    config = json.loads(path.read_text())
    assert config_of(policy, type(preset)).items() <= config.items()


def test_a_recipe_may_keep_activations_in_8_bits(recipe_file):
    spec = find_spec("tmaze_10")
    saved = [f"{part}_arguments.saved_activations=int8" for part in PARTS]
    policy = make_policy(
        load_recipe(recipe_file, ["memory=memoryless", *saved]),
        spec.observation_space,
        spec.action_space,
    )
    for part in PARTS:
        assert getattr(policy, part).saved_activations == "int8"
    assert policy.actor.output_layer.saved_activations == "int8"
    assert "int8" not in json.dumps(config_of(policy))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"memory": "elephant"}, r"memory.*agalite.*Received: memory='elephant'"),
        ({"encoder": "eye"}, r"encoder.*mlp.*Received: encoder='eye'"),
        ({"initial_preset": "nowhere"}, "Expected the name of a released policy"),
    ],
)
def test_unknown_parts_are_refused_before_any_work(keys, message):
    recipe = Recipe(name="small", environment="tmaze", total_steps=1, **keys)
    with pytest.raises(ValueError, match=message):
        check_policy(recipe)


@pytest.mark.parametrize(
    "keys",
    [
        {"head_activation": "celu"},
        {"encoder_arguments": {"units": [4], "activation": "exponential"}},
    ],
)
def test_what_could_not_be_saved_is_refused_before_training(keys):
    spec, sizes = find_spec("tmaze_10"), {"hidden_dim": 4}
    recipe = Recipe(
        name="small",
        environment="tmaze",
        total_steps=1,
        memory="gru",
        memory_arguments=sizes,
        **keys,
    )
    with pytest.raises(ValueError, match=r"Expected one of elu.*activation="):
        make_policy(recipe, spec.observation_space, spec.action_space)


def test_the_seed_decides_the_weights(recipe_file):
    spec = find_spec("tmaze_10")
    weights = [
        make_policy(
            load_recipe(recipe_file, [f"seed={seed}"]),
            spec.observation_space,
            spec.action_space,
        ).get_weights()
        for seed in (1, 1, 2)
    ]
    for one, same in zip(weights[0], weights[1], strict=True):
        np.testing.assert_array_equal(one, same)
    pairs = zip(weights[0], weights[2], strict=True)
    assert any((one != other).any() for one, other in pairs)
