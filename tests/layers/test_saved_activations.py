"""Memories that keep what their backward pass reads in 8 bits."""

import itertools

import keras
import numpy as np
import pytest
from gymnasium import spaces

from keras_agalite.layers import GRU, GTrXL, MemoryRNN
from keras_agalite.models import MemoryPolicy, MLPEncoder
from keras_agalite.presets import Preset
from tests.helpers import gradients, random_starts
from tests.layers.memories import (
    BATCH,
    TIME,
    make_memory,
    random_sequences,
    run,
    some_state,
)
from tests.memories import tiny

STARTS = random_starts(BATCH, TIME)
# Of the gradients of narrow layers, by norm.
GRADIENT_ERROR = 0.03


def pair(name, **kwargs):
    """A memory without and with 8 bits, of the same weights."""
    plain = make_memory(name, return_state=True, **kwargs)
    memory = make_memory(name, return_state=True, saved_activations="int8", **kwargs)
    memory.set_weights(plain.get_weights())
    return plain, memory


def error(received, expected):
    received, expected = (
        np.concatenate([np.ravel(x) for x in keras.tree.flatten(structure)])
        for structure in (received, expected)
    )
    return np.linalg.norm(received - expected) / np.linalg.norm(expected)


def differentiate(memory, chunks=(TIME,)):
    """Outputs, states and gradients of inputs, a state and weights, in chunks."""
    borders = np.cumsum([0, *chunks])

    def function(sequences, *state):
        outputs = []
        for begin, end in itertools.pairwise(borders):
            y, *state = memory(
                sequences[:, begin:end],
                initial_state=list(state),
                start=STARTS[:, begin:end],
            )
            outputs.append(keras.ops.cast(y, "float32"))
        return [keras.ops.concatenate(outputs, axis=1), *state]

    arrays = [random_sequences(), *some_state(memory)]
    return gradients(function, arrays, memory.trainable_variables)


@pytest.mark.parametrize("name", ["agalite", "gtrxl", "trmrl"])
def test_outputs_are_exact_and_gradients_nearly_so(name):
    plain, memory = pair(name)
    kwargs = {"initial_state": some_state(plain), "start": STARTS}

    for received, expected in zip(
        run(memory, random_sequences(), **kwargs),
        run(plain, random_sequences(), **kwargs),
        strict=True,
    ):
        np.testing.assert_array_equal(received, expected)
    (_, expected), (_, received) = differentiate(plain), differentiate(memory)
    assert 0 < error(received, expected) < GRADIENT_ERROR
    assert len(memory.weights) == len(plain.weights)  # nothing is remembered


def test_chunks_have_the_gradients_of_the_whole():
    """A range is that of a row, and of the softmax from 0: nothing depends on how many
    rows, or hidden keys, there are."""
    _, memory = pair("gtrxl", num_layers=1)

    _, whole = differentiate(memory)
    _, chunks = differentiate(memory, (3, 4))

    # Where two forms differ in the last digit a code may be the next one.
    assert error(chunks, whole) < 2e-3


def test_half_precision_has_finite_gradients():
    plain, memory = pair("gtrxl", num_layers=1, dtype="mixed_bfloat16")

    (_, expected), (_, received) = differentiate(plain), differentiate(memory)

    assert error(received, expected) < 0.1


def test_a_symbolic_call_and_configurations_keep_it():
    inputs = keras.Input((TIME, 3))
    memory = tiny("gtrxl", num_layers=1, saved_activations="int8")

    outputs = memory(inputs)

    assert outputs.shape == (None, TIME, memory.cell.output_size)
    for layer in (memory, memory.cell, memory.cell.blocks[0].attention_gate):
        copy = type(layer).from_config(layer.get_config())
        assert copy.saved_activations == layer.saved_activations == "int8"
    assert MemoryRNN(memory.cell).saved_activations == "int8"


@pytest.mark.once
def test_heads_follow_the_memory_and_presets_do_not_hold_it():
    encoder = MLPEncoder(spaces.Box(-1, 1, (3,)), (4,), saved_activations="int8")
    memory = tiny("gtrxl", saved_activations="int8")
    policy = MemoryPolicy(encoder, memory, spaces.Discrete(2), 8)

    layers = [
        *policy.encoder.layers,
        *policy.memory.cell.blocks,
        policy.actor.output_layer,
        policy.critic_hidden,
    ]
    assert {layer.saved_activations for layer in layers} == {"int8"}
    copy = MemoryPolicy.from_config(policy.get_config())
    assert copy.memory.saved_activations == "int8"
    preset = Preset.of(policy)
    assert "saved_activations" not in str(preset.to_config())
    built = preset.policy(load_weights=False)
    assert built.memory.saved_activations == "int8"
    read = Preset.from_config(preset.to_config()).policy(load_weights=False)
    assert read.memory.saved_activations is None


@pytest.mark.once
@pytest.mark.process
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
def test_keras_quantizes_the_weights_of_layers_that_keep_float32():
    space = spaces.Box(-1.0, 1.0, (5,), np.float32)
    policy = MemoryPolicy(MLPEncoder(space), tiny("memoryless"), spaces.Discrete(2))
    dense = [x for x in policy._flatten_layers() if isinstance(x, keras.layers.Dense)]

    policy.quantize("int8")

    assert {layer.quantization_mode for layer in dense} == {"int8"}


def test_what_cannot_keep_8_bits_says_so():
    with pytest.raises(ValueError, match=r"saved_activations.*'int4'"):
        GTrXL(saved_activations="int4")
    with pytest.raises(ValueError, match=r"Keras's own cells.*'int8'"):
        GRU(saved_activations="int8")
