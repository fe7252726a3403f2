import keras
import numpy as np
import pytest

from keras_agalite.layers import AGaLiTeCell
from tests.helpers import compiled, to_numpy
from tests.layers.memories import (
    AGALITE,
    BATCH,
    FEATURES,
    TIME,
    assert_close,
    make_memory,
    random_sequences,
    run,
    some_state,
)


def stock_rnn(**kwargs):
    """The cell in a `keras.layers.RNN`, and the layer with the same weights."""
    stock = keras.layers.RNN(AGaLiTeCell(**AGALITE), return_sequences=True, **kwargs)
    stock.build((BATCH, TIME, FEATURES))
    layer = make_memory("agalite", return_state=True)
    stock.cell.set_weights(layer.get_weights())
    return stock, layer


def test_stock_rnn_equals_the_layer():
    stock, layer = stock_rnn(return_state=True)
    x, state = random_sequences(), some_state(layer)

    outputs = run(stock, x, initial_state=state)

    assert_close(outputs, run(layer, x, initial_state=state))


def test_stateful_stock_rnn_keeps_the_state_between_calls():
    stock, layer = stock_rnn(stateful=True)
    x = random_sequences(4)

    halves = [to_numpy(stock(half)) for half in (x[:, :2], x[:, 2:])]

    y, *state = run(layer, x)
    assert_close(np.concatenate(halves, axis=1), y)
    assert_close(to_numpy([s.value for s in stock.states]), state)
    stock.reset_state()
    assert_close(to_numpy(stock(x[:, :2])), halves[0])


@pytest.mark.parametrize("extension", ["keras", "weights.h5"])
def test_functional_model_in_a_stock_rnn_survives_saving(extension, tmp_path):
    def make_model():
        stock, layer = stock_rnn(return_state=True)
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


def test_config_round_trip():
    cell = AGaLiTeCell(**{**AGALITE, "r": 7}, dtype="float64", name="cell")

    copy = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(cell)
    )

    assert type(copy) is AGaLiTeCell
    assert copy.get_config() == cell.get_config()
    assert (copy.state_size, copy.output_size) == (cell.state_size, 8)
    assert {block.dtype_policy.name for block in copy.blocks} == {"float64"}


def test_initial_state_has_the_dtype_of_the_cell():
    cell = AGaLiTeCell(**AGALITE, dtype="mixed_bfloat16")

    for state, size in zip(cell.get_initial_state(3), cell.state_size, strict=True):
        assert tuple(state.shape) == (3, size)
        assert keras.backend.standardize_dtype(state.dtype) == "bfloat16"


@pytest.mark.parametrize("name", AGALITE)
@pytest.mark.parametrize("value", [0, 2.0, True])
def test_an_argument_that_is_no_positive_integer_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"`{name}` must be .* Received: {name}="):
        AGaLiTeCell(**{**AGALITE, name: value})
