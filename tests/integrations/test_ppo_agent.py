"""The agent against TF-Agents' own, and against plain NumPy."""

import numpy as np
import pytest

from keras_agalite.integrations.tf_agents import (
    ActorNetwork,
    GymnasiumEnvironment,
    MemoryPPOAgent,
    ValueNetwork,
)

# isort: split
import tensorflow as tf
import tf_keras
from tf_agents.agents.ppo import ppo_clip_agent
from tf_agents.drivers import dynamic_step_driver
from tf_agents.environments import tf_py_environment
from tf_agents.replay_buffers import tf_uniform_replay_buffer
from tf_agents.trajectories import StepType
from tf_agents.trajectories import time_step as ts
from tf_agents.utils import common

import keras_agalite
from tests.integrations.setup import tmaze_policy, tmazes

SETTINGS = {
    "entropy_regularization": 0.01,
    "value_pred_loss_coef": 0.25,
    "gradient_clipping": 0.5,
    "value_clipping": 0.2,
    "lambda_value": 0.9,
    "discount_factor": 0.97,
}
TIME = 12


class Rollout:
    """An agent, and the sequences that it collected."""

    def __init__(self, rows=4, max_episode_steps=7, memory=None, **settings):
        self.environment = tf_py_environment.TFPyEnvironment(
            GymnasiumEnvironment(tmazes(rows, max_episode_steps), seed=0)
        )
        self.policy = tmaze_policy(memory=memory)
        self.agent = make_agent(self.environment, self.policy, **settings)
        self.state = self.agent.collect_policy.get_initial_state(rows)
        self.time_step = self.environment.reset()
        self.rows = rows

    def collect(self):
        """Returns prepared sequences and the state at their start."""
        buffer = tf_uniform_replay_buffer.TFUniformReplayBuffer(
            self.agent.collect_data_spec, self.rows, max_length=TIME
        )
        driver = dynamic_step_driver.DynamicStepDriver(
            self.environment,
            self.agent.collect_policy,
            observers=[buffer.add_batch],
            num_steps=self.rows * TIME + 1,
        )
        start = self.state
        self.time_step, self.state = driver.run(
            self.time_step, self.state, maximum_iterations=TIME
        )
        experience = self.agent.append_bootstrap(
            buffer.gather_all(), self.time_step, self.state
        )
        return self.agent.preprocess_sequence(experience), start


def make_agent(environment, policy, **settings):
    return MemoryPPOAgent(
        environment.time_step_spec(),
        environment.action_spec(),
        policy,
        tf_keras.optimizers.SGD(0.1),
        **{**SETTINGS, **settings},
    )


def make_stock_agent(environment, policy):
    """TF-Agents' own agent over the same networks."""
    spec = environment.time_step_spec()
    return ppo_clip_agent.PPOClipAgent(
        spec,
        environment.action_spec(),
        tf_keras.optimizers.SGD(0.1),
        ActorNetwork(policy, spec.observation),
        ValueNetwork(policy, spec.observation),
        importance_ratio_clipping=0.2,
        num_epochs=1,
        use_gae=True,
        use_td_lambda_return=True,
        normalize_observations=False,
        normalize_rewards=False,
        update_normalizers_in_train=False,
        compute_value_and_advantage_in_train=False,
        **SETTINGS,
    )


@pytest.fixture(scope="module")
def rollout():
    rollout = Rollout()
    # Two collections, so that the second begins in the middle of episodes.
    rollout.sequences = [rollout.collect() for _ in range(2)]
    return rollout


def twin(rollout):
    """The same weights in a policy of its own, slightly moved so that ratios differ."""
    policy = tmaze_policy()
    random = np.random.default_rng(1)
    for mine, theirs in zip(policy.weights, rollout.policy.weights, strict=True):
        mine.assign(theirs + 0.15 * random.normal(size=theirs.shape))
    return policy


def test_equals_the_stock_agent_on_sequences_that_begin_an_episode(rollout):
    experience, start = rollout.sequences[0]
    assert (experience.step_type[:, 0] == StepType.FIRST).numpy().all()
    assert (experience.step_type[:, 1:] == StepType.FIRST).numpy().any()
    ours, theirs = twin(rollout), twin(rollout)
    agent = make_agent(rollout.environment, ours)
    stock = make_stock_agent(rollout.environment, theirs)
    mine = agent.train(experience, initial_state=start)
    expected = stock.train(experience)
    assert abs(float(mine.loss - expected.loss)) < 1e-5
    for name in mine.extra._fields:
        difference = getattr(mine.extra, name) - getattr(expected.extra, name)
        assert abs(float(difference)) < 1e-5, name
    assert float(mine.extra.clip_fraction) > 0.0
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        # One step of SGD at 0.1: weights differ by a tenth of the gradients.
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-6)
    assert any(
        np.abs(a.numpy() - b.numpy()).max() > 1e-4
        for a, b in zip(ours.weights, twin(rollout).weights, strict=True)
    )


def test_continued_sequences_start_from_the_state_of_the_rollout(rollout):
    """Halves of an episode, with the state between, cost what the whole costs."""
    experience, start = rollout.sequences[1]
    policy = twin(rollout)
    # Whole sequences with the states that the current weights give in the middle.
    half = TIME // 2
    experience = tf.nest.map_structure(lambda x: x[:, :TIME], experience)
    first, second = (
        tf.nest.map_structure(lambda x, part=part: x[:, part], experience)
        for part in (slice(0, half), slice(half, TIME))
    )
    agent = make_agent(rollout.environment, policy)
    _, _, middle = agent.collect_policy.run(
        ts.TimeStep(first.step_type, first.reward, first.discount, first.observation),
        start,
    )
    halves, states = (
        tf.nest.map_structure(lambda a, b: tf.concat([a, b], 0), *pair)
        for pair in ((first, second), (start, middle))
    )
    assert (halves.step_type[:, 0] != StepType.FIRST).numpy().any()

    def loss(agent, *arguments, **keywords):
        before = policy.get_weights()
        value = float(agent.train(*arguments, **keywords).loss)
        policy.set_weights(before)
        return value

    whole = loss(agent, experience, initial_state=start)
    assert loss(agent, halves, initial_state=states) == pytest.approx(whole, abs=1e-5)
    stock = make_stock_agent(rollout.environment, policy)
    assert abs(loss(stock, halves) - whole) > 1e-4


@pytest.mark.parametrize("truncated", [True, False])
def test_advantages_equal_plain_gae(rollout, truncated):
    agent = rollout.agent
    random = np.random.default_rng(0)
    rows, time = 3, 9
    rewards, values = random.normal(size=(rows, time)), random.normal(size=(rows, 10))
    next_type = np.full((rows, time), StepType.MID)
    next_type[0, 4] = next_type[1, 8] = next_type[2, 0] = StepType.LAST
    next_type[0, 5] = next_type[2, 1] = StepType.FIRST
    ends = next_type == StepType.LAST
    discount = np.where(ends, 1.0 if truncated else 0.0, 1.0)
    returns, advantages = agent.compute_return_and_advantage(
        ts.TimeStep(
            tf.constant(next_type, tf.int32),
            *(tf.constant(x, tf.float32) for x in (rewards, discount)),
            observation=(),
        ),
        tf.constant(values, tf.float32),
    )
    gamma, lambda_ = SETTINGS["discount_factor"], SETTINGS["lambda_value"]
    expected = np.zeros((rows, time + 1))
    for t in reversed(range(time)):
        bootstrap = gamma * discount[:, t] * values[:, t + 1]
        delta = rewards[:, t] + bootstrap - values[:, t]
        goes_on = ~ends[:, t]
        expected[:, t] = delta + gamma * lambda_ * goes_on * expected[:, t + 1]
    np.testing.assert_allclose(advantages, expected[:, :-1], atol=1e-5)
    np.testing.assert_allclose(returns, expected[:, :-1] + values[:, :-1], atol=1e-5)


def test_a_normalised_reward_leaves_the_bootstrap_value_as_it_is():
    rollout = Rollout(rows=1, normalize_rewards=True)
    agent = rollout.agent
    agent.update_reward_normalizer(tf.constant([[-10.0, 10.0]] * 50))
    step = ts.TimeStep(
        tf.constant([[StepType.LAST]], tf.int32),
        tf.constant([[5.0]]),
        tf.constant([[1.0]]),
        (),
    )
    normal = float(
        agent._reward_normalizer.normalize(step.reward, center_mean=False)[0, 0]
    )
    returns, _ = agent.compute_return_and_advantage(step, tf.constant([[0.0, 3.0]]))
    assert normal == pytest.approx(0.5, abs=0.01)
    assert float(returns[0, 0]) == pytest.approx(normal + 0.97 * 3.0, abs=1e-5)
    assert agent._reward_normalizer is not None


def test_the_memory_runs_once_a_step_and_once_a_loss(rollout, monkeypatch):
    calls = []
    original = keras_agalite.AGaLiTe.inner_loop

    def counted(self, *arguments, **keywords):
        calls.append(1)
        return original(self, *arguments, **keywords)

    monkeypatch.setattr(keras_agalite.AGaLiTe, "inner_loop", counted)
    agent = make_agent(rollout.environment, tmaze_policy())
    experience, start = rollout.sequences[0]
    calls.clear()
    agent.collect_policy.action(rollout.time_step, start)
    assert len(calls) == 1
    agent.train(experience, initial_state=start)
    assert len(calls) == 2


def test_minibatches_share_one_trace(rollout):
    agent = make_agent(rollout.environment, tmaze_policy())
    experience, start = rollout.sequences[1]
    train = common.function(agent.train)
    for rows in ([0, 2], [1, 3], [3, 0]):
        part, state = tf.nest.map_structure(
            lambda x, rows=rows: tf.gather(x, rows), (experience, start)
        )
        assert np.isfinite(train(part, initial_state=state).loss)
    assert train.experimental_get_tracing_count() == 1


@pytest.mark.process
def test_graph_eager_and_xla_training_agree(rollout):
    experience, start = rollout.sequences[1]

    def train(wrap, **settings):
        policy = twin(rollout)
        agent = make_agent(rollout.environment, policy, **settings)
        loss = wrap(agent.train)(experience, initial_state=start)
        compiled = getattr(agent._compute_gradients, "_jit_compile", False)
        assert compiled == settings.get("jit_compile", False)
        return tf.nest.flatten([loss, agent.diagnostics]), policy.get_weights()

    eager, weights = train(lambda f: f)
    compiled = train(lambda f: f, jit_compile=True)
    np.testing.assert_allclose(compiled[0], eager, atol=1e-5)
    for other in (compiled, train(common.function)):
        for a, b in zip(other[1], weights, strict=True):
            # One step of SGD at 0.1: weights differ by a tenth of the gradients.
            np.testing.assert_allclose(a, b, atol=1e-6)


def test_noise_follows_from_the_seed_and_the_step(rollout):
    experience, start = rollout.sequences[0]
    step = ts.TimeStep(
        *(x[:, 0] for x in (experience.step_type, experience.reward)),
        experience.discount[:, 0],
        experience.observation[:, 0],
    )
    step = tf.nest.map_structure(lambda x: tf.repeat(x, 50, axis=0), step)
    start = tf.nest.map_structure(lambda x: tf.repeat(x, 50, axis=0), start)

    def actions(seed, collected_steps):
        agent = make_agent(rollout.environment, rollout.policy, seed=seed)
        agent.collect_policy.collected_steps.assign(collected_steps)
        return [agent.collect_policy.action(step, start).action for _ in range(2)]

    first, second = actions(0, 10)
    again, _ = actions(0, 11)
    np.testing.assert_array_equal(again, second)
    assert (first != second).numpy().any()
    assert (actions(1, 10)[0] != first).numpy().any()


def test_a_memory_without_state_and_a_stock_cell_train():
    for memory in (keras_agalite.Memoryless(8), keras_agalite.LSTM(8)):
        rollout = Rollout(memory=memory)
        before = rollout.policy.get_weights()
        experience, start = rollout.collect()
        rollout.agent.train(experience, initial_state=start)
        moved = [
            np.abs(a - b).max() > 0
            for a, b in zip(before, rollout.policy.get_weights(), strict=True)
        ]
        assert all(moved)


def test_what_it_refuses(rollout):
    with pytest.raises(ValueError, match="actor_net"):
        make_agent(rollout.environment, rollout.policy, actor_net=None)
    with pytest.raises(ValueError, match="normalize_observations"):
        make_agent(rollout.environment, rollout.policy, normalize_observations=True)
    for name in ("debug_summaries", "check_numerics"):
        with pytest.raises(ValueError, match=f"jit_compile=True with {name}"):
            make_agent(
                rollout.environment, rollout.policy, jit_compile=True, **{name: True}
            )
