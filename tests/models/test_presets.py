import json
import random
import shutil
import sys

import h5py
import keras
import numpy as np
import pytest
from gymnasium import spaces
from keras import tree

from keras_agalite.layers import AGaLiTe, GTrXL, StableHadamardMemory
from keras_agalite.models import (
    ConvEncoder,
    GridEncoder,
    MemoryPolicy,
    MLPEncoder,
    ResNetEncoder,
)
from keras_agalite.presets import preset as preset_module
from keras_agalite.presets import released_presets
from tests.helpers import compiled, to_numpy
from tests.models.conftest import (
    ACTION_SPACES,
    MEMORIES,
    NESTED,
    VECTOR,
    every_action_space,
    make_policy,
    randomise,
)
from tests.models.make_preset_small import FOLDER, RECORD

LARGE = spaces.Dict({"image": spaces.Box(0, 255, (36, 36, 1), np.uint8), "a": VECTOR})


def assert_close(received, expected):
    pairs = zip(tree.flatten(received), tree.flatten(expected), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(to_numpy(a), to_numpy(b), 1e-5, 1e-5)


def assert_same_policy(copy, policy):
    observation, state = policy.sample_observation(2, seed=0), policy.initial_state(2)
    assert copy.observation_space == policy.observation_space
    assert copy.action_space == policy.action_space
    assert_close(copy.step(observation, state), policy.step(observation, state))


@pytest.mark.once
@pytest.mark.parametrize("restarts", [False, True])
def test_an_argument_that_came_later_is_written_where_it_is_set(restarts, tmp_path):
    memory = AGaLiTe(1, hidden_dim=8, r=7, restart_clock=restarts)
    policy = MemoryPolicy(MLPEncoder(VECTOR), memory, spaces.Discrete(2), 8)

    policy.save_to_preset(tmp_path)

    config = json.loads((tmp_path / "config.json").read_text())
    assert config["memory"]["config"].get("restart_clock") == (restarts or None)
    copy = MemoryPolicy.from_preset(tmp_path)
    assert copy.memory.cell_config == memory.cell_config
    config["memory"]["config"]["restart_clock"] = 1
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"restart_clock"):
        MemoryPolicy.from_preset(tmp_path)


@pytest.mark.parametrize("memory", [name for name in MEMORIES if name != "stacked"])
def test_every_memory_survives(memory, tmp_path):
    policy = make_policy(memory, units=(4,), activation="relu")
    randomise(policy)

    policy.save_to_preset(tmp_path / "a" / "preset")
    copy = MemoryPolicy.from_preset(tmp_path / "a" / "preset")
    copy.save_to_preset(tmp_path / "b")

    configs = [tmp_path / name / "config.json" for name in ("a/preset", "b")]
    assert configs[0].read_text() == configs[1].read_text()
    for a, b in zip(copy.get_weights(), policy.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("encoder", "space", "arguments"),
    [
        (MLPEncoder, NESTED, {"units": (4, 3), "activation": "elu"}),
        (GridEncoder, NESTED, {"categories": (5, 3, 2), "units": 4}),
        (ConvEncoder, LARGE, {"units": 4}),
        (ResNetEncoder, NESTED, {"units": 4, "filters": (2, 3)}),
    ],
    ids=["mlp", "grid", "conv", "resnet"],
)
def test_every_encoder_survives(encoder, space, arguments, tmp_path):
    policy = make_policy("memoryless", space, encoder=encoder, **arguments)
    randomise(policy, scale=0.1)

    policy.save_to_preset(str(tmp_path))
    copy = MemoryPolicy.from_preset(str(tmp_path))

    assert type(copy.encoder) is encoder
    assert_same_policy(copy, policy)


@every_action_space
def test_every_action_space_survives(action_space, tmp_path):
    policy = make_policy("memoryless", action_space=action_space)
    randomise(policy)

    policy.save_to_preset(tmp_path)

    assert_same_policy(MemoryPolicy.from_preset(tmp_path), policy)


def test_the_dtype_of_each_part_survives(tmp_path):
    policy = MemoryPolicy(
        MLPEncoder(VECTOR, units=(4,), dtype="float32"),
        MEMORIES["gru"](dtype="mixed_bfloat16"),
        ACTION_SPACES["discrete"],
        head_units=8,
    )

    policy.save_to_preset(tmp_path)
    copy = MemoryPolicy.from_preset(tmp_path)

    for part in ("encoder", "memory", "actor"):
        received, expected = getattr(copy, part), getattr(policy, part)
        assert received.dtype_policy.name == expected.dtype_policy.name
    assert_same_policy(copy, policy)


def test_a_seed_is_no_size(tmp_path):
    policy = MemoryPolicy(
        MLPEncoder(VECTOR, units=(4,)),
        StableHadamardMemory(hidden_dim=6, matrix_dim=3, seed=2**40),
        ACTION_SPACES["discrete"],
        head_units=8,
    )

    policy.save_to_preset(tmp_path)

    assert_same_policy(MemoryPolicy.from_preset(tmp_path), policy)


def test_a_preset_is_two_files_of_data(tmp_path):
    make_policy("memoryless").save_to_preset(tmp_path)

    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"config.json", "model.weights.h5"}
    assert json.loads((tmp_path / "config.json").read_text())["format"] == 1


def test_saving_again_replaces_the_preset(tmp_path):
    make_policy("gru").save_to_preset(tmp_path)
    policy = make_policy("memoryless")
    randomise(policy)

    policy.save_to_preset(tmp_path)

    assert_same_policy(MemoryPolicy.from_preset(tmp_path), policy)


def test_one_weights_file_gives_the_same_outputs_on_every_backend():
    policy = MemoryPolicy.from_preset(FOLDER)
    with np.load(RECORD) as record:
        record = dict(record)
    observations = {
        "view": {"image": record["image"], "compass": record["compass"]},
        "previous_action": record["previous_action"],
        "previous_reward": record["previous_reward"],
    }
    expected_state = [record["state_0"], record["state_1"]]

    out, state = compiled(policy)(
        observations, policy.initial_state(2), record["start"]
    )

    assert_close([*out], [record["logits"], record["value"]])
    assert_close(state, expected_state)
    state, noise = policy.initial_state(2), np.random.default_rng(0)
    for t in range(record["start"].shape[1]):
        observation = tree.map_structure(lambda x, t=t: x[:, t], observations)
        action, state = policy.act(
            observation, state, record["start"][:, t], seed=noise
        )
        np.testing.assert_array_equal(action, record["actions"][:, t])
    assert_close(state, expected_state)


@pytest.mark.once
def test_the_recorded_preset_is_small():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 200_000


def test_a_name_finds_a_released_policy(tmp_path, monkeypatch):
    monkeypatch.setattr(preset_module, "released_folder", lambda: tmp_path)
    policy = make_policy("memoryless")
    randomise(policy)
    for name in ("b_policy", "a_policy"):
        policy.save_to_preset(tmp_path / name)

    assert_same_policy(MemoryPolicy.from_preset("a_policy"), policy)
    with pytest.raises(ValueError, match="a_policy, b_policy"):
        MemoryPolicy.from_preset("c_policy")


@pytest.mark.once
@pytest.mark.parametrize("preset", ["unknown", "../unknown", ""])
def test_an_unknown_name_is_refused(preset):
    message = (
        r"name of a released policy .* a folder with config.json and "
        rf"model.weights.h5.* Received: preset='{preset}'"
    )
    with pytest.raises(ValueError, match=message):
        MemoryPolicy.from_preset(preset)


@pytest.fixture
def preset(tmp_path):
    shutil.copytree(FOLDER, tmp_path / "preset")
    return tmp_path / "preset"


@pytest.mark.once
@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
def test_a_missing_file_is_refused(preset, name):
    (preset / name).unlink()

    with pytest.raises(ValueError, match=f"in which {name} cannot be found"):
        MemoryPolicy.from_preset(preset)


@pytest.mark.once
@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe\x00", b'{"format": 1,}'], ids=str
)
def test_a_config_that_is_not_json_is_refused(preset, content):
    (preset / "config.json").write_bytes(content)

    with pytest.raises(ValueError, match="Expected JSON in"):
        MemoryPolicy.from_preset(preset)


@pytest.mark.once
@pytest.mark.parametrize("content", ["[]", "null", "3", '"text"', "{}"])
def test_a_config_of_another_shape_is_refused(preset, content):
    (preset / "config.json").write_text(content)

    with pytest.raises(ValueError, match=r"a preset of format 1.*Received"):
        MemoryPolicy.from_preset(preset)


FUNCTION = {"class_name": "function", "module": "antigravity", "config": "fly"}
CLASS = {"class_name": "Plane", "module": "antigravity", "config": {}}


@pytest.mark.once
@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("format", 2),
        ("format", None),
        ("encoder", None),
        ("encoder", []),
        ("encoder/class", "TextEncoder"),
        ("encoder/class", "Encoder"),
        ("encoder/class", "antigravity.Plane"),
        ("encoder/class", ["ResNetEncoder"]),
        ("encoder/class", CLASS),
        ("encoder/class", None),
        ("encoder/dtype", "float12"),
        ("encoder/dtype", None),
        ("encoder/dtype", CLASS),
        ("encoder/config", None),
        ("encoder/config", []),
        ("encoder/config/surplus", 1),
        ("encoder/config/units", "many"),
        ("encoder/config/units", -1),
        ("encoder/config/filters", 3),
        ("encoder/config/filters", ["many"]),
        ("encoder/config/observation_space", None),
        ("encoder/config/observation_space", {"type": "Text"}),
        ("encoder/config/observation_space", CLASS),
        ("memory/class", "MemoryRNN"),
        ("memory/class", "antigravity>Plane"),
        ("memory/config/surplus", 1),
        ("memory/config/num_layers", "2"),
        ("memory/config/num_layers", 0),
        ("memory/dtype", ["float32"]),
        ("action_space", None),
        ("action_space", {"type": "Discrete"}),
        ("action_space", {"type": "MultiBinary", "n": 3}),
        ("head_units", 0),
        ("head_units", "8"),
        ("head_units", None),
        ("head_activation", "nonsense"),
        ("head_activation", "antigravity.fly"),
        ("head_activation", FUNCTION),
        ("head_activation", None),
    ],
)
def test_a_malformed_config_is_refused(preset, path, value):
    config = json.loads((preset / "config.json").read_text())
    *parents, name = path.split("/")
    part = config
    for parent in parents:
        part = part[parent]
    part[name] = value
    (preset / "config.json").write_text(json.dumps(config))

    with pytest.raises(ValueError, match=r"Received|Could not interpret"):
        MemoryPolicy.from_preset(preset)
    assert "antigravity" not in sys.modules


@pytest.mark.once
@pytest.mark.parametrize("part", ["encoder", "memory"])
def test_a_missing_argument_is_refused(preset, part):
    config = json.loads((preset / "config.json").read_text())
    config[part]["config"].popitem()
    (preset / "config.json").write_text(json.dumps(config))

    with pytest.raises(ValueError, match="Expected the arguments"):
        MemoryPolicy.from_preset(preset)


@pytest.mark.once
@pytest.mark.parametrize("activation", [FUNCTION, CLASS, 3, None], ids=str)
def test_no_activation_is_looked_up_in_a_module(activation, tmp_path):
    make_policy("memoryless", units=(4,)).save_to_preset(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["encoder"]["config"]["activation"] = activation
    (tmp_path / "config.json").write_text(json.dumps(config))

    with pytest.raises(ValueError, match=r"Received: .*activation"):
        MemoryPolicy.from_preset(tmp_path)
    assert "antigravity" not in sys.modules


@pytest.mark.once
@pytest.mark.parametrize("change", ["shape", "fewer", "empty", "truncated", "garbage"])
def test_weights_that_do_not_fit_are_refused(preset, change):
    path = preset / "model.weights.h5"
    content = path.read_bytes()
    match change:
        case "shape":
            config = json.loads((preset / "config.json").read_text())
            config["head_units"] += 1
            (preset / "config.json").write_text(json.dumps(config))
        case "fewer":
            with h5py.File(path, "a") as file:
                del file["encoder"]
        case "empty":
            h5py.File(path, "w").close()
        case "truncated":
            path.write_bytes(content[: len(content) // 2])
        case "garbage":
            path.write_bytes(b"garbage" * 100)

    with pytest.raises(ValueError, match=r"Received|expected|Expected"):
        MemoryPolicy.from_preset(preset)


def test_a_policy_with_parts_of_other_kinds_is_not_saved(tmp_path):
    class OtherEncoder(MLPEncoder):
        pass

    memory = make_policy("stacked")
    encoder = make_policy("memoryless", encoder=OtherEncoder)

    for policy, name in ((memory, "MemoryRNN"), (encoder, "OtherEncoder")):
        with pytest.raises(ValueError, match=f"Received: {name}"):
            policy.save_to_preset(tmp_path / "preset")
    assert not (tmp_path / "preset").exists()


class OwnPolicy(MemoryPolicy):
    """A policy of a user."""


def test_a_policy_is_of_the_class_that_loads_it():
    assert type(OwnPolicy.from_preset(FOLDER)) is OwnPolicy
    assert type(MemoryPolicy.from_preset(FOLDER)) is MemoryPolicy


def test_weights_can_be_left_out():
    keras.utils.set_random_seed(0)
    fresh = MemoryPolicy.from_preset(FOLDER, load_weights=False)
    loaded = MemoryPolicy.from_preset(FOLDER)

    assert [w.shape for w in fresh.weights] == [w.shape for w in loaded.weights]
    kernels = [(to_numpy(p.actor.hidden.kernel.value)) for p in (fresh, loaded)]
    assert np.abs(kernels[0]).max() > 0.0
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-3


def test_loading_draws_no_random_numbers():
    random.seed(0)
    before = random.getstate()
    MemoryPolicy.from_preset(FOLDER)
    assert random.getstate() == before


def test_another_dtype_replaces_that_of_every_part():
    policy = MemoryPolicy.from_preset(FOLDER, dtype="mixed_bfloat16")

    for part in (policy.encoder, policy.memory, policy.actor, policy.critic_hidden):
        assert part.dtype_policy.name == "mixed_bfloat16"
    expected = MemoryPolicy.from_preset(FOLDER)
    observation = expected.sample_observation(2, seed=0)
    received = policy.step(observation)[0]
    np.testing.assert_allclose(received, expected.step(observation)[0], atol=0.2)
    with pytest.raises(ValueError, match="Received: dtype='float12'"):
        MemoryPolicy.from_preset(FOLDER, dtype="float12")


def test_presets_lists_the_released_policies():
    assert MemoryPolicy.presets == released_presets()
    assert "tmaze_10" in OwnPolicy.presets


@pytest.mark.once
def test_a_policy_with_too_large_a_state_is_not_saved(tmp_path):
    memory = GTrXL(1, hidden_dim=32, num_heads=1, head_dim=1, memory_length=2**20)
    policy = MemoryPolicy(MLPEncoder(VECTOR), memory, spaces.Discrete(2), head_units=2)

    with pytest.raises(ValueError, match=r"at most 16,777,216 .* Received: 33,5"):
        policy.save_to_preset(tmp_path / "preset")
    assert not (tmp_path / "preset").exists()
