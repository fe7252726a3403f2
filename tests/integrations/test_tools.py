"""TF-Agents' drivers, buffer, metrics, checkpointer and saver, unchanged."""

import numpy as np
import pytest

from keras_agalite.integrations.tf_agents import GymnasiumEnvironment, MemoryPPOAgent

# isort: split
import tensorflow as tf
import tf_keras
from tf_agents.drivers import dynamic_episode_driver, dynamic_step_driver
from tf_agents.environments import tf_py_environment
from tf_agents.metrics import tf_metrics
from tf_agents.policies import policy_saver
from tf_agents.replay_buffers import tf_uniform_replay_buffer
from tf_agents.utils import common

from tests.integrations.setup import tmaze_policy, tmazes


def make(seed=0):
    environment = tf_py_environment.TFPyEnvironment(
        GymnasiumEnvironment(tmazes(3, max_episode_steps=9), seed=0)
    )
    agent = MemoryPPOAgent(
        environment.time_step_spec(),
        environment.action_spec(),
        tmaze_policy(seed),
        tf_keras.optimizers.Adam(1e-2),
    )
    return environment, agent


def weights(agent):
    return np.concatenate(
        [w.numpy().ravel() for w in agent.actor_net.trainable_variables]
    )


def test_episode_driver_metrics_buffer_and_training():
    environment, agent = make()
    buffer = tf_uniform_replay_buffer.TFUniformReplayBuffer(
        agent.collect_data_spec, 3, max_length=40
    )
    metrics = [
        tf_metrics.AverageReturnMetric(batch_size=3),
        tf_metrics.AverageEpisodeLengthMetric(batch_size=3),
        tf_metrics.NumberOfEpisodes(),
        tf_metrics.EnvironmentSteps(),
    ]
    driver = dynamic_episode_driver.DynamicEpisodeDriver(
        environment,
        agent.collect_policy,
        observers=[buffer.add_batch, *metrics],
        num_episodes=4,
    )
    driver.run(policy_state=agent.collect_policy.get_initial_state(3))
    average_return, length, episodes, steps = (float(m.result()) for m in metrics)
    assert episodes >= 4
    assert 0 < length <= 9
    assert -1.9 <= average_return <= 3.6
    assert steps >= 4 * length
    before = weights(agent)
    agent.train(agent.preprocess_sequence(buffer.gather_all()))
    assert np.abs(weights(agent) - before).max() > 0


def test_checkpointer_restores_weights_optimizer_and_noise(tmp_path):
    environment, agent = make()
    buffer = tf_uniform_replay_buffer.TFUniformReplayBuffer(
        agent.collect_data_spec, 3, max_length=8
    )
    driver = dynamic_step_driver.DynamicStepDriver(
        environment, agent.collect_policy, observers=[buffer.add_batch], num_steps=25
    )
    driver.run(maximum_iterations=8)
    experience = agent.preprocess_sequence(buffer.gather_all())
    agent.train(experience)

    def checkpointer(agent):
        return common.Checkpointer(
            str(tmp_path),
            agent=agent,
            policy=agent.collect_policy,
            optimizer=agent._optimizer,
        )

    checkpointer(agent).save(0)
    _, other = make(seed=1)
    assert np.abs(weights(other) - weights(agent)).max() > 0
    checkpointer(other).initialize_or_restore()
    agent.train(experience)
    other.train(experience)
    np.testing.assert_array_equal(weights(agent), weights(other))
    assert int(other.collect_policy.collected_steps) == 8


@pytest.mark.process
@pytest.mark.filterwarnings("ignore:Encoding a StructuredValue:UserWarning")
def test_a_saved_policy_reloads_and_acts_alike(tmp_path):
    environment, agent = make()
    saver = policy_saver.PolicySaver(agent.policy, batch_size=None)
    saver.save(str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    time_step = environment.reset()
    state = agent.policy.get_initial_state(3)
    loaded_state = loaded.get_initial_state(3)
    for _ in range(20):
        ours = agent.policy.action(time_step, state)
        theirs = loaded.action(time_step, loaded_state)
        np.testing.assert_array_equal(ours.action, theirs.action)
        for a, b in zip(
            tf.nest.flatten(ours.state), tf.nest.flatten(theirs.state), strict=True
        ):
            np.testing.assert_allclose(a, b, atol=1e-6)
        state, loaded_state = ours.state, theirs.state
        time_step = environment.step(ours.action)
