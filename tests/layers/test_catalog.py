"""What every memory of the catalog says of itself, and how one joins it."""

import keras
import pytest

import keras_agalite
from keras_agalite.layers import (
    MEMORIES,
    AGaLiTe,
    ConfiguredMemory,
    MemoryRNN,
    catalog,
    memory_class,
    register_memory,
)
from keras_agalite.layers.initializers import without_draws
from tests.memories import TINY, tiny

pytestmark = pytest.mark.once

every_memory = pytest.mark.parametrize("name", MEMORIES)
ZOO = {"num_layers": 2, "num_heads": 2, "head_dim": 4, "eta": 3}


def test_every_memory_has_a_test_case():
    assert list(TINY) == list(MEMORIES)


@every_memory
def test_short_names_and_exports_follow_from_the_catalog(name):
    memory = MEMORIES[name]

    assert memory_class(name) is memory
    assert memory.short_name == name
    assert getattr(keras_agalite, memory.__name__) is memory


@every_memory
@pytest.mark.parametrize("num_layers", [1, 3])
def test_the_weights_that_are_counted_are_those_that_are_built(name, num_layers):
    memory = tiny(name, num_layers=num_layers)
    with without_draws():
        memory.build((None, None, 5))

    count = MEMORIES[name].count_weights(5, **memory.cell_config)

    assert count == memory.count_params()
    assert count == memory.count_weights(5, **memory.get_config())


@every_memory
def test_arguments_of_the_zoo_are_complete_and_grow(name):
    memory = MEMORIES[name]
    widths = [8, 16, 24, 128, 1024]

    configs = [memory.zoo_config(width, **ZOO) for width in widths]

    counts = [memory.count_weights(3, **config) for config in configs]
    assert counts == sorted(set(counts))
    assert [config["hidden_dim"] for config in configs] == widths
    built = memory(**configs[0])
    assert built.cell_config == configs[0] | memory.added_arguments
    assert built.compute_output_shape((2, 3, 5))[-1] == 8


@every_memory
def test_defaults_are_counted(name):
    memory = MEMORIES[name]

    assert memory.count_weights(3) == memory.count_weights(3, **memory().cell_config)


@keras.saving.register_keras_serializable(package="tests")
class Plain(ConfiguredMemory):
    """A toy: one Keras cell."""

    short_name = "plain"

    def __init__(self, hidden_dim=4, **kwargs):
        super().__init__(keras.layers.SimpleRNNCell(hidden_dim), **kwargs)
        self.cell_config = {"hidden_dim": hidden_dim}

    @classmethod
    def count_weights(cls, features, *, hidden_dim=4, **kwargs):
        return hidden_dim * (features + hidden_dim + 1)

    @classmethod
    def zoo_config(cls, hidden_dim, **sizes):
        return {"hidden_dim": hidden_dim}


@pytest.fixture
def memories(monkeypatch):
    monkeypatch.setattr(catalog, "MEMORIES", dict(MEMORIES))
    return catalog.MEMORIES


def test_a_memory_of_ones_own_can_join(memories):
    assert register_memory(Plain) is Plain
    assert register_memory(Plain) is Plain
    assert memory_class("plain") is Plain
    assert list(memories)[-1] == "plain"
    memory = Plain.from_config(Plain(6, return_state=True).get_config())
    memory.build((None, None, 5))
    assert memory.count_params() == Plain.count_weights(5, **memory.cell_config)


@pytest.mark.parametrize(
    ("attributes", "bases", "message"),
    [
        ({}, (), r"subclass of MemoryRNN\. Received: cls="),
        ({}, (MemoryRNN,), "Toy without short_name and count_weights and zoo_config"),
        ({"short_name": "toy"}, (ConfiguredMemory,), "count_weights and zoo_config"),
        ({"short_name": "My Toy"}, (Plain,), r"Toy.short_name='My Toy'"),
        ({"short_name": "gru"}, (Plain,), r"Toy.short_name='gru', where 'gru' is"),
        ({"short_name": "toy", "__name__": "LSTM"}, (Plain,), "where 'lstm' is"),
    ],
)
def test_what_cannot_join(memories, attributes, bases, message):
    attributes = dict(attributes)
    cls = type(attributes.pop("__name__", "Toy"), bases, attributes)

    with pytest.raises(ValueError, match=message):
        register_memory(cls)
    assert list(memories) == list(MEMORIES)


def test_an_unknown_memory_is_refused():
    with pytest.raises(ValueError, match=r"agalite, galite, .* Received: memory='gr'"):
        memory_class("gr")


def test_a_memory_with_other_blocks_keeps_the_arguments():
    class Cell(AGaLiTe.cell_class):
        pass

    class Memory(AGaLiTe):
        cell_class = Cell

    memory = Memory(1, hidden_dim=8)

    assert type(memory.cell) is Cell
    assert memory.cell_config == {**AGaLiTe(1).cell_config, "hidden_dim": 8}
