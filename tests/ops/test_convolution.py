"""Convolutions that are products of matrices on a CPU."""

import keras
import numpy as np
import pytest

from keras_agalite.ops import _backend

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="elsewhere it is Keras's own"
)


@pytest.mark.parametrize(("size", "stride"), [(8, 4), (4, 2), (3, 1), (3, 2)])
def test_outputs_and_gradients_are_those_of_keras(size, stride):
    import jax

    random = np.random.default_rng(0)
    x = random.normal(size=(2, 13, 18, 3)).astype(np.float32)
    kernel = random.normal(size=(size, size, 3, 5)).astype(np.float32)

    def loss(convolve, *tensors):
        y = convolve(*tensors, stride)
        return (y * np.arange(y.size).reshape(y.shape) / y.size).sum(), y

    (_, mine), gradients = jax.value_and_grad(loss, (1, 2), has_aux=True)(
        _backend.convolution, x, kernel
    )
    (_, theirs), expected = jax.value_and_grad(loss, (1, 2), has_aux=True)(
        keras.ops.conv, x, kernel
    )
    acting = _backend.convolution(x, kernel, stride)
    np.testing.assert_allclose(acting, theirs, atol=1e-4)
    np.testing.assert_allclose(mine, theirs, atol=1e-4)
    for a, b in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
