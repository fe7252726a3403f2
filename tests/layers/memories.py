"""The memories that the tests of this folder share, and how to run them."""

import functools

import keras
import numpy as np
import pytest
from keras import tree

from keras_agalite.layers import MEMORIES, AGaLiTeCell, GaLiTeCell, MemoryRNN
from keras_agalite.layers.block_cell import BlockCell
from tests.helpers import compiled, to_numpy
from tests.memories import TINY

BATCH, TIME, FEATURES = 2, 7, 3
# Layers of blocks, their cells and arguments.
BLOCKS = {
    name: (memory, memory.cell_class, TINY[name])
    for name, memory in MEMORIES.items()
    if issubclass(getattr(memory, "cell_class", object), BlockCell)
}
CELLS = {
    "gru": lambda **k: keras.layers.GRUCell(5, **k),
    "lstm": lambda **k: keras.layers.LSTMCell(5, **k),
    "stacked": lambda **k: [
        keras.layers.LSTMCell(4, **k),
        keras.layers.GRUCell(5, **k),
    ],
    "agalite_cell": lambda **k: AGaLiTeCell(
        **{**TINY["agalite"], "num_layers": 1}, **k
    ),
}
# What comes from MemoryRNN or BlockCell alone is tested with these.
FEW_BLOCKS = ("agalite", "gtrxl")
every_memory = pytest.mark.parametrize("name", [*CELLS, *BLOCKS])
every_block_memory = pytest.mark.parametrize("name", BLOCKS)
few_memories = pytest.mark.parametrize("name", ["stacked", "agalite_cell", *FEW_BLOCKS])
few_block_memories = pytest.mark.parametrize("name", FEW_BLOCKS)


def make_memory(name, dtype=None, **kwargs):
    if name in BLOCKS:
        layer, _, arguments = BLOCKS[name]
        memory = layer(**{**arguments, **kwargs}, dtype=dtype)
    else:
        memory = MemoryRNN(CELLS[name](dtype=dtype), dtype=dtype, **kwargs)
    memory.build((BATCH, TIME, FEATURES))
    if isinstance(memory.cell, AGaLiTeCell | GaLiTeCell):
        set_positive_biases(memory.cell)
    return memory


def set_positive_biases(cell):
    """Keeps normalisers away from zero, where gradients are large and inexact."""
    biases = {
        "projection": 1.0,
        "expansion": 1.0,
        "query_projection": 4.0,
        "query_expansion": 4.0,
    }
    for block in cell.blocks:
        for name, value in biases.items():
            if layer := getattr(block, name, None):
                layer.bias.assign(np.full(layer.bias.shape, value))


def random_sequences(time=TIME, features=FEATURES):
    random = np.random.default_rng(0)
    return random.normal(size=(BATCH, time, features)).astype("float32")


def some_state(memory, clock=3):
    """Not negative, since a normaliser never is; the last number may be a clock, or
    how much of a memory is there."""
    random = np.random.default_rng(0)

    def draw(empty):
        state = random.uniform(0.1, 1.0, empty.shape).astype("float32")
        state[:, -1] = clock
        return state

    return tree.map_structure(draw, memory.initial_state(BATCH))


def run(memory, sequences, **kwargs):
    return to_numpy(compiled(functools.partial(memory, **kwargs))(sequences))


def assert_close(received, expected, **kwargs):
    kwargs = {"rtol": 1e-5, "atol": 1e-5, **kwargs}
    tree.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, **kwargs), received, expected
    )
