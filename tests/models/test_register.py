"""Memories, encoders and action heads of one's own, through the public door."""

import json
from typing import Literal

import keras
import numpy as np
import pytest
from gymnasium import spaces

import keras_agalite
from keras_agalite import zoo
from keras_agalite.layers import GRU, MEMORIES, ConfiguredMemory
from keras_agalite.models import Encoder, MemoryPolicy, MLPEncoder, catalog
from keras_agalite.models.action_heads import DiscreteHead
from keras_agalite.presets import Preset
from tests.models.conftest import ACTION_SPACES, VECTOR, make_policy, randomise
from training.learning.policy import make_policy as make_recipe_policy
from training.recipe import load_recipe


@keras.saving.register_keras_serializable(package="tests")
class Echo(ConfiguredMemory):
    """Keras's simplest cell."""

    short_name = "echo"

    def __init__(self, hidden_dim: int = 8, **kwargs):
        super().__init__(keras.layers.SimpleRNNCell(hidden_dim), **kwargs)
        self.cell_config = {"hidden_dim": hidden_dim}

    @classmethod
    def count_weights(cls, features, *, hidden_dim=8, **kwargs):
        return (features + hidden_dim + 1) * hidden_dim

    @classmethod
    def zoo_config(cls, hidden_dim, **sizes):
        return {"hidden_dim": hidden_dim}


@keras.saving.register_keras_serializable(package="tests")
class Scaled(Encoder):
    """The observation times a weight."""

    short_name = "scaled"

    def __init__(
        self, observation_space, begin: Literal["ones", "zeros"] = "ones", **kwargs
    ):
        super().__init__(observation_space, **kwargs)
        self.begin = begin
        self.output_size = self.count_features(self.observation_space, begin)

    @classmethod
    def count_features(cls, observation_space, begin):
        return spaces.flatdim(observation_space)

    @classmethod
    def count_weights(cls, observation_space, begin):
        return 1

    def build(self, observation_shape=None):
        self.factor = self.add_weight(shape=(), initializer=self.begin, name="factor")

    def call(self, observation):
        return self.features(observation) * self.factor

    def get_config(self):
        return {**super().get_config(), "begin": self.begin}


@keras.saving.register_keras_serializable(package="tests")
class Sharpened(DiscreteHead):
    """Categories of a temperature."""

    def __init__(
        self,
        action_space,
        units: int = 8,
        activation: str = "tanh",
        temperature: float = 0.5,
        **kwargs,
    ):
        super().__init__(action_space, units, activation, **kwargs)
        self.temperature = temperature

    @classmethod
    def count_weights(cls, features, action_space, units, activation, temperature):
        return DiscreteHead.count_weights(features, action_space, units, activation)

    def call(self, features):
        return super().call(features) / self.temperature

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}


@pytest.fixture
def registered():
    """Registers the three, and forgets them afterwards."""
    before = dict(MEMORIES), dict(catalog.ENCODERS), list(catalog.ACTION_HEADS)
    for cls in (Echo, Scaled, Sharpened):
        assert keras_agalite.register(cls) is cls
        assert keras_agalite.register(cls) is cls  # a module may be read again
    yield
    for table, old in zip((MEMORIES, catalog.ENCODERS), before, strict=False):
        table.clear()
        table.update(old)
    catalog.ACTION_HEADS[:] = before[2]


def make_own():
    policy = MemoryPolicy(
        Scaled(VECTOR),
        Echo(4),
        ACTION_SPACES["discrete"],
        head_units=8,
        actor=Sharpened(ACTION_SPACES["discrete"], temperature=0.25),
    )
    randomise(policy)
    return policy


@pytest.mark.usefixtures("registered")
def test_parts_of_ones_own_survive(tmp_path):
    policy = make_own()

    policy.save_to_preset(tmp_path)
    copy = MemoryPolicy.from_preset(tmp_path)

    for part, cls in (("encoder", Scaled), ("memory", Echo), ("actor", Sharpened)):
        assert type(getattr(copy, part)) is cls
    assert copy.actor.temperature == 0.25
    observation = policy.sample_observation(2, seed=0)
    for received, expected in zip(
        copy.step(observation)[:2], policy.step(observation)[:2], strict=True
    ):
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["memory"]["class"] == "tests>Echo"


@pytest.mark.once
@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, r"all arguments of Echo .* none of \['hidden_dim'\]"),
        ({"hidden_dim": np.int64(4)}, "that JSON can hold. Received: .*int64"),
    ],
    ids=["missing", "no JSON"],
)
def test_a_part_whose_config_no_preset_can_hold_is_refused(
    monkeypatch, config, message
):
    policy = MemoryPolicy(MLPEncoder(VECTOR), Echo(4), ACTION_SPACES["discrete"])
    monkeypatch.setattr(Echo, "get_config", lambda self: config)

    with pytest.raises(ValueError, match=message):
        Preset.of(policy)


@pytest.mark.usefixtures("registered")
def test_an_argument_of_ones_own_is_checked(tmp_path):
    make_own().save_to_preset(tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    config["encoder"]["config"]["begin"] = "antigravity.fly"
    file.write_text(json.dumps(config))

    with pytest.raises(ValueError, match=r"one of 'ones', 'zeros'.*begin="):
        MemoryPolicy.from_preset(tmp_path)


@pytest.mark.usefixtures("registered")
def test_a_memory_of_ones_own_is_in_every_list(tmp_path):
    policy = zoo.tmaze_policy(10, memory="echo", weights=None)
    assert type(policy.memory) is Echo
    agalite = zoo.find_spec("tmaze_10").preset()
    assert abs(policy.count_params() / agalite.num_weights - 1) < 0.1

    recipe = tmp_path / "own.toml"
    recipe.write_text('policy = "tmaze_10"\nmemory = "echo"\ntotal_steps = 1\n')
    trained = load_recipe(recipe)
    assert trained.memory_arguments == policy.memory.cell_config
    own = make_recipe_policy(trained, policy.observation_space, policy.action_space)
    assert type(own.memory) is Echo

    from benchmarks.recall import Learner

    assert any(type(layer) is Echo for layer in Learner("echo").model.layers)


@pytest.mark.usefixtures("registered")
def test_an_unregistered_part_in_a_file_is_refused(tmp_path):
    make_own().save_to_preset(tmp_path)
    del MEMORIES["echo"]

    with pytest.raises(ValueError, match=r"keras_agalite\.register.*tests>Echo"):
        MemoryPolicy.from_preset(tmp_path)


def test_an_unregistered_part_is_not_saved(tmp_path):
    own = make_own()
    plain = make_policy("gru")
    policies = {
        "Scaled": MemoryPolicy(Scaled(VECTOR), GRU(4), ACTION_SPACES["discrete"]),
        "Echo": MemoryPolicy(MLPEncoder(VECTOR), Echo(4), ACTION_SPACES["discrete"]),
        "Sharpened": MemoryPolicy(
            plain.encoder, plain.memory, own.action_space, actor=own.actor
        ),
    }
    for name, policy in policies.items():
        message = rf"keras_agalite\.register\. Received: {name}"
        with pytest.raises(ValueError, match=message):
            policy.save_to_preset(tmp_path / "preset")
    assert not (tmp_path / "preset").exists()


def test_a_class_that_keras_does_not_know_is_refused():
    class Unknown(Echo):
        short_name = "unknown"

    with pytest.raises(ValueError, match="register_keras_serializable"):
        keras_agalite.register(Unknown)


def test_what_else_is_refused():
    @keras.saving.register_keras_serializable(package="tests")
    class Taken(GRU):
        pass

    @keras.saving.register_keras_serializable(package="tests")
    class Nameless(MLPEncoder):
        pass

    @keras.saving.register_keras_serializable(package="tests")
    class Shouting(MLPEncoder):
        short_name = "My Encoder"

    @keras.saving.register_keras_serializable(package="tests")
    class Anonymous(Encoder):
        pass

    @keras.saving.register_keras_serializable(package="tests")
    class Untyped(Scaled):
        short_name = "untyped"

        def __init__(self, observation_space, begin="ones", **kwargs):
            super().__init__(observation_space, begin, **kwargs)

    @keras.saving.register_keras_serializable(package="tests")
    class Abstract(Encoder):
        short_name = "abstract"

    for cls, message in (
        (Taken, "Received: Taken"),
        (Nameless, r"short_name='mlp', where 'mlp' is"),
        (Shouting, r"lower-case.*Received: Shouting\.short_name='My Encoder'"),
        (Anonymous, "Expected an encoder with a `short_name`. Received: Anonymous"),
        (Untyped, "Untyped: Expected .* Received: begin: None"),
        (Abstract, "defines `count_features`, `count_weights`"),
        (keras.layers.Dense, "a subclass of MemoryRNN, Encoder or ActionHead"),
        (Echo(4), "a subclass of MemoryRNN, Encoder or ActionHead"),
    ):
        with pytest.raises(ValueError, match=message):
            keras_agalite.register(cls)


def test_an_actor_for_another_space_is_refused():
    actor = DiscreteHead(spaces.Discrete(4))
    for wrong in (actor, "actor"):
        with pytest.raises(ValueError, match=r"`actor` must .* Received: actor="):
            MemoryPolicy(
                MLPEncoder(VECTOR), GRU(4), ACTION_SPACES["discrete"], actor=wrong
            )


def test_a_policy_with_an_actor_of_its_own_survives_keras(tmp_path):
    policy = make_own()
    policy.save(tmp_path / "policy.keras")

    copy = keras.saving.load_model(tmp_path / "policy.keras")

    assert type(copy.actor) is Sharpened
    observation = policy.sample_observation(2, seed=0)
    np.testing.assert_allclose(
        copy.step(observation)[0], policy.step(observation)[0], rtol=1e-5, atol=1e-6
    )
