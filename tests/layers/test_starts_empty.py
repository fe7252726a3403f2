"""A start empties a state whatever it holds, NaN and infinity included."""

import numpy as np
import pytest
from keras import ops, tree

from tests.helpers import gradients
from tests.layers.memories import (
    BATCH,
    TIME,
    assert_close,
    every_memory,
    make_memory,
    random_sequences,
    run,
    some_state,
)

BROKEN = np.array([np.nan, np.inf, -np.inf], "float32")


def broken_state(memory):
    return tree.map_structure(
        lambda s: np.resize(BROKEN, s.shape), memory.initial_state(BATCH)
    )


@every_memory
@pytest.mark.parametrize("time", [1, TIME])
def test_what_a_state_held_is_gone(name, time):
    memory = make_memory(name, return_state=True)
    x, start = random_sequences(time), np.zeros((BATCH, time), bool)
    start[:, 0] = True

    received = run(memory, x, initial_state=broken_state(memory), start=start)

    # An even clock of AGaLiTe, as a new one: it runs on, and decides on signs.
    other = some_state(memory, clock=2)
    y, *state = run(memory, x, initial_state=other, start=start)
    np.testing.assert_array_equal(received[0], y)
    for a, b in zip(tree.flatten(received[1:]), tree.flatten(state), strict=True):
        np.testing.assert_array_equal(a[:, :-1], b[:, :-1])  # all but the clock
        assert np.all(np.isfinite(a))


def run_both(memory, first, second, **options):
    """What a run of each of two batches gives; they are the rows of one call."""

    def half(i):
        return tree.map_structure(lambda a: np.split(a, 2)[i], outputs)

    outputs = run(memory, np.concatenate([first, second]), **options)
    return half(0), half(1)


@every_memory
@pytest.mark.parametrize("masked", [False, True])
def test_what_earlier_steps_read_is_gone(name, masked):
    memory = make_memory(name, return_state=True)
    x, start = random_sequences(20), np.zeros((BATCH, 20), bool)
    start[0, 3] = start[1, 17] = True  # row 1 in the second chunk of a scan
    mask = np.random.default_rng(0).random((BATCH, 20)) < 0.7
    mask[0, 3] = mask[1, 17] = True
    late = [(0, slice(3, None)), (1, slice(17, None))]
    bad = x.copy()
    bad[0, 1] = bad[1, 10] = np.resize(BROKEN, x.shape[-1])
    mask[0, 1] = mask[1, 10] = True

    flags = {"start": start, "mask": mask} if masked else {"start": start}
    flags = {name: np.tile(flag, (2, 1)) for name, flag in flags.items()}

    (received, *state), (expected, *expected_state) = run_both(memory, bad, x, **flags)

    for where in late:
        assert_close(received[where], expected[where])
    assert_close(state, expected_state)
    assert np.all(np.isnan(received[0, 1]))  # before it, it shows


@every_memory
def test_what_masked_steps_hold_is_not_read(name):
    memory = make_memory(name, return_state=True)
    x, mask = random_sequences(), np.ones((BATCH, TIME), bool)
    mask[0, 2] = mask[1, 0] = mask[1, -1] = False
    bad = np.where(mask[:, :, None], x, np.float32(np.nan))

    assert_close(*run_both(memory, bad, x, mask=np.tile(mask, (2, 1))))


@every_memory
@pytest.mark.parametrize("time", [1, TIME])
def test_no_gradient_reaches_what_was_emptied(name, time):
    memory = make_memory(name, return_state=True)
    x, start = random_sequences(time), np.zeros((BATCH, time), bool)
    start[:, 0] = True

    def function(x, *state):
        state = tree.pack_sequence_as(memory.initial_state(BATCH), list(state))
        y, *final = memory(x, initial_state=state, start=start)
        # AGaLiTe's clock is no number that gradients flow through.
        return y, [ops.reshape(s[:, :-1], (-1,)) for s in tree.flatten(final)]

    broken = tree.flatten(broken_state(memory))
    _, grads = gradients(function, [x, *broken], memory.trainable_weights)

    assert all(np.all(np.isfinite(g)) for g in grads)
    for grad in grads[1 : 1 + len(broken)]:
        np.testing.assert_array_equal(grad[:, :-1], 0.0)
