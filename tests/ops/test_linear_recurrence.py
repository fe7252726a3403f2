import numpy as np
import pytest

from keras_agalite.ops import linear_recurrence
from tests.helpers import gradients, random_starts, traced
from tests.oracles import assert_gradients_match, naive


@pytest.mark.parametrize(
    ("time", "masked"),
    [*((time, False) for time in (1, 2, 3, 7, 63, 64, 100)), (7, True), (64, True)],
)
def test_matches_the_oracle(time, masked):
    random = np.random.default_rng(time)
    start = random_starts(2, time)
    mask = random.random((2, time)) < 0.7 if masked else None
    arrays = [
        random.uniform(0.5, 1.0, (2, time, 3, 2)).astype("float32"),
        random.normal(size=(2, time, 3, 2)).astype("float32"),
        random.normal(size=(2, 3, 2)).astype("float32"),
    ]

    outputs, grads = gradients(
        traced(lambda *x: linear_recurrence(*x, start=start, mask=mask)), arrays
    )

    def oracle(*x):
        return naive.linear_recurrence(*x, start, mask)

    for ours, theirs in zip(outputs, oracle(*arrays), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert_gradients_match(oracle, arrays, grads)


def test_without_a_start_the_state_goes_through():
    states, final = linear_recurrence(
        np.full((1, 3), 0.5, "float32"),
        np.ones((1, 3), "float32"),
        np.full((1,), 4.0, "float32"),
    )
    np.testing.assert_allclose(states, [[3.0, 2.5, 2.25]])
    np.testing.assert_allclose(final, [2.25])


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"same shape.*Received: decay.shape=\(1, 2"):
        linear_recurrence(np.ones((1, 2, 3)), np.ones((1, 2, 4)), np.ones((1, 3)))
