"""PPO in JAX, against TF-Agents' agent and plain NumPy."""

import dataclasses
import os
import subprocess
import sys

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keras_agalite
from tests.integrations.setup import tmaze_policy
from training.learning.ppo import (
    PPO,
    AnnealedRate,
    Experience,
    Minibatch,
    advantages,
    shuffle,
    take_rows,
)
from training.recipe import Recipe

# As in write_ppo_oracle.
RECIPE = Recipe(
    name="oracle",
    environment="keras_agalite/TMaze-v0",
    total_steps=1000,
    num_environments=24,
    num_minibatches=1,
    discount=0.97,
    gae_lambda=0.9,
    entropy_coefficient=0.01,
    value_coefficient=0.25,
    clip_epsilon=0.2,
)


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    pytest.importorskip("tf_agents")
    file = tmp_path_factory.mktemp("oracle") / "oracle.npz"
    command = [sys.executable, "-m", "tests.training.write_ppo_oracle", str(file)]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    with np.load(file) as arrays:
        return dict(arrays)


def entries(arrays, prefix):
    return [arrays[name] for name in sorted(arrays) if name.startswith(prefix)]


@pytest.mark.process
def test_loss_terms_and_gradients_equal_those_of_tf_agents(oracle):
    policy = tmaze_policy()
    policy.set_weights(entries(oracle, "weight/"))
    ppo = PPO(policy, RECIPE)
    fields = {k: oracle[k] for k in Experience._fields if k in oracle}
    experience = Experience(**fields, state=entries(oracle, "state/"))
    assert experience.terminated.any()
    assert (experience.ended & ~experience.terminated).any()
    assert (~experience.valid).any()
    assert experience.start[:, 1:].any()
    batch = ppo.prepare(experience)
    for name in ("advantage", "returns"):
        np.testing.assert_allclose(getattr(batch, name), oracle[name], atol=1e-5)

    (loss, metrics), gradients = jax.value_and_grad(ppo.loss, has_aux=True)(
        ppo.initial_state().weights, batch
    )
    assert loss == pytest.approx(oracle["loss"], abs=1e-5)
    terms = {k[5:]: v for k, v in oracle.items() if k.startswith("term/")}
    for name in ("l2_regularization_loss", "kl_penalty_loss"):
        assert terms.pop(name) == 0.0
    assert terms["clip_fraction"] > 0.0
    for name, value in terms.items():
        assert metrics[name] == pytest.approx(value, abs=1e-5), name
    expected = entries(oracle, "gradient/")
    assert max(np.abs(g).max() for g in expected) > 1e-3
    for mine, theirs in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


@pytest.mark.process
def test_a_compiled_call_a_minibatch_ends_with_the_same_weights(oracle):
    recipe = dataclasses.replace(RECIPE, num_minibatches=3, num_epochs=2)
    fields = {k: jnp.asarray(oracle[k]) for k in Experience._fields if k in oracle}
    experience = Experience(**fields, state=entries(oracle, "state/"))
    ppo = PPO(tmaze_policy(), recipe)
    before = ppo.initial_state()
    whole, expected = jax.jit(ppo.learn)(before, experience)
    copy = jax.tree.map(jnp.copy, before)  # the optimizer's variables are given away
    state, metrics = ppo.learn_in_steps(copy, experience)
    assert int(state.iteration) == int(whole.iteration) == 1
    for a, b in zip(state.weights, whole.weights, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert any(
        (a != b).any() for a, b in zip(state.weights, before.weights, strict=True)
    )
    assert set(metrics) == set(expected)
    for name, value in metrics.items():
        assert value == pytest.approx(float(expected[name]), abs=1e-4), name


@pytest.mark.usefixtures("quick_compilation")
def test_a_teacher_adds_the_cross_entropy_with_its_actions():
    policy = tmaze_policy()
    (size,) = policy.observation_space.shape
    ppo = PPO(policy, RECIPE)
    random, rows, time = np.random.default_rng(0), 3, 5
    floats = random.normal(size=(3, rows, time)).astype(np.float32)
    actions = random.integers(4, size=(2, rows, time))
    batch = Minibatch(
        observation=random.random((rows, time, size), np.float32),
        start=random.random((rows, time)) < 0.2,
        valid=random.random((rows, time)) < 0.7,
        action=actions[0],
        log_prob=floats[0],
        advantage=floats[1],
        returns=floats[2],
        state=policy.initial_state(rows),
    )
    taught = batch._replace(teacher=actions[1])

    def cross_entropy(weights):
        out, _ = ppo.run_policy(weights, batch.observation, batch.state, batch.start)
        chosen = jax.nn.log_softmax(out.logits) * jax.nn.one_hot(actions[1], 4)
        return -(chosen.sum(-1) * batch.valid).sum() / (rows * time)

    weights = ppo.initial_state().weights
    results = [
        jax.jit(jax.value_and_grad(lambda w, x=x, c=c: ppo.loss(w, x, c)[0]))(weights)
        for x, c in ((batch, 0.0), (taught, 0.0), (taught, 0.7))
    ]
    expected = jax.jit(jax.value_and_grad(cross_entropy))(weights)
    assert expected[0] > 0.1
    for without, none, some, term in zip(
        *map(jax.tree.leaves, (*results, expected)), strict=True
    ):
        np.testing.assert_array_equal(without, none)
        np.testing.assert_allclose(some - without, 0.7 * term, atol=1e-5)


def test_the_teacher_falls_silent_at_the_end():
    recipe = dataclasses.replace(RECIPE, engine="jax", teacher_coefficient=0.8)
    recipe = dataclasses.replace(recipe, total_steps=4 * recipe.steps_per_iteration)
    annealed = dataclasses.replace(recipe, anneal_teacher=True)
    for case, expected in ((recipe, [0.8] * 6), (annealed, [0.8, 0.6, 0.4, 0.2, 0, 0])):
        ppo = PPO(tmaze_policy(), case)
        received = [ppo.teacher_coefficient_at(iteration) for iteration in range(6)]
        np.testing.assert_allclose(received, expected, atol=1e-6)


def test_images_on_a_cpu_are_learnt_from_in_steps():
    image = gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)
    vector = gymnasium.spaces.Box(0, 1, (8,), np.float32)
    encoders = {
        True: keras_agalite.ResNetEncoder(image, 4, filters=(2,)),
        False: keras_agalite.MLPEncoder(vector),
    }
    for sees_images, encoder in encoders.items():
        policy = keras_agalite.MemoryPolicy(
            encoder, keras_agalite.Memoryless(4), gymnasium.spaces.Discrete(2)
        )
        expected = sees_images and jax.default_backend() == "cpu"
        assert PPO(policy, RECIPE).learns_in_steps == expected


def test_advantages_equal_a_plain_loop():
    random = np.random.default_rng(0)
    rows, time, discount, gae_lambda = 5, 9, 0.97, 0.9
    reward, value = random.normal(size=(2, rows, time))
    final_value = random.normal(size=rows)
    ended = random.random((rows, time)) < 0.3
    terminated = ended & (random.random((rows, time)) < 0.5)
    assert terminated.any()
    assert (ended & ~terminated).any()
    expected = np.zeros((rows, time))
    for row in range(rows):
        following, after = 0.0, final_value[row]
        for t in reversed(range(time)):
            bootstrap = 0.0 if terminated[row, t] else discount * after
            carried = 0.0 if ended[row, t] else discount * gae_lambda * following
            error = reward[row, t] + bootstrap - value[row, t]
            expected[row, t] = following = error + carried
            after = value[row, t]
    result = advantages(
        *map(jnp.asarray, (reward, value, final_value, terminated, ended)),
        discount,
        gae_lambda,
    )
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_an_epoch_takes_every_row_once():
    recipe = dataclasses.replace(RECIPE, num_environments=24, num_minibatches=4)
    order = shuffle(jax.random.key(0), recipe)
    rows = np.arange(24)
    parts = [np.asarray(take_rows(rows, places)) for places in order]
    assert [len(part) for part in parts] == [6] * 4
    assert sorted(np.concatenate(parts)) == list(rows)
    other = shuffle(jax.random.key(1), recipe)
    assert (order != other).any()
    assert len({tuple(column) for column in np.asarray(order).T}) > 1


def test_the_learning_rate_falls_to_zero_in_steps_of_an_iteration():
    recipe = dataclasses.replace(
        RECIPE,
        total_steps=5 * 24 * 8,
        sequence_length=8,
        anneal_learning_rate=True,
        num_epochs=2,
        num_minibatches=3,
    )
    schedule = AnnealedRate(recipe)
    rates = [float(schedule(step)) for step in range(36)]
    expected = [1e-3 * (1 - (step // 6) / 5) for step in range(30)] + [0.0] * 6
    np.testing.assert_allclose(rates, expected, atol=1e-9)
