"""Spaces of every kind and dtype: specs, collecting, training, saving."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from keras_agalite.integrations.tf_agents import GymnasiumEnvironment, MemoryPPOAgent

# isort: split
import tensorflow as tf
import tf_keras
from tf_agents.drivers import dynamic_step_driver
from tf_agents.environments import (
    batched_py_environment,
    tf_py_environment,
    utils,
)
from tf_agents.policies import policy_saver, random_py_policy
from tf_agents.replay_buffers import tf_uniform_replay_buffer

from keras_agalite.layers import GRU
from tests.integrations.setup import small_policy

BOX, DISCRETE = spaces.Box(-1.0, 1.0, (2,), np.float32), spaces.Discrete(2)
DTYPES = ("int8", "int16", "uint16", "uint32", "float16")
PAIRS = {
    "multi_discrete": (spaces.MultiDiscrete([2, 3]), spaces.MultiDiscrete([2, 3])),
    "multi_binary": (spaces.MultiBinary(3), spaces.MultiBinary((2, 1))),
    "float64": (
        spaces.Box(0, 9, (2,), np.float64),
        spaces.Box(-1.0, 1.0, (2,), np.float64),
    ),
    "dtypes": (
        spaces.Dict({x: spaces.Box(0, 9, (2,), np.dtype(x).type) for x in DTYPES}),
        DISCRETE,
    ),
    "starts": (
        spaces.MultiDiscrete([[2, 3], [4, 2]], start=[[0, 1], [-2, 5]]),
        spaces.MultiDiscrete([2, 3], start=[1, -3]),
    ),
    "starts_at": (spaces.Discrete(3, start=2), spaces.Discrete(3, start=-1)),
    "tuple": (spaces.Tuple([DISCRETE, spaces.Tuple([BOX])]), DISCRETE),
    "mask": (
        spaces.Dict({"view": BOX, "action_mask": spaces.MultiBinary(2)}),
        DISCRETE,
    ),
}
# The others are in the ring of the processes.
QUICK = ("starts", "mask")


class Short(gymnasium.Env):
    """Random observations, episodes of four steps; refuses what is no action."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space
        observation_space.seed(0)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        assert np.all(self.action_space.contains(np.asarray(action)))
        self.count += 1
        return self.observation_space.sample(), 1.0, self.count == 4, False, {}


# TensorFlow names its own type where it stores a greedy Discrete distribution.
@pytest.mark.filterwarnings("ignore:Encoding a StructuredValue:UserWarning")
@pytest.mark.parametrize(
    "name",
    [pytest.param(x, marks=() if x in QUICK else pytest.mark.process) for x in PAIRS],
)
def test_a_space_can_be_played_trained_and_saved(name, tmp_path):
    pair = PAIRS[name]
    adapted = GymnasiumEnvironment(Short(*pair), seed=0)
    utils.validate_py_environment(adapted, episodes=2)
    spec = adapted.time_step_spec(), adapted.action_spec()
    random_py_policy.RandomPyPolicy(*spec, seed=0).action(adapted.reset())
    environment = tf_py_environment.TFPyEnvironment(
        # Else TF-Agents makes a pool of threads that it does not close.
        batched_py_environment.BatchedPyEnvironment([adapted], multithreading=False)
    )
    agent = MemoryPPOAgent(
        environment.time_step_spec(),
        environment.action_spec(),
        small_policy(*pair, memory=GRU(6)),
        tf_keras.optimizers.Adam(1e-2),
    )
    buffer = tf_uniform_replay_buffer.TFUniformReplayBuffer(
        agent.collect_data_spec, 1, max_length=8
    )
    driver = dynamic_step_driver.DynamicStepDriver(
        environment, agent.collect_policy, [buffer.add_batch], num_steps=8
    )
    time_step, state = driver.run(
        policy_state=agent.collect_policy.get_initial_state(1)
    )
    experience = agent.append_bootstrap(buffer.gather_all(), time_step, state)
    before = [w.numpy() for w in agent.actor_net.trainable_variables]
    loss = agent.train(agent.preprocess_sequence(experience))
    assert np.isfinite(loss.loss)
    after = [w.numpy() for w in agent.actor_net.trainable_variables]
    assert any(np.any(a != b) for a, b in zip(after, before, strict=True))

    first = environment.reset()
    for kind in ("policy", "collect_policy"):
        policy = getattr(agent, kind)
        policy_saver.PolicySaver(policy).save(str(tmp_path / kind))
        saved = tf.saved_model.load(str(tmp_path / kind))
        state = policy.get_initial_state(1)
        received = saved.action(first, saved.get_initial_state(1))
        expected = policy.action(first, state)
        assert received.action.dtype == pair[1].dtype
        if kind == "collect_policy":  # its noise has a key; the other's has none
            np.testing.assert_array_equal(received.action, expected.action)
        for a, b in zip(
            tf.nest.flatten(received.state),
            tf.nest.flatten(expected.state),
            strict=True,
        ):
            np.testing.assert_allclose(a, b, atol=1e-6)
