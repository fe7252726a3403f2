"""Initial weights: the same on every backend, and what they are."""

import math
import random

import keras
import numpy as np
import pytest

from keras_agalite.layers import initializers
from keras_agalite.layers.gated_delta_net import RateInitializer, StepInitializer
from keras_agalite.layers.initializers import (
    Constant,
    GlorotUniform,
    LecunNormal,
    Normal,
    Ones,
    Orthogonal,
    OrthogonalBlocks,
    Uniform,
    Zeros,
    without_draws,
)
from keras_agalite.layers.lru import RingInitializer
from keras_agalite.layers.recurrent import ForgetBiasInitializer
from keras_agalite.layers.trmrl import FixupInitializer
from tests.helpers import float64, to_numpy
from tests.memories import tiny

ALL = {
    "constant": (Constant([1.0, 2.0, 3.0, 4.0]), (4,)),
    "zeros": (Zeros(), (4,)),
    "ones": (Ones(), (4,)),
    "forget_bias": (ForgetBiasInitializer(), (8,)),
    "normal": (Normal(0.5, seed=1), (4,)),
    "uniform": (Uniform(-1.0, 2.0, seed=1), (4,)),
    "lecun_normal": (LecunNormal(seed=1), (5, 4)),
    "glorot_uniform": (GlorotUniform(seed=1), (3, 3, 2, 4)),
    "fixup": (FixupInitializer(2, parts=2, seed=1), (3, 8)),
    "orthogonal": (Orthogonal(2.0, seed=1), (3, 3, 2, 4)),
    "orthogonal_blocks": (OrthogonalBlocks(3, 2.0, seed=1), (5, 6)),
    "ring": (RingInitializer("theta_log", 0.5, 1.0, 1.0, seed=1), (4,)),
    "rate": (RateInitializer(seed=1), (4,)),
    "step": (StepInitializer(seed=1), (4,)),
}
every_initializer = pytest.mark.parametrize("name", ALL)
DRAWING = [name for name, (i, _) in ALL.items() if hasattr(i, "seed")]


def fingerprint(name):
    """Two numbers that every fresh weight of a memory goes into."""
    keras.utils.set_random_seed(0)
    memory = tiny(name)
    memory.build((None, None, 3))
    weights = [w.astype("float64").ravel() for w in memory.get_weights()]
    flat = np.concatenate(weights)
    wave = np.cos(np.arange(len(flat)))
    return float(flat @ wave), float(flat**2 @ wave)


# Of the weights after keras.utils.set_random_seed(0), whatever the backend.
FINGERPRINTS = {
    "agalite": (-5.066716, -2.545334),
    "galite": (35.835056, 16.169575),
    "gtrxl": (1.961546, -10.647054),
    "shm": (-6.134753, -0.186880),
    "ffm": (3.172377, -12.981157),
    "gated_delta_net": (-12.277488, 8.818775),
    "memformer": (-3.035754, -4.697382),
    "grc": (6.012074, -0.522050),
    "trmrl": (3.924326, -0.528641),
    "spatial": (12.548433, 5.120883),
    "lru": (5.047282, 1.024787),
    "mingru": (1.349696, -2.019859),
    "gru": (-2.493007, 0.063292),
    "lstm": (-4.075489, -0.554858),
    "memoryless": (-6.305140, 2.987793),
}


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_a_seed_gives_the_same_fresh_weights_on_every_backend(name):
    # Not to the last bit: LAPACK may round otherwise on another processor.
    np.testing.assert_allclose(fingerprint(name), FINGERPRINTS[name], atol=1e-5)


@every_initializer
def test_values_repeat_and_survive_serialisation(name):
    initializer, shape = ALL[name]
    config = keras.saving.serialize_keras_object(initializer)

    copy = keras.saving.deserialize_keras_object(config)

    assert config["registered_name"].startswith("keras_agalite>")
    values = to_numpy(initializer(shape))
    assert values.shape == shape
    assert values.dtype == "float32"
    np.testing.assert_array_equal(to_numpy(copy(shape)), values)
    np.testing.assert_array_equal(to_numpy(initializer(shape)), values)


@every_initializer
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_every_dtype_is_that_of_float32_rounded(name, dtype):
    initializer, shape = ALL[name]
    expected = to_numpy(initializer(shape))

    with float64():
        values = initializer(shape, dtype=dtype)

        assert keras.backend.standardize_dtype(values.dtype) == dtype
        values = to_numpy(keras.ops.cast(values, "float32"))
    tolerance = {"bfloat16": 2**-8, "float16": 2**-10, "float64": 1e-7}[dtype]
    np.testing.assert_allclose(values, expected, rtol=tolerance, atol=1e-6)


@pytest.mark.parametrize("name", DRAWING)
def test_nothing_is_drawn_where_weights_are_loaded(name):
    _, shape = ALL[name]
    initializer = ALL[name][0].clone()
    initializer.seed = None
    random.seed(0)
    before = random.getstate()

    with without_draws():
        values = to_numpy(initializer(shape))

    assert not values.any()
    assert random.getstate() == before
    assert to_numpy(initializer(shape)).any()
    assert random.getstate() != before


def test_a_memory_draws_nothing_where_weights_are_loaded(monkeypatch):
    def refuse(*args):
        raise AssertionError("a random number was drawn")

    monkeypatch.setattr(np.random, "default_rng", refuse)
    for name in FINGERPRINTS:
        with without_draws():
            tiny(name).build((None, None, 3))


def test_seeds_are_those_of_keras():
    keras.utils.set_random_seed(3)
    seeds = [keras.initializers.GlorotUniform().seed for _ in range(2)]
    keras.utils.set_random_seed(3)

    ours = [Normal() for _ in range(2)]
    for initializer in ours:
        initializer((1,))

    assert [initializer.seed for initializer in ours] == seeds


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (2, 3, 4)])
def test_orthogonal_has_orthogonal_rows_or_columns(shape):
    kernel = to_numpy(Orthogonal(math.sqrt(2), seed=0)(shape)).reshape(-1, shape[-1])
    if len(kernel) < kernel.shape[1]:
        kernel = kernel.T

    product = kernel.T @ kernel
    np.testing.assert_allclose(product, 2 * np.eye(len(product)), atol=1e-5)


def test_orthogonal_needs_a_matrix():
    with pytest.raises(ValueError, match=r"two axes\. Received: shape=\(4,\)"):
        Orthogonal()((4,))


@pytest.mark.parametrize("shape", [(5, 9), (3, 5, 3)])
def test_orthogonal_blocks_are_drawn_each_for_itself(shape):
    kernel = to_numpy(OrthogonalBlocks(3, seed=0)(shape))
    blocks = kernel if len(shape) == 3 else np.split(kernel, 3, axis=1)

    for block in blocks:
        np.testing.assert_allclose(block.T @ block, np.eye(3), atol=1e-6)
    assert not np.allclose(blocks[0], blocks[1])


@pytest.mark.parametrize("name", ["LecunNormal", "GlorotUniform", "Orthogonal"])
@pytest.mark.parametrize("shape", [(100, 60), (3, 3, 20, 60)])
def test_spread_is_that_of_keras(name, shape):
    ours = to_numpy(getattr(initializers, name)(seed=0)(shape))
    theirs = to_numpy(getattr(keras.initializers, name)(seed=0)(shape))

    assert abs(ours.std() / theirs.std() - 1) < 0.05
    assert abs(np.abs(ours).max() / np.abs(theirs).max() - 1) < 0.5
    assert abs(ours.mean()) < 0.05 * theirs.std()


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_recurrent_cells_begin_as_those_of_keras(name):
    memory = tiny(name, num_layers=1)
    memory.build((None, None, 3))
    kind = {"gru": keras.layers.GRUCell, "lstm": keras.layers.LSTMCell}[name]
    stock = kind(5)
    stock.build((None, 3))

    assert [w.name for w in memory.weights] == [w.name for w in stock.weights]
    np.testing.assert_array_equal(memory.get_weights()[2], stock.get_weights()[2])
    recurrent = memory.get_weights()[1]
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(5), atol=1e-6)


@pytest.mark.once
def test_a_weight_that_32_bits_cannot_count_is_refused_before_it_is_drawn():
    for initializer in (LecunNormal(), Zeros()):
        with pytest.raises(
            ValueError, match=r"at most 2,147,483,647 .*shape=\(65536, 32768\)"
        ):
            initializer((2**16, 2**15))
