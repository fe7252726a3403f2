"""Released policies act as they did when they were released, seed for seed."""

import json

import numpy as np
import pytest

from tests.zoo.make_golden_actions import FILE, RELEASED, play

GOLDEN = json.loads(FILE.read_text())


def test_every_released_policy_has_a_record():
    assert sorted(GOLDEN) == sorted(RELEASED)


@pytest.mark.parametrize("name", GOLDEN)
def test_a_released_policy_acts_as_ever(name):
    received, expected = play(name), GOLDEN[name]

    for key, values in expected.items():  # actions may be continuous
        np.testing.assert_allclose(received[key], values, 1e-4, 1e-4, err_msg=key)
