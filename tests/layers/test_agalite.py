import time

import keras
import numpy as np
import pytest

from keras_agalite.layers import AGaLiTe
from tests.helpers import BACKEND, compiled, gradients, to_numpy, traced
from tests.layers.memories import (
    BATCH,
    FEATURES,
    TIME,
    assert_close,
    make_memory,
    random_sequences,
    run,
    some_state,
)


@pytest.mark.parametrize(
    ("eta", "features", "parameters"), [(4, 16, 1_740_608), (8, 128, 1_779_712)]
)
def test_size_is_the_papers(eta, features, parameters):
    assert AGaLiTe.count_weights(features, eta=eta) == parameters


def test_state_is_smaller_than_the_papers():
    assert sum(AGaLiTe().state_size) == 9_220


@pytest.mark.parametrize("restarts", [False, True])
def test_with_seven_oscillators_a_start_is_a_fresh_state_if_the_clock_restarts(
    restarts,
):
    memory = make_memory("agalite", return_state=True, r=7, restart_clock=restarts)
    x, start = random_sequences(), np.zeros((BATCH, TIME), bool)
    start[:, 2] = True

    whole, *state = run(memory, x, initial_state=some_state(memory), start=start)
    alone, *fresh = run(memory, x[:, 2:])

    is_fresh = np.allclose(whole[:, 2:], alone, atol=1e-5)
    assert is_fresh == restarts
    assert np.allclose(state, fresh, atol=1e-5) == restarts


@pytest.mark.once
def test_a_clock_restarts_or_does_not():
    with pytest.raises(ValueError, match="`restart_clock` must be True or False"):
        AGaLiTe(restart_clock="yes")


def test_a_mask_comes_along_from_an_embedding():
    tokens = np.array([[3, 1, 0, 2, 4, 0, 0], [0, 2, 2, 1, 4, 4, 3]])
    embedding = keras.layers.Embedding(5, FEATURES, mask_zero=True)
    layer = make_memory("agalite", return_sequences=False)
    embedding.build()

    y = to_numpy(compiled(lambda tokens: layer(embedding(tokens)))(tokens))

    expected = run(layer, to_numpy(embedding(tokens)), mask=tokens != 0)
    assert_close(y, expected)


def test_one_step_of_fit_lowers_the_loss():
    model = keras.Sequential(
        [
            keras.Input((TIME, FEATURES)),
            make_memory("agalite", num_layers=1, return_sequences=False),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(0.01), "mse")
    x, y = random_sequences(), np.ones((BATCH, 1))

    # One batch an epoch, whose loss is that before its step.
    before, after = model.fit(x, y, epochs=2, verbose=0).history["loss"]

    assert after < before


@pytest.mark.process
@pytest.mark.skipif(BACKEND != "tensorflow", reason="shapes are static elsewhere")
@pytest.mark.parametrize(
    ("shape", "jit_compile"),
    [((None, 20, FEATURES), True), ((None, None, FEATURES), False)],
    ids=["xla_unknown_batch", "unknown_batch_and_time"],
)
def test_unknown_sizes_in_tensorflow(shape, jit_compile):
    import tensorflow as tf

    layer = make_memory("agalite", num_layers=1, return_state=True)
    weights = [w.value for w in layer.trainable_weights]
    x, state = random_sequences(20), some_state(layer)
    start = random_sequences(20)[:, :, 0] > 1

    def differentiate(x, state, start):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, *final = layer(x, initial_state=state, start=start)
            loss = tf.reduce_sum(y**2) + tf.add_n([tf.reduce_sum(s) for s in final])
        return y, final, tape.gradient(loss, [x, *weights])

    function = tf.function(
        differentiate,
        jit_compile=jit_compile,
        input_signature=[
            tf.TensorSpec(shape),
            [tf.TensorSpec((None, s.shape[1])) for s in state],
            tf.TensorSpec(shape[:2], tf.bool),
        ],
    )
    inputs = [tf.constant(x), [tf.constant(s) for s in state], tf.constant(start)]

    assert_close(
        to_numpy(function(*inputs)), to_numpy(differentiate(*inputs)), rtol=1e-4
    )


def test_a_block_of_the_papers_size_compiles_in_20_seconds():
    layer = AGaLiTe(num_layers=1)
    layer.build((1, 128, 16))
    x = np.random.default_rng(0).normal(size=(1, 128, 16)).astype("float32")

    begin = time.process_time()
    _, grads = gradients(
        traced(lambda x: [layer(x)]), [x], layer.trainable_weights, options=None
    )
    seconds = time.process_time() - begin

    assert seconds < 20
    assert all(np.all(np.isfinite(g)) and np.any(g != 0) for g in grads)
