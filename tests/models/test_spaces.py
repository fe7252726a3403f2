import json

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given

from keras_agalite.models import MLPEncoder
from keras_agalite.models.spaces import space_from_config, space_to_config
from tests.models.conftest import NESTED
from tests.models.strategies import SPACES, few_examples

pytestmark = pytest.mark.once


@few_examples
@given(SPACES)
def test_a_space_survives_json(space):
    text = json.dumps(space_to_config(space), allow_nan=False)

    received = space_from_config(json.loads(text))

    assert received == space
    assert received.dtype == space.dtype
    assert received.shape == space.shape


@pytest.mark.parametrize(
    "space",
    [
        spaces.Text(3),
        spaces.Sequence(spaces.Discrete(2)),
        spaces.Tuple([spaces.Discrete(2), spaces.Text(3)]),
        spaces.Dict({"a": spaces.Dict({"b": spaces.Text(3)})}),
        "Discrete(3)",
        None,
    ],
    ids=str,
)
def test_other_spaces_are_refused(space):
    with pytest.raises(ValueError, match="Received: space="):
        space_to_config(space)


@pytest.mark.parametrize(
    ("space", "reason"),
    [
        (spaces.Dict({0: spaces.Discrete(2)}), "keys are not all text.*rename them"),
        (spaces.Dict({}), "no part"),
        (spaces.Tuple([]), "no part"),
        (spaces.Box(0.0, 1.0, (0, 3), np.float32), "no element"),
        (spaces.MultiDiscrete([]), "no element"),
        (spaces.Box(0, 9, (2,), np.uint64), "use uint32, int64 or float32"),
        (spaces.Dict({"action_mask": spaces.MultiBinary(3)}), "more than its `action"),
        (spaces.Discrete(10**9), "more than 4,194,304 elements"),
        (spaces.Discrete(3, start=2**40), "its start is no number of 32 bits"),
    ],
    ids=str,
)
def test_a_policy_says_why_it_refuses_a_space(space, reason):
    with pytest.raises(ValueError, match=f"Received: .*{reason}|{reason}.*Received"):
        MLPEncoder(space)


BOX = {"type": "Box", "shape": [2], "dtype": "float32", "low": 0.0, "high": 1.0}


@pytest.mark.parametrize(
    "config",
    [
        None,
        [],
        "Box",
        {},
        {"type": "Text"},
        {"type": ["Box"]},
        {"type": "Box"},
        {**BOX, "shape": 2},
        {**BOX, "shape": "ab"},
        {**BOX, "shape": [-2]},
        {**BOX, "dtype": "nonsense"},
        {**BOX, "dtype": "object"},
        {**BOX, "dtype": "uint8", "low": -1},
        {**BOX, "low": None},
        {**BOX, "low": "low"},
        {**BOX, "high": [1.0, 2.0, 3.0]},
        {"type": "Discrete", "n": 3},
        {"type": "Discrete", "n": 0, "start": 0},
        {"type": "Discrete", "n": "3", "start": 0},
        {"type": "Discrete", "n": 10**30, "start": 0},
        {"type": "MultiDiscrete", "nvec": [2, 0]},
        {"type": "MultiDiscrete", "nvec": "ab"},
        {"type": "MultiDiscrete", "nvec": [10**30]},
        {"type": "MultiDiscrete", "nvec": [2, 3], "start": [0, 0]},
        {"type": "MultiDiscrete", "nvec": [2, 3], "start": [1]},
        {"type": "MultiDiscrete", "nvec": [2, 3], "start": [2**40, 0]},
        {"type": "MultiDiscrete", "nvec": [2, 3], "start": "ab"},
        {"type": "MultiDiscrete", "nvec": [[2, 3], [4]]},
        {"type": "MultiDiscrete", "nvec": [2], "dtype": "float32"},
        {"type": "MultiDiscrete", "nvec": [2], "dtype": "int64"},
        {"type": "Discrete", "n": 3, "start": 0, "dtype": "O"},
        {"type": "Tuple", "spaces": []},
        {"type": "Tuple", "spaces": {"a": BOX}},
        {"type": "Tuple", "spaces": [{"type": "Text"}]},
        {"type": "MultiBinary", "n": -1},
        {"type": "MultiBinary", "n": "x"},
        {"type": "Dict", "spaces": [BOX]},
        {"type": "Dict", "spaces": {"a": {"type": "Box"}}},
        {"type": "Dict", "spaces": {"a": None}},
    ],
    ids=str,
)
def test_malformed_descriptions_are_refused(config):
    with pytest.raises(ValueError, match="Expected the description of a space"):
        space_from_config(config)


def test_a_description_says_what_the_space_is():
    assert space_to_config(NESTED)["spaces"]["view"] == {
        "type": "Dict",
        "spaces": {
            "compass": {"type": "Discrete", "n": 4, "start": 1},
            "image": {
                "type": "Box",
                "shape": [7, 6, 3],
                "dtype": "uint8",
                "low": 0,
                "high": 255,
            },
        },
    }
