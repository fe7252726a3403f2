"""The memories whose recurrence is simple: all against oracles, each by hand."""

import functools
import math

import keras
import numpy as np
import pytest

from keras_agalite.layers import LRU, LRUBlock, LRUCell, MinGRUBlock
from tests.helpers import compiled, gradients, random_starts, to_numpy
from tests.layers import oracles
from tests.layers.memories import (
    BATCH,
    assert_close,
    make_memory,
    random_sequences,
    some_state,
)
from tests.oracle import assert_gradients_match

RECURRENCES = ("mingru", "lru")


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", RECURRENCES)
def test_matches_the_oracle(name, masked):
    time = 20 if masked else 3
    memory = make_memory(name, num_layers=2, return_state=True)
    random = np.random.default_rng(0)
    for weight in memory.trainable_weights:
        weight.assign(weight + 0.3 * random.normal(size=weight.shape))
    start, state = random_starts(BATCH, time, 0.2), some_state(memory)
    mask = random.random((BATCH, time)) < 0.7 if masked else None
    arrays = [random_sequences(time), *state]

    def run(x, *state):
        y, *final = memory(x, initial_state=list(state), start=start, mask=mask)
        return y if mask is None else keras.ops.where(mask[:, :, None], y, 0.0), *final

    outputs, grads = gradients(run, arrays, memory.trainable_weights)

    plain = functools.partial(
        oracles.memory,
        block=getattr(oracles, name),
        names=[w.path.split("cell/", 1)[1] for w in memory.trainable_weights],
        layers=2,
        start=start,
        mask=np.ones((BATCH, time), bool) if mask is None else mask,
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


def mix(block, x):
    """What the recurrence of the block adds to the stream, and its last state."""
    x = np.reshape(x, (1, len(x), -1)).astype("float32")
    state = np.zeros((1, block.state_size), "float32")
    run = compiled(lambda x, state: block.mix(x, state, None, None))
    y, state = to_numpy(run(x, state))
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

    y, state = mix(block, [math.log(3), 0, -math.log(3)])

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

    y, state = mix(block, [1, 0, 0])

    # lambda = i/2, so h = 2, i, -1/2; C = 1 - i, so Re(C h) = 2, 1, -1/2.
    expected = [5 * 0.9999997, 0.8413447, -0.5 * 0.3085375]  # y times Phi(y)
    np.testing.assert_allclose(y[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(state, [-0.5, 0], atol=1e-6)


def test_lru_starts_in_its_ring():
    layer = LRU(1, 4, 500, r_min=0.8, r_max=0.9, max_phase=0.3)
    layer.build((None, None, 2))
    block = layer.cell.blocks[0]
    nu, theta, gamma = (
        np.exp(to_numpy(w.value))
        for w in (block.nu_log, block.theta_log, block.gamma_log)
    )
    radius = np.exp(-nu)

    assert radius.min() > 0.8
    assert radius.max() < 0.9
    # Even in the ring's area: half of it lies within this radius.
    assert abs(np.mean(radius**2 < (0.8**2 + 0.9**2) / 2) - 0.5) < 0.1
    assert 0 < theta.min() < 0.01
    assert 0.29 < theta.max() < 0.3
    np.testing.assert_allclose(gamma**2 + radius**2, 1, rtol=1e-5)


@pytest.mark.parametrize(
    "ring", [{"r_min": 1.0}, {"r_max": 1.5}, {"r_min": "0"}, {"max_phase": 0.0}]
)
def test_lru_refuses_what_is_no_ring(ring):
    with pytest.raises(ValueError, match=r"must fit 0 <= r_min .* Received: r_min="):
        LRUCell(**ring)
