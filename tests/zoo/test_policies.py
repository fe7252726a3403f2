"""The zoo's factory functions, without any environment's package."""

import json
import shutil
import warnings

import numpy as np
import pytest

import keras_agalite
from keras_agalite import zoo
from keras_agalite.models.presets import released_folder, released_presets
from keras_agalite.models.sizes import count_parameters
from keras_agalite.zoo import architectures
from keras_agalite.zoo.architectures import MEMORY_NAMES

ARCHITECTURES = {
    a.name: a
    for a in (
        architectures.tmaze(10),
        architectures.tmaze(300),
        architectures.memory_chain(100),
        architectures.memory_maze("9x9"),
        architectures.mystery_path("grid"),
        architectures.mystery_path("continuous"),
        architectures.mortar_mayhem("grid"),
        architectures.searing_spotlights(),
        architectures.vizdoom_two_colors(),
        architectures.popgym("RepeatFirstHard"),
        architectures.popgym("ConcentrationMedium"),
        architectures.craftax("symbolic"),
        architectures.craftax("classic"),
        architectures.minigrid_memory(11),
    )
}
FUNCTIONS = (
    zoo.tmaze_policy,
    zoo.memory_chain_policy,
    zoo.memory_maze_policy,
    zoo.mystery_path_policy,
    zoo.popgym_policy,
    zoo.craftax_policy,
    zoo.minigrid_memory_policy,
)


@pytest.mark.filterwarnings("ignore:No weights are released")
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_called_bare_it_acts(function):
    policy = function()
    observation = policy.sample_observation(2, seed=0)
    state = policy.initial_state(2)
    for _ in range(2):
        action, state = policy.act(observation, state, seed=0)
    assert all(policy.action_space.contains(a) for a in action)


@pytest.mark.once
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_memory_has_about_as_many_weights(name):
    architecture = ARCHITECTURES[name]
    base = count_parameters(architecture.config())
    for memory in MEMORY_NAMES:
        count = count_parameters(architecture.config(memory))
        assert abs(count / base - 1) < 0.1, memory


@pytest.mark.parametrize("memory", MEMORY_NAMES)
def test_the_count_is_that_of_the_policy(memory):
    policy = zoo.tmaze_policy(10, memory=memory, weights=None)
    expected = count_parameters(architectures.tmaze(10).config(memory))
    assert policy.count_params() == expected


@pytest.mark.parametrize(
    "name", ["mystery_path_continuous", "memory_maze_9x9", "minigrid_memory_11"]
)
def test_the_count_is_that_of_the_policy_with_images(name):
    config = ARCHITECTURES[name].config("memoryless")
    policy = keras_agalite.models.presets.policy_from_config(config)
    assert policy.count_params() == count_parameters(config)


def test_released_weights_are_loaded_and_others_announced_once():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        auto, pretrained = zoo.tmaze_policy(), zoo.tmaze_policy(weights="pretrained")
        fresh = zoo.tmaze_policy(weights=None)
    observation = auto.sample_observation(2, seed=0)
    outputs = [
        policy.step(observation, policy.initial_state(2))[0]
        for policy in (auto, pretrained, fresh)
    ]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert np.abs(outputs[0] - outputs[2]).max() > 1e-3
    with pytest.warns(UserWarning, match="memory_maze_11x11") as warned:
        zoo.memory_maze_policy("11x11", memory="memoryless")
    assert len(warned) == 1
    assert warned[0].filename == __file__


@pytest.mark.once
def test_pretrained_insists():
    with pytest.raises(ValueError, match=r"No weights .* there are .*tmaze_10"):
        zoo.tmaze_policy(corridor_length=77, weights="pretrained")


def test_weights_from_a_folder_and_from_a_file(tmp_path):
    preset = released_folder() / "tmaze_10"
    shutil.copytree(preset, tmp_path / "mine")
    observation = zoo.tmaze_policy().sample_observation(2, seed=0)
    expected = zoo.tmaze_policy().step(observation, zoo.tmaze_policy().initial_state(2))
    for weights in (tmp_path / "mine", str(preset / "model.weights.h5")):
        policy = zoo.tmaze_policy(weights=weights)
        received = policy.step(observation, policy.initial_state(2))
        np.testing.assert_array_equal(received[0], expected[0])
    with pytest.raises(ValueError, match="observation_space"):
        zoo.craftax_policy(weights=preset)
    with pytest.raises(ValueError, match=r"Expected the .* weights"):
        zoo.craftax_policy(weights=preset / "model.weights.h5")


@pytest.mark.once
@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (zoo.tmaze_policy, {"corridor_length": 1}, "corridor_length=1"),
        (zoo.memory_chain_policy, {"memory_length": 0}, "memory_length=0"),
        (zoo.memory_maze_policy, {"size": "10x10"}, "size='10x10'"),
        (zoo.mystery_path_policy, {"variant": "maze"}, "variant='maze'"),
        (zoo.mortar_mayhem_policy, {"variant": "maze"}, "variant='maze'"),
        (zoo.popgym_policy, {"task": "Autoencode"}, "task='Autoencode'"),
        (zoo.craftax_policy, {"variant": "pixels"}, "variant='pixels'"),
        (zoo.minigrid_memory_policy, {"size": 12}, "size=12"),
        (zoo.tmaze_policy, {"memory": "elephant"}, "memory='elephant'"),
        (zoo.tmaze_policy, {"weights": "nowhere"}, "Expected the name of a released"),
    ],
)
def test_what_they_refuse(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(**arguments)


@pytest.mark.once
def test_the_list_holds_released_and_trainable_policies():
    policies = {policy.name: policy for policy in zoo.list_policies()}
    assert len(policies) == len(zoo.list_policies())
    assert set(released_presets()) <= set(policies)
    for name in released_presets():
        evaluation = json.loads(
            (released_folder() / name / "evaluation.json").read_text()
        )
        assert policies[name].score["mean_return"] == evaluation["mean_return"]
    assert policies["tmaze_10"].parameters == zoo.tmaze_policy().count_params()
    unreleased = policies["memory_maze_13x13"]
    assert unreleased.score is None
    assert unreleased.environment == "keras_agalite/MemoryMaze-13x13-v0"
    assert unreleased.memory == "agalite"
