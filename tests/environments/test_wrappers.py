import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from keras_agalite.environments import PreviousActionReward, TMaze

pytestmark = pytest.mark.once

ACTION_SPACES = {
    "discrete": (spaces.Discrete(3), 1, [0, 1, 0]),
    "discrete_from_2": (spaces.Discrete(3, start=2), 3, [0, 1, 0]),
    "multi_discrete": (spaces.MultiDiscrete([2, 3]), [1, 2], [0, 1, 0, 0, 1]),
    "multi_discrete_from": (
        spaces.MultiDiscrete([2, 3], start=[1, -3]),
        [2, -1],
        [0, 1, 0, 0, 1],
    ),
    "multi_binary": (spaces.MultiBinary((2, 1)), [[0], [1]], [0, 1]),
    "box": (
        spaces.Box(-1.0, 1.0, (2, 2), np.float64),
        [[0.5, -0.5], [0.25, 1.0]],
        [0.5, -0.5, 0.25, 1.0],
    ),
}
OBSERVATION_SPACES = {
    "box": spaces.Box(-1.0, 1.0, (2,), np.float32),
    "discrete": spaces.Discrete(5),
    "dict": spaces.Dict({"a": spaces.Discrete(5), "b": spaces.MultiBinary(2)}),
}


class Environment(gymnasium.Env):
    """Random observations; the n-th step earns n / 2."""

    def __init__(self, observation_space, action_space):
        self.observation_space = observation_space
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {"options": options}

    def step(self, action):
        assert self.action_space.contains(action)
        self.steps += 1
        return self.observation_space.sample(), self.steps / 2, False, False, {"a": 1}


@pytest.mark.parametrize("action_space", ACTION_SPACES)
@pytest.mark.parametrize("observation_space", OBSERVATION_SPACES)
def test_it_adds_the_previous_action_and_reward(observation_space, action_space):
    space = OBSERVATION_SPACES[observation_space]
    action_space, action, flat = ACTION_SPACES[action_space]
    action = np.array(action, action_space.dtype)
    plain = Environment(space, action_space)
    env = PreviousActionReward(Environment(space, action_space))

    expected, _ = plain.reset(seed=0)
    observation, info = env.reset(seed=0, options={"a": 2})

    def check(observation, expected, previous_action, previous_reward):
        assert env.observation_space.contains(observation)
        parts = dict(observation)
        for name, value in [
            ("previous_action", previous_action),
            ("previous_reward", previous_reward),
        ]:
            part = parts.pop(name)
            assert part.dtype == np.float32
            np.testing.assert_array_equal(part, value)
        expected = (
            expected if isinstance(space, spaces.Dict) else {"observation": expected}
        )
        assert parts.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(parts[name], value)

    check(observation, expected, np.zeros(len(flat)), [0.0])
    assert info == {"options": {"a": 2}}
    space.seed(1)
    expected = [space.sample() for _ in range(2)]
    space.seed(1)
    for n in range(2):
        observation, reward, terminated, truncated, info = env.step(action)
        assert (reward, info) == ((n + 1) / 2, {"a": 1})
        assert not terminated
        assert not truncated
        check(observation, expected[n], flat, [(n + 1) / 2])
    observation, _ = env.reset()
    assert not observation["previous_action"].any()
    assert not observation["previous_reward"].any()


@pytest.mark.parametrize("name", ["previous_action", "previous_reward"])
def test_keys_that_are_taken_are_refused(name):
    space = spaces.Dict({"a": spaces.Discrete(2), name: spaces.Discrete(2)})

    with pytest.raises(ValueError, match=r"without the keys .* Received: keys="):
        PreviousActionReward(Environment(space, spaces.Discrete(2)))


def test_a_wrapped_environment_cannot_be_wrapped_again():
    with pytest.raises(ValueError, match="Received: keys="):
        PreviousActionReward(PreviousActionReward(TMaze()))


# A reward and a Box action may be anything, so infinite bounds are right here.
@pytest.mark.filterwarnings("ignore:.*different from the unwrapped version")
@pytest.mark.filterwarnings("ignore:.*(minimum|maximum) value is -?infinity")
def test_gymnasium_finds_no_fault():
    check_env(PreviousActionReward(TMaze()), skip_render_check=True)
