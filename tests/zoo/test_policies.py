"""The zoo's factory functions, without any environment's package."""

import json
import shutil
import warnings

import numpy as np
import pytest
from gymnasium import spaces

import keras_agalite
from keras_agalite import RATE, environments, zoo
from keras_agalite.environments.registry import resolve
from keras_agalite.layers.catalog import MEMORIES
from keras_agalite.presets import preset as preset_module
from keras_agalite.presets import released_folder, released_presets
from keras_agalite.zoo import specs

# Golden actions hold those of the released ones, on every backend.
FUNCTIONS = (
    *(
        pytest.param(function, marks=pytest.mark.once)
        for function in (
            zoo.tmaze_policy,
            zoo.memory_chain_policy,
            zoo.memory_maze_policy,
            zoo.minigrid_memory_policy,
        )
    ),
    zoo.mystery_path_policy,
    zoo.popgym_policy,
    zoo.craftax_policy,
    zoo.mujoco_positions_policy,
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
@pytest.mark.parametrize("memory", MEMORIES)
def test_every_memory_has_about_as_many_weights(memory):
    for spec in (*specs.known_specs().values(), specs.find_spec("tmaze_300")):
        number = spec.preset().num_weights
        ratio = spec.preset(memory).num_weights / number
        # A step of 8 in the width is a long one where policies are small.
        assert abs(ratio - 1) < (0.1 if number > 60_000 else 0.13), spec.name


@pytest.mark.once
@pytest.mark.parametrize("memory", MEMORIES)
def test_no_other_width_comes_nearer(memory):
    spec = specs.find_spec("minigrid_memory_11")
    base = spec.preset().num_weights
    widths = range(8, 1024, 8)
    counts = [spec._preset(memory, width).num_weights for width in widths]
    assert counts == sorted(set(counts))  # bisection needs it
    nearest = min(counts, key=lambda count: abs(count - base))
    assert spec.preset(memory).num_weights == nearest


@pytest.mark.parametrize("memory", MEMORIES)
def test_the_count_is_that_of_the_policy(memory):
    policy = zoo.tmaze_policy(10, memory=memory, weights=None)
    expected = specs.find_spec("tmaze_10").preset(memory).num_weights
    assert policy.count_params() == expected


@pytest.mark.parametrize(
    "name",
    [
        "mystery_path",
        "memory_maze_9x9",
        "minigrid_memory_11",
        "mujoco_positions_hopper",
    ],
)
def test_the_count_is_that_of_other_policies(name):
    preset = specs.find_spec(name).preset("memoryless")
    assert preset.policy(load_weights=False).count_params() == preset.num_weights


def test_a_spec_is_found_by_its_name():
    for name in (*specs.known_specs(), "tmaze_2", "tmaze_1000", "memory_chain_7"):
        assert specs.find_spec(name).name == name


@pytest.mark.parametrize(
    "name", ["tmaze_1", "tmaze_010", "tmaze_", "memory_chain_0", "fast_memory_maze_9x9"]
)
def test_the_error_lists_the_names_of_specs(name):
    forms = r"tmaze_<corridor length>, .*popgym_<task>, memory_maze_9x9, .*mystery_path"
    with pytest.raises(ValueError, match=rf"{forms}.* Received: name='{name}'"):
        specs.find_spec(name)


def test_a_spec_for_other_spaces():
    spec = specs.find_spec("tmaze_10").with_spaces(
        spaces.Box(0.0, 1.0, (3,), np.float32), spaces.Discrete(2)
    )
    assert spec.config()["action_space"]["n"] == 2
    assert spec.config()["encoder"]["config"]["observation_space"]["shape"] == [3]


def test_released_weights_are_loaded_and_others_announced_once():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        auto, pretrained = zoo.tmaze_policy(), zoo.tmaze_policy(weights="pretrained")
        fresh = zoo.tmaze_policy(weights=None)
    weights = [policy.get_weights() for policy in (auto, pretrained, fresh)]
    for a, b in zip(weights[0], weights[1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(weights[0], weights[2], strict=True))
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
    expected = zoo.tmaze_policy().get_weights()
    for weights in (tmp_path / "mine", str(preset / "model.weights.h5")):
        policy = zoo.tmaze_policy(weights=weights)
        for a, b in zip(policy.get_weights(), expected, strict=True):
            np.testing.assert_array_equal(a, b)
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
        (zoo.mujoco_positions_policy, {"name": "Hopper"}, "name='Hopper'"),
        (zoo.offline_policy, {"name": "tmaze_10"}, "name='tmaze_10'"),
        (zoo.offline_policy, {"weights": "nowhere"}, "weights='nowhere'"),
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
    assert {*released_presets(), *specs.known_specs()} == set(policies)
    for name in released_presets():
        assert policies[name].score
    tmaze = policies["tmaze_10"]
    assert tmaze.score == {"success_rate": 1.0, "mean_return": pytest.approx(3.1)}
    assert tmaze.num_weights == zoo.tmaze_policy(10).count_params()
    unreleased = policies["memory_maze_13x13"]
    assert unreleased.score is None
    assert unreleased.memory == "agalite"
    assert not unreleased.previous_action_reward


def test_a_policy_that_learnt_from_recordings():
    policy = zoo.offline_policy()
    assert isinstance(policy, RATE)
    info = next(p for p in zoo.list_policies() if p.name == "passive_tmaze_28_rate")
    assert info.memory == "rate"
    assert info.environment == "passive_tmaze_28"
    assert info.previous_action_reward
    assert info.num_weights == policy.count_params()
    fresh = zoo.offline_policy(weights=None)
    assert np.any(fresh.get_weights()[0] != policy.get_weights()[0])


@pytest.mark.once
def test_the_released_weights_fit_into_the_wheel():
    files = released_folder().glob("*/model.weights.h5")
    assert sum(file.stat().st_size for file in files) <= 45e6


def test_the_list_names_environments_with_their_arguments():
    policies = {policy.name: policy for policy in zoo.list_policies()}
    chain, maze = policies["memory_chain_100"], policies["tmaze_10"]
    assert chain.environment_arguments == {"memory_length": 100}
    assert maze.environment_arguments == {"corridor_length": 10, "num_distractors": 6}
    environments.make(maze.environment, **maze.environment_arguments)
    for info in policies.values():
        resolve(info.environment)  # raises if there is none


def test_a_score_is_that_of_the_environment_that_is_named():
    policies = {policy.name: policy for policy in zoo.list_policies()}
    maze = policies["memory_maze_9x9"]
    real = released_folder() / "memory_maze_9x9" / "evaluation_real.json"
    assert maze.environment == "memory_maze_9x9"
    assert maze.score == {"mean_return": json.loads(real.read_text())["mean_return"]}


def test_the_list_names_memories_by_their_short_names(tmp_path, monkeypatch):
    monkeypatch.setattr(preset_module, "released_folder", lambda: tmp_path)
    policy = zoo.tmaze_policy(10, memory="shm", weights=None)
    policy.save_to_preset(tmp_path / "tmaze_10_shm")
    info = zoo.list_policies()[0]
    assert (info.name, info.memory, info.score) == ("tmaze_10_shm", "shm", None)
    assert zoo.tmaze_policy(10, memory=info.memory, weights="pretrained")


def test_weights_for_other_spaces_are_refused(tmp_path):
    space = specs.find_spec("tmaze_10").observation_space
    other = keras_agalite.MemoryPolicy(
        keras_agalite.MLPEncoder(space),
        keras_agalite.GRU(hidden_dim=4),
        spaces.Discrete(3),
    )
    other.save_to_preset(tmp_path / "other")
    with pytest.raises(
        ValueError, match=r"action_space Discrete\(4\)\. .*Discrete\(3\)"
    ):
        zoo.tmaze_policy(10, weights=tmp_path / "other")
