import functools

import keras
import numpy as np
import pytest

from keras_agalite.layers import GTrXL
from tests import oracles
from tests.helpers import BACKEND, compiled, gradients, random_starts, to_numpy
from tests.layers.memories import (
    BATCH,
    FEATURES,
    assert_close,
    make_memory,
    random_sequences,
    run,
    some_state,
)
from tests.memories import TINY
from tests.oracles import assert_gradients_match


def make_gtrxl(**kwargs):
    layer = GTrXL(**{**TINY["gtrxl"], **kwargs}, return_state=True)
    layer.build((BATCH, None, FEATURES))
    random = np.random.default_rng(0)
    for weight in layer.trainable_weights:
        # With a bias of zero, the relu of a token without features is at its corner.
        if "bias" in weight.name:
            weight.assign(weight + random.normal(size=weight.shape))
    return layer


def make_oracle(layer, **options):
    a = layer.cell.cell_config
    return functools.partial(
        oracles.gtrxl,
        names=[w.path.split("cell/", 1)[1] for w in layer.trainable_weights],
        layers=a["num_layers"],
        heads=a["num_heads"],
        length=a["memory_length"],
        **options,
    )


@pytest.mark.parametrize(
    ("time", "length"), [(1, 3), (2, 1), (3, 3), (7, 3), (7, 20), (8, 4)]
)
def test_matches_the_oracle(time, length):
    layer = make_gtrxl(memory_length=length)
    state = some_state(layer, clock=(length + 1) // 2)
    start = random_starts(BATCH, time, 0.2)
    arrays = [random_sequences(time), *state]

    outputs, grads = gradients(
        lambda x, *state: layer(x, initial_state=list(state), start=start),
        arrays,
        layer.trainable_weights,
    )

    plain = make_oracle(layer, start=start, mask=np.ones((BATCH, time), bool))
    arrays += layer.get_weights()
    assert_close(outputs, plain(*arrays))
    assert_gradients_match(plain, arrays, grads)


@pytest.mark.parametrize(("time", "length"), [(63, 8), (64, 8), (100, 7)])
@pytest.mark.parametrize("masked", [False, True])
def test_long_sequences_match_the_oracle(time, length, masked):
    layer = make_gtrxl(memory_length=length)
    x, state = random_sequences(time), some_state(layer, clock=length)
    start = random_starts(BATCH, time, 0.1)
    mask = np.random.default_rng(1).random((BATCH, time)) < 0.7

    y, *final = run(
        layer, x, initial_state=state, start=start, mask=mask if masked else None
    )

    plain = make_oracle(layer, start=start, mask=mask | (not masked))
    expected, *expected_final = plain(x, *state, *layer.get_weights())
    kept = np.any(expected != 0, axis=2)
    assert_close([y[kept], *final], [expected[kept], *expected_final])


def test_gradients_flow_through_a_mask():
    layer = make_gtrxl()
    start = random_starts(BATCH, 7)
    mask = np.array([[0, 1, 1, 0, 1, 1, 0], [1, 1, 0, 1, 0, 1, 1]], bool)
    arrays = [random_sequences(7), *some_state(layer, clock=2)]

    def kept(x, *state):
        y, *final = layer(x, initial_state=list(state), start=start, mask=mask)
        return keras.ops.where(mask[:, :, None], y, 0.0), *final

    outputs, grads = gradients(kept, arrays, layer.trainable_weights)

    plain = make_oracle(layer, start=start, mask=mask)
    arrays += layer.get_weights()
    assert_close(outputs, plain(*arrays))
    assert_gradients_match(plain, arrays, grads)


def test_size_is_the_papers():
    assert GTrXL.count_weights(16) == 1_584_256


def test_state_is_the_inputs_of_the_blocks_and_a_count():
    assert GTrXL().state_size == [128 * 128 + 1] * 4


def test_a_token_sees_no_further_than_its_window():
    length = TINY["gtrxl"]["memory_length"]
    layer = make_gtrxl(num_layers=1)
    x = random_sequences(8)
    other = x.copy()
    other[:, 1] += 1.0

    y, *_ = run(layer, x)
    moved, *_ = run(layer, other)

    differs = np.any(y != moved, axis=(0, 2))
    np.testing.assert_array_equal(np.flatnonzero(differs), np.arange(1, length + 2))


def test_what_is_hidden_does_not_count():
    layer = make_gtrxl()
    x, state = random_sequences(2), some_state(layer, clock=1)
    spoiled = [s.copy() for s in state]
    for s in spoiled:
        s[:, : -1 - TINY["gtrxl"]["hidden_dim"]] = 1e6  # all but the newest item

    y, *_ = run(layer, x, initial_state=state)

    assert_close(run(layer, x, initial_state=spoiled)[0], y)


def test_official_form_sees_the_whole_call_and_its_memory():
    layer, time = make_gtrxl(num_layers=1, sliding_window=False), 8
    x, state = random_sequences(time), some_state(layer, clock=3)

    _, (grad, grad_state) = gradients(
        lambda x, state: layer(x, initial_state=[state])[0][:, -1], [x, *state]
    )

    assert np.all(np.any(grad != 0, axis=2))
    np.testing.assert_array_equal(grad_state, 0.0)


def test_one_step_of_the_official_form_equals_the_window():
    window, official = make_gtrxl(), make_gtrxl(sliding_window=False)
    official.set_weights(window.get_weights())
    x, state = random_sequences(1), some_state(window, clock=2)

    y = run(official, x, initial_state=state)

    assert_close(y, run(window, x, initial_state=state))


@pytest.mark.parametrize("sliding_window", [True, False])
def test_half_precision_stays_close(sliding_window):
    single = make_gtrxl(sliding_window=sliding_window)
    half = make_gtrxl(sliding_window=sliding_window, dtype="mixed_bfloat16")
    half.set_weights(single.get_weights())
    x, start = random_sequences(), random_starts(BATCH, 7)

    y, *state = compiled(lambda x: half(x, start=start))(x)

    expected, *expected_state = run(single, x, start=start)
    y = to_numpy(keras.ops.cast(y, "float32"))
    np.testing.assert_allclose(y, expected, atol=0.1)
    for s, e in zip(to_numpy(state), expected_state, strict=True):
        assert s.dtype == "float32"
        np.testing.assert_array_equal(s[:, -1], e[:, -1])


@pytest.mark.process
@pytest.mark.skipif(BACKEND != "tensorflow", reason="shapes are static elsewhere")
@pytest.mark.parametrize(
    ("shape", "jit_compile"),
    [((None, 7, FEATURES), True), ((None, None, FEATURES), False)],
    ids=["xla_unknown_batch", "unknown_batch_and_time"],
)
@pytest.mark.parametrize("sliding_window", [True, False])
def test_unknown_sizes_in_tensorflow(shape, jit_compile, sliding_window):
    import tensorflow as tf

    layer = make_gtrxl(num_layers=1, sliding_window=sliding_window)
    x, start = random_sequences(), random_starts(BATCH, 7)
    mask = np.random.default_rng(1).random((BATCH, 7)) < 0.7
    function = tf.function(
        lambda x, start, mask: layer(x, start=start, mask=mask),
        jit_compile=jit_compile,
        input_signature=[
            tf.TensorSpec(shape),
            tf.TensorSpec(shape[:2], tf.bool),
            tf.TensorSpec(shape[:2], tf.bool),
        ],
    )

    outputs = to_numpy(function(x, start, mask))

    assert_close(outputs, run(layer, x, start=start, mask=mask))


def test_a_row_that_is_masked_as_a_whole_keeps_its_state():
    layer = make_memory("gtrxl", return_state=True)
    state = some_state(layer, clock=2)
    start = np.ones((BATCH, 4), bool)

    _, *final = run(
        layer,
        random_sequences(4),
        initial_state=state,
        start=start,
        mask=np.zeros((BATCH, 4), bool),
    )

    for s in state:  # the third item of three is not seen, so it is not kept
        s[:, : TINY["gtrxl"]["hidden_dim"]] = 0.0
    assert_close(final, state)
