"""Several replicas learn from their rows what one learns from all: a program.

`python -m tests.integrations.replicas`: MirroredStrategy, two logical CPUs. With
TF_CONFIG, this is a worker of MultiWorkerMirroredStrategy. Either ends with an error
unless the weights, the losses and the diagnostics are those of one replica.
"""

import os

import numpy as np
import pytest

from keras_agalite.integrations import tf_agents as integration

# isort: split
import tensorflow as tf
import tf_keras
from tf_agents.drivers.dynamic_step_driver import DynamicStepDriver
from tf_agents.environments.tf_py_environment import TFPyEnvironment
from tf_agents.replay_buffers.tf_uniform_replay_buffer import TFUniformReplayBuffer
from tf_agents.utils import common

import keras_agalite
from tests.integrations.setup import tmaze_policy, tmazes

ROWS, TIME, UPDATES, REPLICAS = 4, 12, 4, 2
ATOL = 1e-6


def make_strategy():
    if "TF_CONFIG" in os.environ:
        return tf.distribute.MultiWorkerMirroredStrategy()
    cpu = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * REPLICAS
    tf.config.set_logical_device_configuration(cpu, logical)
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(REPLICAS)])


def make_agent(environment, **settings):
    policy = tmaze_policy(memory=keras_agalite.GRU(8))
    settings = {
        "entropy_regularization": 0.01,
        "gradient_clipping": 0.1,  # below the norm: each update is clipped
        "aggregate_losses_across_replicas": True,
        **settings,
    }
    return policy, integration.MemoryPPOAgent(
        environment.time_step_spec(),
        environment.action_spec(),
        policy,
        tf_keras.optimizers.SGD(2.0),
        **settings,
    )


def collect(environment, agent):
    """Rows that go on in mid-episode, with the state at their start."""
    buffer = TFUniformReplayBuffer(agent.collect_data_spec, ROWS, max_length=TIME)
    driver = DynamicStepDriver(
        environment,
        agent.collect_policy,
        observers=[buffer.add_batch],
        num_steps=ROWS * TIME + 1,
    )
    time_step = environment.reset()
    start = agent.collect_policy.get_initial_state(ROWS)
    for _ in range(2):
        buffer.clear()
        first = start
        time_step, start = driver.run(time_step, first, maximum_iterations=TIME)
    experience = agent.prepare(buffer.gather_all(), time_step, start)
    assert experience.is_boundary().numpy().any()
    # Rows of another size, so that replicas differ in their advantages.
    scale = tf.range(1.0, ROWS + 1.0)[:, None]
    for name in ("advantage", "return"):
        experience.policy_info[name] *= scale
    counts = np.ones((ROWS, TIME), "float32")
    counts[0, 7:] = counts[3, 2:] = 0.0  # as if padded
    return experience, tf.constant(counts), first


def learn(agent, experience, weights, start):
    loss = agent.train(experience, weights, initial_state=start)
    return loss, agent.diagnostics


def shares(strategy, batch):
    """Each replica's rows of a nest of arrays."""

    def rows(context):
        first, number = context.replica_id_in_sync_group, ROWS // REPLICAS
        part = slice(first * number, (first + 1) * number)
        return tf.nest.map_structure(lambda x: x[part], batch)

    return strategy.experimental_distribute_values_from_function(rows)


def learn_alone(environment, batch):
    """The policy of one replica, what it learnt from the batch, and its weights."""
    policy, agent = make_agent(environment)
    before = policy.get_weights()
    step = common.function(lambda *batch: learn(agent, *batch))
    results = [step(*batch) for _ in range(UPDATES)]
    for a, b in zip(policy.get_weights(), before, strict=True):
        assert np.abs(a - b).max() > 10 * ATOL
    return policy, results


def learn_together(strategy, environment, batch):
    """The same of several replicas, each with its rows."""
    with strategy.scope():
        policy, agent = make_agent(environment)
    parts = shares(strategy, batch)
    step = common.function(
        lambda *parts: strategy.run(lambda *x: learn(agent, *x), args=parts)
    )
    results = []
    for _ in range(UPDATES):
        loss, diagnostics = step(*parts)
        loss = tf.nest.map_structure(lambda x: strategy.reduce("SUM", x, None), loss)
        local = {
            k: strategy.experimental_local_results(x) for k, x in diagnostics.items()
        }
        results.append((loss, local))
    with pytest.raises(
        ValueError, match=r"inside `strategy.run`.* 2 replicas.* 1 here"
    ):
        learn(agent, *batch)
    with strategy.scope(), pytest.raises(ValueError, match="2 here, outside of `strat"):
        learn(agent, *batch)
    return policy, results


def main():
    strategy = make_strategy()  # before any other operation
    environment = TFPyEnvironment(
        integration.GymnasiumEnvironment(tmazes(ROWS, 7), seed=0)
    )
    batch = collect(environment, make_agent(environment)[1])
    one, expected = learn_alone(environment, batch)
    several, received = learn_together(strategy, environment, batch)
    for a, b in zip(one.get_weights(), several.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=ATOL)
    for (loss, diagnostics), (sums, local) in zip(expected, received, strict=True):
        for a, b in zip(tf.nest.flatten(loss), tf.nest.flatten(sums), strict=True):
            np.testing.assert_allclose(a, b, atol=ATOL)
        for name, value in diagnostics.items():
            np.testing.assert_allclose(local[name], value, 1e-5, ATOL, err_msg=name)
    assert float(expected[-1][1]["kl_divergence"]) > 10 * ATOL
    with (
        strategy.scope(),
        pytest.raises(ValueError, match=r"True .*=False, 2 replicas"),
    ):
        make_agent(environment, aggregate_losses_across_replicas=False)
    with strategy.scope(), pytest.raises(ValueError, match="True with several repl"):
        make_agent(environment, jit_compile=True)


if __name__ == "__main__":
    main()
