import numpy as np
import pytest

from keras_agalite.layers import MemformerCell
from tests.layers.memories import (
    TIME,
    assert_close,
    make_memory,
    random_sequences,
    run,
)


@pytest.mark.once
@pytest.mark.parametrize("value", [0, 1, 1.5, True, "0.5"])
def test_a_temperature_that_is_none_is_refused(value):
    with pytest.raises(ValueError, match=r"`temperature` must .* Received: temper"):
        MemformerCell(temperature=value)


@pytest.mark.once
def test_heads_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"multiple of num_heads.*=10, num_heads=4"):
        MemformerCell(hidden_dim=10)


@pytest.mark.once
def test_nothing_is_written_before_a_segment_ends():
    single = make_memory("memformer", segment_length=1, return_state=True)
    long = make_memory("memformer", segment_length=TIME, return_state=True)
    long.set_weights(single.get_weights())
    x = random_sequences()

    y, written = run(single, x)
    long_y, *ended = run(long, x)
    _, open_segment = run(long, x[:, :-1])

    # The first token of a segment reads the slots alone.
    assert_close(long_y[:, 0], y[:, 0])
    assert np.abs(long_y[:, 1] - y[:, 1]).max() > 1e-3
    np.testing.assert_array_equal(open_segment[:, : written.shape[1]], 0.0)
    np.testing.assert_array_equal(open_segment[:, -1], TIME - 1)
    assert np.abs(ended[0][:, : written.shape[1]]).min() > 0.0
    np.testing.assert_array_equal(ended[0][:, written.shape[1] :], 0.0)
