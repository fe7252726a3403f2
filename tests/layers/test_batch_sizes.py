"""Batch sizes that differ are refused, not broadcast."""

import keras
import numpy as np
import pytest
from keras import tree

from keras_agalite import layers
from tests.layers.memories import (
    FEATURES,
    every_block_memory,
    every_memory,
    make_memory,
    random_sequences,
)


@every_memory
def test_a_state_of_another_batch_size_is_refused(name):
    memory = make_memory(name)
    for time in (1, 3):
        x = random_sequences(time)
        with pytest.raises(
            ValueError, match=r"`sequences` and `initial_state`.*2 in seq.*, of 1 in"
        ):
            memory(x, initial_state=memory.initial_state(1))
        with pytest.raises(ValueError, match="1 in sequences, of 2 in initial_state"):
            memory(x[:1], initial_state=memory.initial_state(2))


@pytest.mark.parametrize("name", ["gru", "stacked", "agalite", "shm"])
@pytest.mark.parametrize("flag", ["start", "mask"])
def test_flags_of_another_shape_are_refused(name, flag):
    memory, told = make_memory(name), rf"`{flag}` must .*\(2, 3\).*{flag}.shape="
    for shape in ((1, 3), (2, 1), (3, 2), (2,), (2, 3, 1)):
        with pytest.raises(ValueError, match=told):
            memory(random_sequences(3), **{flag: np.zeros(shape, bool)})


@pytest.mark.parametrize("name", ["gru", "stacked", "agalite", "gtrxl"])
def test_a_stateful_memory_keeps_its_batch_size(name):
    memory = make_memory(name, stateful=True)
    memory(random_sequences(3))
    with pytest.raises(ValueError, match=r"stateful.*1 in sequences, of 2 in kept"):
        memory(random_sequences(3)[:1])


def test_a_stateful_memory_keeps_its_batch_size_in_a_model():
    inputs = keras.Input(batch_shape=(4, 5, 3))
    model = keras.Model(inputs, layers.GRU(8, stateful=True)(inputs))
    model(np.ones((4, 5, 3), "float32"))
    with pytest.raises(ValueError, match=r"stateful|incompatible"):
        model(np.ones((1, 5, 3), "float32"))


@every_block_memory
def test_a_cell_refuses_a_state_of_another_batch_size(name):
    memory = make_memory(name)
    states = tree.map_structure(np.asarray, memory.cell.get_initial_state(1))
    with pytest.raises(ValueError, match="2 in inputs, of 1 in states"):
        memory.cell(np.zeros((2, FEATURES), "float32"), states)
