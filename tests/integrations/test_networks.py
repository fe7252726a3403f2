import os
import subprocess
import sys

import gymnasium
import numpy as np
import pytest

from keras_agalite.integrations.tf_agents import ActorNetwork, ValueNetwork

# isort: split
import tensorflow as tf
from tf_agents.trajectories import StepType

import keras_agalite
from keras_agalite.integrations.tf_agents.networks import distribution
from tests.integrations.setup import small_policy, tmaze_policy

SPEC = tf.TensorSpec((16,), tf.float32)


def test_variables_are_those_of_the_policy():
    policy = tmaze_policy()
    for network in (ActorNetwork(policy, SPEC), ValueNetwork(policy, SPEC)):
        network.create_variables()
        assert len(network.variables) == len(policy.variables) > 40
        assert all(
            a is b.value
            for a, b in zip(
                network.trainable_weights, policy.trainable_variables, strict=True
            )
        )


def test_step_by_step_equals_the_sequence_with_starts_inside():
    policy = tmaze_policy()
    random = np.random.default_rng(0)
    observation = tf.constant(random.random((3, 7, 16)), tf.float32)
    step_type = np.full((3, 7), StepType.MID, np.int32)
    step_type[0, 0] = step_type[1, 4] = StepType.FIRST
    actor, value = ActorNetwork(policy, SPEC), ValueNetwork(policy, SPEC)
    state = actor.get_initial_state(3)
    whole, final = actor(observation, step_type, state)
    values, _ = value(observation, step_type, state)
    for t in range(7):
        one, state = actor(observation[:, t], step_type[:, t], state)
        np.testing.assert_allclose(one.logits, whole.logits[:, t], atol=1e-5)
    np.testing.assert_allclose(state[0], final[0], atol=1e-5)
    fresh, _ = value(
        observation[1:2, 4:], step_type[1:2, 4:], value.get_initial_state(1)
    )
    np.testing.assert_allclose(fresh, values[1:2, 4:], atol=1e-5)


@pytest.mark.parametrize(
    ("space", "actions"),
    [
        (gymnasium.spaces.Discrete(4), [[3, 0]]),
        (gymnasium.spaces.MultiDiscrete([3, 5, 2]), [[[2, 4, 1], [0, 3, 0]]]),
        (gymnasium.spaces.Box(-1.0, 1.0, (2, 3), np.float32), np.zeros((1, 2, 2, 3))),
    ],
)
def test_distributions_agree_with_the_action_head(space, actions):
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (5,), np.float32)
    policy = small_policy(observation_space, space)
    size = policy.actor.num_action_params
    logits = tf.constant(np.random.default_rng(0).normal(size=(1, 2, size)), "float32")
    actions = np.asarray(actions, space.dtype)
    expected = distribution(policy, logits)
    np.testing.assert_allclose(
        policy.actor.log_prob(logits, actions), expected.log_prob(actions), rtol=1e-5
    )
    np.testing.assert_allclose(
        policy.actor.entropy(logits), expected.entropy(), rtol=1e-5
    )
    assert expected.sample(seed=[0, 1]).shape == actions.shape
    mode = expected.mode()[0].numpy()
    if isinstance(space, gymnasium.spaces.Box):
        mode = np.clip(mode, space.low, space.high)
    np.testing.assert_array_equal(mode, policy.actor.numpy_mode(logits.numpy()[0]))


def test_a_policy_without_memory_has_no_state():
    policy = tmaze_policy(memory=keras_agalite.Memoryless(8))
    actor = ActorNetwork(policy, SPEC)
    assert actor.state_spec == ()
    _, state = actor(tf.zeros((2, 16)), np.zeros(2, np.int32), ())
    assert state == ()


def test_keras_3_in_tensorflow_is_an_error_that_says_what_to_do():
    program = (
        "import keras, tensorflow as tf; tf.keras.layers.Dense\n"
        "import keras_agalite.integrations.tf_agents"
    )
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    environment.pop("TF_USE_LEGACY_KERAS", None)
    run = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 1
    assert "ImportError: TF-Agents runs on Keras 2" in run.stderr
    assert "TF_USE_LEGACY_KERAS=1" in run.stderr
