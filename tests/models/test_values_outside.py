"""Observations that their space cannot hold are refused, not cast to others."""

import re

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from keras_agalite.layers import Memoryless
from keras_agalite.models import MemoryPolicy, MLPEncoder
from keras_agalite.models.observations import to_array
from tests.models.strategies import CATEGORICAL, PARTS, few_examples

pytestmark = pytest.mark.once

IMAGE = spaces.Box(0, 255, (2, 2, 1), np.uint8)
CASES = [
    (IMAGE, np.full((1, 2, 2, 1), 0.5), "0.5 in image (of dtype float64)"),
    (IMAGE, np.full((1, 2, 2, 1), 300), "300 in image"),
    (IMAGE, np.full((1, 2, 2, 1), -1), "-1 in image"),
    (IMAGE, np.full((1, 2, 2, 1), np.nan), "nan in image"),
    (IMAGE, np.full((1, 2, 2, 1), 2**70, object), "1.18"),
    (spaces.Discrete(3), [7], "7 in image"),
    (spaces.Discrete(3), [-1], "-1 in image"),
    (spaces.Discrete(3), [1.5], "1.5 in image"),
    (spaces.Discrete(3, start=2), [1], "1 in image"),
    (spaces.MultiDiscrete([2, 3]), [[1, 3]], "3 in image"),
    (spaces.MultiBinary(2), [[0, 2]], "2 in image"),
    (spaces.Box(0, 1, (1,), np.uint64), [[-1]], "-1 in image"),
    (spaces.Box(-(2**40), 2**40, (1,), np.int64), [[2**33]], "8589934592 in image"),
    (spaces.Box(-1, 1, (1,), np.float16), [[1e9]], "1000000000.0 in image"),
    (spaces.Box(-1, 1, (1,), np.float32), [["left"]], "image="),
    (spaces.Discrete(3), [10**400], "image="),
]


@pytest.mark.parametrize(("space", "observation", "message"), CASES)
def test_what_a_space_cannot_hold_is_refused(space, observation, message):
    with pytest.raises(ValueError, match=f"Received: .*{re.escape(message)}"):
        to_array(space, observation, "image")


@few_examples
@given(PARTS, st.sampled_from([np.float64, np.int64, np.object_]))
def test_what_a_cast_keeps_is_taken(space, dtype):
    space.seed(0)
    sample = np.asarray(space.sample())[None]
    if space.dtype == np.int64 and np.any(np.abs(sample) >= 2**31):
        sample = np.zeros_like(sample)  # beyond what all backends have
    observation = sample.astype(dtype, casting="unsafe")
    kept = np.array_equal(observation, sample)

    x = to_array(space, observation if kept else sample, "part")

    assert x.dtype == space.dtype
    np.testing.assert_array_equal(x, sample)


@few_examples
@given(CATEGORICAL, st.integers(-9, 12) | st.integers() | st.floats())
def test_a_category_is_taken_as_it_is_or_refused(space, number):
    observation = np.full((1, *space.shape), number, np.object_)
    legal = np.isfinite(float(number)) and number == int(number)
    legal = legal and abs(number) < 2**31
    if legal:
        one = np.full(space.shape, int(number)).astype(space.dtype)
        legal = np.all(one == number) and space.contains(one if one.shape else one[()])
    if legal:
        assert np.all(to_array(space, observation, "part") == number)
    else:
        with pytest.raises(ValueError, match="Received: "):
            to_array(space, observation, "part")


def test_bounds_of_floats_are_not_insisted_on():
    space = spaces.Box(-1, 1, (2,), np.float32)
    for observation in ([[0.1, 2]], [[np.nan, np.inf]]):
        x = to_array(space, observation, "part")
        assert x.dtype == np.float32
        np.testing.assert_array_equal(x, np.asarray(observation, np.float32))


def test_a_policy_says_where():
    space = spaces.Dict({"view": spaces.Dict({"room": spaces.Discrete(3)})})
    policy = MemoryPolicy(MLPEncoder(space), Memoryless(4), spaces.Discrete(2))
    with pytest.raises(ValueError, match="7 in view/room"):
        policy.act({"view": {"room": [7]}}, policy.initial_state(1))


def test_parts_of_other_lengths_are_refused():
    space = spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Discrete(3)})
    policy = MemoryPolicy(MLPEncoder(space), Memoryless(4), spaces.Discrete(2))
    with pytest.raises(ValueError, match=r"parts of \(2, 3\) and of \(1, 3\)"):
        policy({"a": np.zeros((2, 3), int), "b": np.zeros((1, 3), int)})
