import numpy as np
import pytest

from keras_agalite.layers import TrMRLCell
from keras_agalite.layers.trmrl import FixupInitializer
from tests.layers.memories import assert_close, make_memory, random_sequences, run


@pytest.mark.once
@pytest.mark.parametrize("num_layers", [1, 3])
def test_a_step_depends_on_its_window_alone(num_layers):
    memory = make_memory("trmrl", num_layers=num_layers)
    x = random_sequences()
    other = x.copy()
    other[:, 0] += 1.0

    change = np.abs(run(memory, other) - run(memory, x)).max(axis=(0, 2))

    # The window is 4, and the places of all its tokens are as they were.
    np.testing.assert_array_equal(change[4:], 0.0)
    assert change[:4].min() > 1e-4


@pytest.mark.once
def test_a_token_ages():
    """The same tokens in other places of the window read otherwise."""
    memory = make_memory("trmrl")
    x = np.repeat(random_sequences(1), 5, axis=1)

    y = run(memory, x)

    assert np.abs(np.diff(y[:, :4], axis=1)).max(axis=2).min() > 1e-5
    assert_close(y[:, 4], y[:, 3])


@pytest.mark.once
def test_a_window_of_one_is_refused():
    with pytest.raises(ValueError, match=r"`window` must be at least 2.*window=1"):
        TrMRLCell(window=1)


@pytest.mark.once
def test_heads_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"multiple of num_heads.*=10, num_heads=4"):
        TrMRLCell(hidden_dim=10)


@pytest.mark.once
def test_fixup_draws_each_matrix_for_itself():
    values = np.asarray(FixupInitializer(16, parts=2, seed=0)((50, 100)))

    # 0.67 N^(-1/4) sqrt(6 / (fan-in + fan-out)), of each half alone.
    limit = 0.67 / 2 * np.sqrt(6 / 100)
    for half in np.split(values, 2, axis=1):
        assert 0.99 * limit < np.abs(half).max() <= limit * (1 + 1e-6)
    assert np.abs(values[:, :50] - values[:, 50:]).max() > limit
