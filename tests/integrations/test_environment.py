import gymnasium
import numpy as np
import pytest

from keras_agalite.integrations.tf_agents import GymnasiumEnvironment

# isort: split
from tf_agents.environments import utils
from tf_agents.trajectories import StepType

from tests.integrations.setup import Counter, tmazes


def counters(number, **kwargs):
    return gymnasium.vector.SyncVectorEnv([Counter] * number, **kwargs)


def test_one_environment_is_a_valid_py_environment():
    env = gymnasium.make("keras_agalite/TMaze-v0", corridor_length=3)
    utils.validate_py_environment(GymnasiumEnvironment(env, seed=0), episodes=3)


@pytest.mark.parametrize("action", [1, 2])
def test_only_termination_ends_with_discount_zero(action):
    env = GymnasiumEnvironment(Counter())
    env.reset()
    env.step(np.int64(0))
    step = env.step(np.int64(action))
    assert step.step_type == StepType.LAST
    assert step.discount == (0.0 if action == 1 else 1.0)
    assert step.reward == 2.0
    np.testing.assert_array_equal(step.observation, [2.0])


def test_a_step_after_the_last_resets_and_ignores_the_action():
    env = GymnasiumEnvironment(Counter())
    env.reset()
    env.step(np.int64(1))
    step = env.step(np.int64(1))
    assert step.step_type == StepType.FIRST
    assert (step.reward, step.discount) == (0.0, 1.0)
    np.testing.assert_array_equal(step.observation, [0.0])


def test_rows_of_a_vector_end_and_begin_on_their_own():
    env = GymnasiumEnvironment(counters(3))
    env.reset()
    first, mid, last = StepType.FIRST, StepType.MID, StepType.LAST
    step = env.step(np.array([0, 1, 2]))
    np.testing.assert_array_equal(step.step_type, [mid, last, last])
    np.testing.assert_array_equal(step.discount, [1.0, 0.0, 1.0])
    np.testing.assert_array_equal(step.observation[:, 0], [1.0, 1.0, 1.0])
    step = env.step(np.array([2, 1, 1]))
    np.testing.assert_array_equal(step.step_type, [last, first, first])
    np.testing.assert_array_equal(step.observation[:, 0], [2.0, 0.0, 0.0])
    np.testing.assert_array_equal(step.reward, [2.0, 0.0, 0.0])
    step = env.step(np.array([0, 0, 0]))
    np.testing.assert_array_equal(step.step_type, [first, mid, mid])


def test_observations_are_copies():
    env = GymnasiumEnvironment(counters(1))
    before = env.reset().observation
    env.step(np.array([0]))
    np.testing.assert_array_equal(before, [[0.0]])


def test_finished_episodes_are_counted_once():
    env = GymnasiumEnvironment(counters(2))
    env.reset()
    for action in ([0, 1], [0, 0], [2, 0], [0, 1]):
        env.step(np.array(action))
    assert env.pop_finished_episodes() == [
        {"return": 1.0, "length": 1},
        {"return": 6.0, "length": 3},
        {"return": 3.0, "length": 2},
    ]
    assert env.pop_finished_episodes() == []


def test_success_is_taken_from_the_info():
    env = GymnasiumEnvironment(tmazes(4), seed=0)
    env.reset()
    right, up = np.full(4, 3), np.zeros(4, int)
    for action in (right, right, right, right, up):
        env.step(action)
    episodes = env.pop_finished_episodes()
    assert [e["length"] for e in episodes] == [5] * 4
    for episode in episodes:
        expected = 3.6 if episode["success"] else -1.4
        assert episode["return"] == pytest.approx(expected)
    assert {e["success"] for e in episodes} == {True, False}


def test_the_seed_repeats_the_environment():
    goals = []
    for _ in range(2):
        env = GymnasiumEnvironment(tmazes(16), seed=3)
        goals.append(env.reset().observation[:, 0])
    np.testing.assert_array_equal(*goals)
    env.seed(4)
    assert (env.reset().observation[:, 0] != goals[0]).any()


def test_box_actions_are_clipped():
    class Echo(Counter):
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

        def step(self, action):
            self.action = action
            return np.zeros(1, np.float32), 0.0, False, False, {}

    inner = Echo()
    env = GymnasiumEnvironment(inner)
    env.reset()
    env.step(np.array([3.0, -0.5], np.float32))
    np.testing.assert_array_equal(inner.action, [1.0, -0.5])


def test_what_it_refuses():
    with pytest.raises(ValueError, match=r"Received: env='maze'"):
        GymnasiumEnvironment("maze")
    same_step = counters(2, autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP)
    with pytest.raises(ValueError, match="NEXT_STEP"):
        GymnasiumEnvironment(same_step)

    class Written(Counter):
        action_space = gymnasium.spaces.Text(3)

    with pytest.raises(ValueError, match="Received: action space=Text"):
        GymnasiumEnvironment(Written())


def test_actions_are_counted_from_0_outside_and_from_their_start_inside():
    class Shifted(Counter):
        action_space = gymnasium.spaces.Discrete(3, start=-1)

        def step(self, action):
            self.action = action
            return super().step(action)

    inner = Shifted()
    env = GymnasiumEnvironment(inner)
    env.reset()
    env.step(np.int64(2))

    assert inner.action == 1
    assert (env.action_spec().minimum, env.action_spec().maximum) == (0, 2)


def test_what_an_environment_raised_is_kept():
    class Broken(Counter):
        def step(self, action):
            raise KeyError("broken")

    env = GymnasiumEnvironment(Broken())
    env.reset()
    with pytest.raises(KeyError):
        env.step(np.int64(0))
    assert isinstance(env.error, KeyError)
