"""Our cells in a stock keras.layers.RNN with a mask."""

import keras
import numpy as np

from keras_agalite.layers import AGaLiTeCell
from tests.layers.memories import random_sequences, set_positive_biases
from tests.memories import TINY


def test_a_cell_is_masked_with_zeros_on_every_backend():
    # Without `zero_output_for_mask` Keras's loop on JAX takes the first state for the
    # previous output, which has another width.
    layer = keras.layers.RNN(
        AGaLiTeCell(**TINY["agalite"]), return_sequences=True, zero_output_for_mask=True
    )
    x, mask = random_sequences(5), np.array([[1, 1, 0, 1, 1], [0, 1, 1, 1, 0]], bool)
    layer.build(x.shape)
    set_positive_biases(layer.cell)
    y = keras.ops.convert_to_numpy(layer(x, mask=mask))
    for row in range(2):
        whole = keras.ops.convert_to_numpy(layer(x[row : row + 1, mask[row]]))
        np.testing.assert_allclose(y[row, mask[row]], whole[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(y[~mask], 0.0)
