"""Environments that go wrong are told by index, seed and step."""

import dataclasses

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from tests.training.faulty import NAME
from training.envs.checks import CheckedVectorEnv, problem
from training.envs.make import make_environments
from training.errors import EnvironmentFault
from training.recipe import Recipe

pytestmark = pytest.mark.once

RECIPE = Recipe(
    name="faulty",
    environment=NAME,
    total_steps=1,
    num_environments=3,
    num_minibatches=1,
)
WRONG = {
    "nan": "the observation is NaN or infinite: nan",
    "infinite": "the observation is NaN or infinite: inf",
    "shape": r"should have the shape \(2,\), not \(1,\)",
    "dtype": "should be of dtype float32, not float64",
    "reward": "the reward is nan",
    "raise": "the simulator broke",
}


def failing(fault, mode="sync", **keys):
    """Environment 1, seeded with 11, fails in its 8th step: the second episode's."""
    arguments = {"fault": fault, "at": 8, "only": 11}
    recipe = dataclasses.replace(RECIPE, vectorization_mode=mode, **keys)
    recipe = dataclasses.replace(recipe, environment_arguments=arguments)
    return make_environments(recipe, 3)


def step_until_it_ends(vector, steps=20):
    try:
        vector.reset(seed=10)
        for _ in range(steps):
            vector.step(np.zeros(3, int))
    finally:
        vector.close()


@pytest.mark.parametrize("fault", WRONG)
def test_a_fault_is_told_with_index_seed_and_step(fault):
    where = r"Environment 1 \(last seeded with 11\), step 2 of its episode and 8 of all"
    with pytest.raises(EnvironmentFault, match=f"(?s){where}.*{WRONG[fault]}"):
        step_until_it_ends(failing(fault))


def test_what_is_waited_for_is_told_once(capfd):
    vector = failing("slow", worker_timeout=0.2)
    step_until_it_ends(vector)
    told = capfd.readouterr().err.splitlines()
    where = "Environment 1 (last seeded with 11), step 2 of its episode and 8 of all"
    (line,) = told
    assert line.startswith(f"{where}: it has been at work for 0.2 seconds")


@pytest.mark.parametrize("fault", ["nan", "shape"])
def test_a_worker_with_wrong_data_is_not_replaced(fault):
    with pytest.raises(EnvironmentFault, match=f"Environment 1 .*{WRONG[fault]}"):
        step_until_it_ends(failing(fault, "async"))


def test_what_is_right_passes():
    step_until_it_ends(failing(""))


class Batch(gymnasium.vector.VectorEnv):
    """Environments that one program steps, with what it is told to return."""

    def __init__(self, observation, reward):
        self.num_envs = 3
        self.single_observation_space = spaces.Box(-9, 9, (2,), np.float32)
        self.single_action_space = spaces.Discrete(2)
        self.observation_space = gymnasium.vector.utils.batch_space(
            self.single_observation_space, 3
        )
        self.result = observation, reward

    def reset(self, *, seed=None, options=None):
        return np.zeros((3, 2), np.float32), {}

    def step(self, actions):
        ended = np.zeros(3, bool)
        return *self.result, ended, ended, {}


@pytest.mark.parametrize(
    ("row", "dtype", "reward", "message"),
    [
        ([0, np.nan], np.float32, 0, "Environment 2 .*seeded with 5.*step 1 .*nan"),
        ([0, 0], np.float32, np.inf, "Environment 1 .*the reward is inf"),
        ([0, 0], np.float64, 0, "Environments .*dtype float32, not float64"),
    ],
)
def test_one_program_with_wrong_data(row, dtype, reward, message):
    observation = np.array([[0, 0], [0, 0], row], dtype)
    vector = CheckedVectorEnv(Batch(observation, np.array([0, reward, 0])))
    vector.reset(seed=5)
    with pytest.raises(EnvironmentFault, match=message):
        vector.step(np.zeros(3))


def test_a_dict_is_checked_in_its_parts():
    box = spaces.Box(-1, 1, (1,), np.float32)
    space = spaces.Dict(a=box, b=spaces.Dict(c=box, d=spaces.Discrete(3)))
    one = np.zeros(1, np.float32)
    right = {"a": one, "b": {"c": one, "d": 2}}
    assert problem(space, right) is None
    assert "keys ['a', 'b']" in problem(space, {"a": one})
    assert "observation b c is NaN" in problem(
        space, {"a": one, "b": {"c": one * np.nan, "d": 2}}
    )
    assert "observation b d should be of dtype" in problem(
        space, {"a": one, "b": {"c": one, "d": 2.0}}
    )
