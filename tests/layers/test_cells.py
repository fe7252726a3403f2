import itertools

import keras
import numpy as np
import pytest

from keras_agalite.layers import MEMORIES
from tests.helpers import compiled, to_numpy
from tests.layers.memories import (
    BATCH,
    BLOCKS,
    FEATURES,
    TIME,
    assert_close,
    every_block_memory,
    few_block_memories,
    make_memory,
    random_sequences,
    run,
    some_state,
)


def make_cell(name, **kwargs):
    _, cell, arguments = BLOCKS[name]
    return cell(**{**arguments, **kwargs})


def stock_rnn(name, **kwargs):
    """The cell in a `keras.layers.RNN`, and the layer with the same weights."""
    stock = keras.layers.RNN(make_cell(name), return_sequences=True, **kwargs)
    stock.build((BATCH, TIME, FEATURES))
    layer = make_memory(name, return_state=True)
    stock.cell.set_weights(layer.get_weights())
    return stock, layer


@few_block_memories
def test_cell_and_layer_hold_the_same_weights(name):
    layer = make_memory(name)
    cell = make_cell(name)
    cell.build((None, FEATURES))

    def names_and_shapes(layer):
        return [(w.path.split("/", 1)[-1], w.shape) for w in layer.weights]

    layer_weights = names_and_shapes(layer.cell)
    assert [shape for _, shape in layer_weights] == [w.shape for w in cell.weights]
    assert len({name for name, _ in layer_weights}) == len(layer_weights)
    assert layer.trainable_weights == layer.cell.trainable_weights


@every_block_memory
def test_stock_rnn_equals_the_layer(name):
    stock, layer = stock_rnn(name, return_state=True)
    x, state = random_sequences(), some_state(layer)

    outputs = run(stock, x, initial_state=state)

    assert_close(outputs, run(layer, x, initial_state=state))


@few_block_memories
def test_stateful_stock_rnn_keeps_the_state_between_calls(name):
    stock, layer = stock_rnn(name, stateful=True)
    x = random_sequences(4)

    halves = [to_numpy(stock(half)) for half in (x[:, :2], x[:, 2:])]

    y, *state = run(layer, x)
    assert_close(np.concatenate(halves, axis=1), y)
    assert_close(to_numpy([s.value for s in stock.states]), state)
    stock.reset_state()
    assert_close(to_numpy(stock(x[:, :2])), halves[0])


@pytest.mark.parametrize(
    ("name", "extension"),
    [("agalite", "keras"), ("agalite", "weights.h5"), ("gtrxl", "keras")],
)
def test_functional_model_in_a_stock_rnn_survives_saving(name, extension, tmp_path):
    def make_model():
        stock, layer = stock_rnn(name, return_state=True)
        inputs = keras.Input((None, FEATURES))
        return keras.Model(inputs, stock(inputs)), layer

    path = tmp_path / f"model.{extension}"
    model, layer = make_model()
    if extension == "keras":
        model.save(path)
        reloaded = keras.models.load_model(path)
    else:
        model.save_weights(path)
        reloaded, _ = make_model()
        reloaded.load_weights(path)

    x = random_sequences()
    y, *state = to_numpy(compiled(lambda x: reloaded(x))(x))
    assert_close((y, *state), run(layer, x))


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("agalite", {"r": 7}),
        ("galite", {"eta": 3}),
        ("gtrxl", {"sliding_window": False}),
    ],
)
def test_config_round_trip(name, argument):
    cell = make_cell(name, **argument, dtype="float64")

    copy = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(cell)
    )

    assert type(copy) is type(cell)
    assert copy.get_config() == cell.get_config()
    assert copy.get_config().items() >= argument.items()
    assert (copy.state_size, copy.output_size) == (cell.state_size, 8)
    assert {block.dtype_policy.name for block in copy.blocks} == {"float64"}


@every_block_memory
def test_initial_state_has_the_dtype_of_the_cell(name):
    cell = make_cell(name, dtype="mixed_bfloat16")

    for state, size in zip(cell.get_initial_state(3), cell.state_size, strict=True):
        assert tuple(state.shape) == (3, size)
        assert keras.backend.standardize_dtype(state.dtype) == "bfloat16"


@pytest.mark.once
@every_block_memory
def test_an_argument_that_is_no_positive_integer_is_refused(name):
    for argument, value in itertools.product(BLOCKS[name][-1], [0, 2.0, True, 2**21]):
        message = rf"`{argument}` must be .* Received: {argument}="
        with pytest.raises(ValueError, match=message):
            make_cell(name, **{argument: value})


@pytest.mark.once
@pytest.mark.parametrize("name", MEMORIES)
def test_a_million_layers_are_refused_before_the_first_is_made(name):
    with pytest.raises(
        ValueError, match=r"at most 1,024\. Received: num_layers=1000000"
    ):
        MEMORIES[name](num_layers=1_000_000)


@every_block_memory
def test_cell_and_layer_take_the_same_arguments(name):
    layer, cell, _ = BLOCKS[name]

    assert cell().get_config().items() >= layer().cell_config.items()
    assert cell(3).get_config()["num_layers"] == 3
    with pytest.raises(TypeError, match="positional"):
        cell(3, 8)
    with pytest.raises(TypeError, match="positional"):
        layer(3, 8)
    with pytest.raises(ValueError, match="Unrecognized keyword arguments"):
        cell(no_such_argument=1)


@pytest.mark.once
@pytest.mark.parametrize("value", [1, None, "yes"])
def test_a_flag_that_is_no_boolean_is_refused(value):
    with pytest.raises(ValueError, match=r"`sliding_window` must be True or False"):
        make_cell("gtrxl", sliding_window=value)
