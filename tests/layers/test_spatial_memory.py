import numpy as np
import pytest

from keras_agalite.layers import SpatialMemoryCell
from tests.layers.memories import (
    BATCH,
    assert_close,
    make_memory,
    random_sequences,
    run,
)


@pytest.mark.once
@pytest.mark.parametrize("strategy", ["fifo", "lifo", "lvfo", "mvfo"])
def test_what_went_is_not_read(strategy):
    """One visit of place 1, three of place 2, two of place 3; four items fit."""
    memory = make_memory("spatial", strategy=strategy, num_chunks=4)
    x = np.repeat(random_sequences(6)[:1], 6, axis=0)
    x[:, :, -1] = [2, 1, 2, 2, 3, 3]
    for t in range(5):  # row 0 is as it is, in each other one an item is another
        x[t + 1, t, :-1] += 1.0
    gone = {"fifo": [0, 1], "lifo": [4], "lvfo": [1, 4], "mvfo": [0, 2]}[strategy]

    y = run(memory, x)[:, -1]

    change = np.abs(y[1:] - y[0]).max(axis=1)
    assert list(np.flatnonzero(change < 1e-6)) == gone


@pytest.mark.once
def test_places_and_times_are_read():
    memory = make_memory("spatial", return_state=True)
    x = random_sequences(3)
    x[:, :, -1] = 1
    other = x.copy()
    other[:, 0, -1] = 2

    y, state = run(memory, x)

    assert np.abs(run(memory, other)[0][:, 0] - y[:, 0]).max() > 1e-4
    size = 4 * 8
    np.testing.assert_array_equal(state[:, size : size + 4], [[1, 1, 1, 0]] * BATCH)
    np.testing.assert_array_equal(state[:, size + 4 :], [[0, 1, 2, 0, 3, 3]] * BATCH)


@pytest.mark.once
def test_a_place_is_a_whole_number():
    memory = make_memory("spatial")
    x = random_sequences()
    rounded = x.copy()
    rounded[..., -1] = np.round(rounded[..., -1])

    assert_close(run(memory, x), run(memory, rounded))


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strategy": "lru"}, r"one of fifo, lifo, lvfo, mvfo\. .*strategy='lru'"),
        ({"hidden_dim": 9, "num_heads": 3}, r"must be even.*hidden_dim=9"),
        ({"hidden_dim": 10}, r"multiple of num_heads.*=10, num_heads=4"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SpatialMemoryCell(**arguments)


@pytest.mark.once
def test_an_input_without_a_place_is_refused():
    memory = make_memory("spatial")
    fresh = type(memory)(**memory.cell_config)

    with pytest.raises(ValueError, match=r"at least two numbers.*features=1"):
        fresh.build((None, None, 1))
