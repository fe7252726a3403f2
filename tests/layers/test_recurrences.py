"""The memories whose recurrence is simple: all against oracles, each by hand."""

import functools
import math

import keras
import numpy as np
import pytest

from keras_agalite.layers import LRUCell, StableHadamardMemoryCell
from keras_agalite.layers.fast_forgetful_memory import FastForgetfulMemoryBlock
from keras_agalite.layers.lru import LRUBlock, sample_ring
from keras_agalite.layers.mingru import MinGRUBlock
from keras_agalite.ops.gated_delta_rule import gated_delta_rule
from keras_agalite.ops.hadamard_memory import hadamard_memory, hashed_rows
from keras_agalite.ops.short_convolution import short_convolution
from tests.helpers import (
    BACKEND,
    compiled,
    gradients,
    largest_kept_array,
    random_starts,
    to_numpy,
)
from tests.layers.memories import (
    BATCH,
    BLOCKS,
    FEATURES,
    TIME,
    assert_close,
    make_memory,
    random_sequences,
    run,
    some_state,
)
from tests.oracles import assert_gradients_match, recurrences

# The memories that have an oracle.
RECURRENCES = [name for name in BLOCKS if hasattr(recurrences, name)]


@pytest.mark.parametrize("name", RECURRENCES)
def test_matches_the_oracle(name):
    time = 20  # more than a chunk
    blocks = 2 if name == "shm" else 1  # its blocks draw different rows
    memory = make_memory(name, num_layers=blocks, return_state=True)
    random = np.random.default_rng(0)
    for weight in memory.trainable_weights:
        weight.assign(weight + 0.3 * random.normal(size=weight.shape))
    start, state = random_starts(BATCH, time, 0.2), some_state(memory)
    mask = random.random((BATCH, time)) < 0.7
    arrays = [random_sequences(time), *state]

    def kept(x, *state):
        y, *final = memory(x, initial_state=list(state), start=start, mask=mask)
        return keras.ops.where(mask[:, :, None], y, 0.0), *final

    outputs, grads = gradients(kept, arrays, memory.trainable_weights)

    plain = functools.partial(
        recurrences.memory,
        block=getattr(recurrences, name),
        names=[w.path.split("cell/", 1)[1] for w in memory.trainable_weights],
        layers=blocks,
        start=start,
        mask=mask,
    )
    arrays += memory.get_weights()
    assert_close(outputs, plain(*arrays))
    assert_gradients_match(plain, arrays, grads)


def make_block(block, weights, features=1):
    """The block with these weights; those that are not named are left alone."""
    block.build((1, None, features))
    for name, value in weights.items():
        layer, _, weight = name.rpartition("/")
        variable = getattr(getattr(block, layer) if layer else block, weight)
        variable.assign(np.reshape(value, variable.shape))
    return block


def run_block(function, block, x):
    """What `block` or `block.mix` returns for one sequence, from an empty state."""
    x = np.reshape(x, (1, len(x), -1)).astype("float32")
    state = np.zeros((1, block.state_size), "float32")
    y, state = to_numpy(compiled(lambda *x: function(*x, None, None))(x, state))
    return y[0], state[0]


def test_mingru_by_hand():
    block = make_block(
        MinGRUBlock(1, 1, 1, embed=False),
        {
            "projection/kernel": [1, 1 / math.log(3)],
            "projection/bias": [0, 0],
            "mix_output/kernel": 2,
            "mix_output/bias": 1,
        },
    )

    y, state = run_block(block.mix, block, [math.log(3), 0, -math.log(3)])

    # z = 3/4, 1/2, 1/4 and c = g(1), g(0), g(-1) = 3/2, 1/2, 1 / (1 + e).
    h = [1.125, 0.8125, 0.75 * 0.8125 + 0.25 * 0.2689414]
    np.testing.assert_allclose(y[:, 0], 2 * np.array(h) + 1, rtol=1e-6)
    np.testing.assert_allclose(state, h[-1:], rtol=1e-6)


def test_lru_by_hand():
    block = make_block(
        LRUBlock(1, 1, 0.0, 1.0, 1.0, embed=False),
        {
            "nu_log": math.log(math.log(2)),
            "theta_log": math.log(math.pi / 2),
            "gamma_log": math.log(2),
            "input_projection/kernel": [1, 0],
            "state_projection/kernel": [1, 1],
            "feedthrough": 3,
            "gated_unit/kernel": [1, 0],
            "gated_unit/bias": [0, 100],
        },
    )

    y, state = run_block(block.mix, block, [1, 0, 0])

    # lambda = i/2, so h = 2, i, -1/2; C = 1 - i, so Re(C h) = 2, 1, -1/2.
    expected = [5 * 0.9999997, 0.8413447, -0.5 * 0.3085375]  # y times Phi(y)
    np.testing.assert_allclose(y[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(state, [-0.5, 0], atol=1e-6)


@pytest.mark.once
def test_lru_starts_in_its_ring():
    nu, theta, gamma = np.exp(sample_ring(np.random.default_rng(0), 500, 0.8, 0.9, 0.3))
    radius = np.exp(-nu)

    assert radius.min() > 0.8
    assert radius.max() < 0.9
    # Even in the ring's area: half of it lies within this radius.
    assert abs(np.mean(radius**2 < (0.8**2 + 0.9**2) / 2) - 0.5) < 0.1
    assert 0 < theta.min() < 0.01
    assert 0.29 < theta.max() < 0.3
    np.testing.assert_allclose(gamma**2 + radius**2, 1, rtol=1e-12)


@pytest.mark.once
@pytest.mark.parametrize(
    "arguments", [{"r_min": 1.0}, {"r_max": 1.5}, {"r_min": "0"}, {"max_phase": 0.0}]
)
def test_lru_refuses_what_is_no_ring(arguments):
    with pytest.raises(ValueError, match=r"must fit 0 <= r_min .* Received: r_min="):
        LRUCell(**arguments)


def test_fast_forgetful_memory_by_hand():
    block = make_block(
        FastForgetfulMemoryBlock(2, 1, 1, 1024),
        {
            "decay": -math.log(2),
            "frequency": math.pi / 2,
            "input_projection/kernel": 2,
            "input_gate/kernel": 0,
            "state_projection/kernel": [1, 0, 0, 1],
            "output_gate/kernel": [0, 0],
            "output_gate/bias": [math.log(3), math.log(3)],
            "skip/kernel": [0, 0],
            "skip/bias": [4, 8],
        },
    )

    y, state = run_block(block, block, [1, 0, 0])

    # S = 1, i/2, -1/4, and LN of two numbers says which is larger; the gate is 3/4.
    expected = [[1.75, 1.25], [0.25, 2.75], [0.25, 2.75]]
    np.testing.assert_allclose(y, expected, rtol=1e-3)
    np.testing.assert_allclose(state, [-0.25, 0], atol=1e-6)


def test_gated_delta_rule_by_hand():
    ones = np.ones((1, 2, 1, 2), "float32")
    arrays = [
        ones,
        ones * [[[[1, 0]], [[0.6, 0.8]]]],
        ones[..., :1] * [[[[4]], [[3]]]],
        ones[..., 0] / 2,
        ones[..., 0] * [[[1], [0.5]]],
        np.zeros((1, 1, 1, 2), "float32"),
    ]

    y, state = to_numpy(
        compiled(gated_delta_rule)(*(a.astype("float32") for a in arrays))
    )

    # S = [4, 0]; halved, it reads 1.2 for the next key, where 3 is to be written.
    np.testing.assert_allclose(state, [[[[2 + 0.9 * 0.6, 0.9 * 0.8]]]], rtol=1e-6)
    np.testing.assert_allclose(y[0, :, 0, 0], [4, 3.26], rtol=1e-6)


@pytest.mark.parametrize(
    ("start", "mask", "expected", "window"),
    [
        (None, None, [561, 612, 123], [2, 3]),
        ([0, 1, 0], None, [561, 2, 23], [2, 3]),
        ([0, 0, 1], None, [561, 612, 3], [0, 3]),
        ([1, 0, 0], [1, 0, 0], [1], [0, 1]),
        (None, [0, 0, 0], [], [5, 6]),
    ],
)
def test_short_convolution_by_hand(start, mask, expected, window):
    x = np.array([1, 2, 3], "float32").reshape(1, 3, 1)
    kernel = np.array([1, 10, 100], "float32")[:, None]
    before = np.array([5, 6], "float32").reshape(1, 2, 1)
    start, mask = (None if a is None else np.array([a], bool) for a in (start, mask))

    y, after = to_numpy(
        compiled(lambda *x: short_convolution(*x, start, mask))(x, kernel, before)
    )

    np.testing.assert_allclose(y[0, : len(expected), 0], expected)
    np.testing.assert_allclose(after[0, :, 0], window)


def test_hadamard_memory_by_hand():
    query = [[1, 0], [0.5, 0.5]]
    key = [[1, 0], [0.5, 0.5]]
    value = [[2, 4], [0, 1]]
    calibration = [[7, 7], [1, 1]]
    theta = [[7, 7], [math.atanh(0.5), 0]]
    arrays = [np.array([a], "float32") for a in (query, key, value, calibration, theta)]

    y, state = to_numpy(
        compiled(hadamard_memory)(*arrays, np.zeros((1, 2, 2), "float32"))
    )

    # M = [[2, 0], [4, 0]]; its first row, times 3/2, and the new product make the next.
    np.testing.assert_allclose(state[0], [[3, 0], [4.5, 0.5]], rtol=1e-6)
    np.testing.assert_allclose(y[0], [[2, 4], [1.5, 2.5]], rtol=1e-6)


@pytest.mark.parametrize("name", ["gated_delta_net", "shm"])
def test_no_matrix_is_kept_per_time_step(name):
    time, size = 512, 16
    shapes = {
        "gated_delta_net": [(time, 1, size)] * 3 + [(time, 1)] * 2 + [(1, size, size)],
        "shm": [(time, size)] * 5 + [(size, size)],
    }
    read = {"gated_delta_net": gated_delta_rule, "shm": hadamard_memory}[name]
    arrays = [np.ones((2, *shape), "float32") for shape in shapes[name]]

    def loss(*arrays):
        y, state = read(*arrays)
        return keras.ops.sum(y) + keras.ops.sum(state)

    assert largest_kept_array(loss, arrays) < 2 * time * size**2


@pytest.mark.skipif(BACKEND != "tensorflow", reason="shapes are static elsewhere")
@pytest.mark.parametrize("name", ["gated_delta_net", "shm"])
def test_unknown_sizes_in_tensorflow(name):
    import tensorflow as tf

    memory = make_memory(name)
    x, start = random_sequences(), random_starts(BATCH, TIME)
    mask = np.random.default_rng(1).random((BATCH, TIME)) < 0.7
    function = tf.function(
        lambda x, start, mask: memory(x, start=start, mask=mask),
        input_signature=[
            tf.TensorSpec((None, None, FEATURES)),
            tf.TensorSpec((None, None), tf.bool),
            tf.TensorSpec((None, None), tf.bool),
        ],
    )

    outputs = to_numpy(function(x, start, mask))

    assert_close(outputs, run(memory, x, start=start, mask=mask))


def test_rows_follow_from_clock_seed_and_block_alone():
    clock = np.concatenate([np.arange(2**15), [2**24 - 1]]).astype("int32")

    def draw(seed, block):
        return to_numpy(compiled(lambda c: hashed_rows(c, 128, seed, block))(clock))

    rows = draw(3, 1)
    places = [0, 1, 4095, 4096, 2**15 - 1, -1]
    expected = [recurrences.row_of(int(clock[i]), 128, 3, 1) for i in places]
    assert list(rows[places]) == expected
    # 256 of each, give or take four standard deviations.
    counts = np.bincount(rows, minlength=128)
    assert counts.min() > 190
    assert counts.max() < 320
    for other in (draw(4, 1), draw(3, 2), np.roll(rows, 4096)):
        assert np.mean(rows == other) < 0.02


def test_the_first_row_may_be_taken_always():
    memory = make_memory("shm", return_state=True)
    first = make_memory("shm", return_state=True, random_row=False)
    first.set_weights(memory.get_weights())
    x = random_sequences()
    outputs = run(first, x)

    assert np.abs(run(memory, x)[0] - outputs[0]).max() > 1e-4
    theta = memory.cell.blocks[0].theta
    theta.assign(np.repeat(to_numpy(theta.value)[:1], 5, axis=0))
    assert_close(run(memory, x), outputs)


@pytest.mark.once
@pytest.mark.parametrize("seed", [-1, 1.0, True, None])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(ValueError, match=r"`seed` must be .* Received: seed="):
        StableHadamardMemoryCell(seed=seed)
