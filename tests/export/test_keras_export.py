"""`keras.Model.export` of a functional model with a memory, from JAX.

A policy has an export of its own, of one step. Here Keras writes a model of sequences,
whose batch and length are symbols.
"""

import keras
import numpy as np
import pytest

from keras_agalite.layers import MEMORIES
from tests.helpers import compiled

pytestmark = [
    pytest.mark.once,
    pytest.mark.process,
    pytest.mark.usefixtures("quick_compilation"),
    # Keras passes it to jax2tf.
    pytest.mark.filterwarnings("ignore:The `native_serialization` parameter"),
]

# Their loops over a length that is not known are three.
QUICK = ("agalite", "gtrxl", "gru")


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="writes from JAX")
@pytest.mark.parametrize(
    "name",
    [
        *QUICK,
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in MEMORIES
            if name not in QUICK
        ),
    ],
)
def test_a_model_of_sequences_of_any_length(name, tmp_path):
    tf = pytest.importorskip("tensorflow")
    cls = MEMORIES[name]
    config = cls.zoo_config(8, num_layers=1, num_heads=2, head_dim=4, eta=2)
    if name == "gtrxl":
        config["memory_length"] = 16
    sequences = keras.Input((None, 5))
    start = keras.Input((None,), dtype="bool")
    outputs = cls(**config)(sequences, start=start)
    model = keras.Model([sequences, start], keras.layers.Dense(3)(outputs))

    # By itself, Keras names the lengths of the two inputs apart.
    shapes = ["(batch, time, 5)", "(batch, time)"]
    model.export(
        tmp_path / "model",
        format="tf_saved_model",
        verbose=False,
        jax2tf_kwargs={"polymorphic_shapes": [shapes]},
    )

    served = tf.saved_model.load(tmp_path / "model")
    random = np.random.default_rng(0)
    quick = compiled(model)
    for batch, time in ((1, 1), (2, 40)):
        inputs = [
            random.normal(size=(batch, time, 5)).astype("float32"),
            random.random((batch, time)) < 0.2,
        ]
        np.testing.assert_allclose(served.serve(inputs), quick(inputs), atol=1e-4)
