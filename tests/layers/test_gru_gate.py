import keras
import numpy as np
import pytest

from keras_agalite.layers import GRUGate
from tests.helpers import gradients, to_numpy
from tests.oracles import assert_gradients_match


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def formula(x, y, from_update, from_stream, u_g, bias):
    w_r, w_z, w_g = np.split(from_update, 3, axis=1)
    u_r, u_z = np.split(from_stream, 2, axis=1)
    r = sigmoid(y @ w_r + x @ u_r)
    z = sigmoid(y @ w_z + x @ u_z - bias)
    h = np.tanh(y @ w_g + (r * x) @ u_g)
    return (1 - z) * x + z * h


def test_matches_the_formula():
    random = np.random.default_rng(0)
    stream, update = random.normal(size=(2, 2, 3, 4)).astype("float32")
    gate = GRUGate()
    gate.build(stream.shape, update.shape)
    gate.bias.assign(random.normal(size=4))

    (output,), grads = gradients(
        lambda x, y: [gate(x, y)], [stream, update], gate.trainable_weights
    )

    arrays = [stream, update, *gate.get_weights()]
    np.testing.assert_allclose(output, formula(*arrays), atol=1e-6)
    assert_gradients_match(formula, arrays, grads, rtol=1e-5)


def test_kernels_start_orthogonal_and_the_bias_lets_the_stream_pass():
    gate = GRUGate()
    gate.build((None, 4), (None, 4))

    for kernel in gate.get_weights()[:3]:
        for block in np.split(kernel, kernel.shape[1] // 4, axis=1):
            np.testing.assert_allclose(block @ block.T, 2 * np.eye(4), atol=1e-5)
    first, second, third = np.split(to_numpy(gate.update_kernel), 3, axis=1)
    assert not np.allclose(first, second)
    assert not np.allclose(second, third)
    np.testing.assert_array_equal(to_numpy(gate.bias), 2.0)


def test_config_round_trip():
    gate = GRUGate(gate_bias=0.5, dtype="mixed_bfloat16")

    copy = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(gate)
    )

    assert type(copy) is GRUGate
    assert copy.get_config() == gate.get_config()
    assert copy.gate_bias == 0.5


def test_different_widths_are_refused():
    with pytest.raises(ValueError, match=r"same width.*Received: stream_shape=\(2, 3"):
        GRUGate()(np.zeros((2, 3), "float32"), np.zeros((2, 4), "float32"))
