"""Collecting with TF-Agents' PyDriver under every backend."""

import numpy as np
import pytest

from keras_agalite.integrations.tf_agents import GymnasiumEnvironment, MemoryPyPolicy

# isort: split
from tf_agents.drivers import py_driver
from tf_agents.trajectories import StepType

import keras_agalite
from tests.integrations.setup import Counter, small_policy, tmaze_policy, tmazes
from tests.training.masked import Masked


def collect(policy, environment, batch_size, steps):
    trajectories = []
    driver = py_driver.PyDriver(
        environment, policy, [trajectories.append], max_steps=steps
    )
    driver.run(environment.reset(), policy.get_initial_state(batch_size))
    return trajectories


def test_a_driver_collects_what_the_policy_does():
    policy = tmaze_policy()
    environment = GymnasiumEnvironment(tmazes(3, max_episode_steps=6), seed=0)
    trajectories = collect(MemoryPyPolicy(policy, seed=5), environment, 3, 60)
    # Played again by hand: the same noise, the memory emptied at first steps.
    noise, state = np.random.default_rng(5), policy.initial_state(3)
    firsts = 0
    for trajectory in trajectories:
        start = trajectory.step_type == StepType.FIRST
        firsts += start.sum()
        action, state = policy.act(
            trajectory.observation, state, start=start, seed=noise
        )
        np.testing.assert_array_equal(action, trajectory.action)
    assert firsts > 6


@pytest.mark.parametrize("memory", ["lstm", "memoryless"])
def test_other_memories_and_one_environment(memory):
    made = {"lstm": keras_agalite.LSTM(8), "memoryless": keras_agalite.Memoryless(8)}
    counter = Counter()
    policy = keras_agalite.MemoryPolicy(
        keras_agalite.MLPEncoder(counter.observation_space),
        made[memory],
        counter.action_space,
    )
    environment = GymnasiumEnvironment(counter)
    for deterministic in (True, False):
        py_policy = MemoryPyPolicy(policy, deterministic, seed=0)
        assert len(collect(py_policy, environment, None, 12)) >= 12


@pytest.mark.parametrize("parts", [False, True], ids=["discrete", "multi_discrete"])
def test_actions_that_are_masked_and_counted_from_another_number(parts):
    env = Masked(parts)
    adapted = GymnasiumEnvironment(env, seed=0)
    policy = small_policy(env.observation_space, env.action_space, keras_agalite.GRU(6))

    trajectories = collect(MemoryPyPolicy(policy, seed=0), adapted, None, 40)

    spec = adapted.action_spec()
    np.testing.assert_array_equal(spec.minimum, np.zeros(spec.shape))
    lengths = {e["length"] for e in adapted.pop_finished_episodes()}
    assert lengths == {Masked.LENGTH}  # an illegal action would have ended one
    assert all(np.all(t.action <= spec.maximum) for t in trajectories)
