"""Teachers with a belief and the auxiliary loss, in the engine jax."""

import dataclasses
import functools

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import keras_agalite
from keras_agalite.environments import functional
from tests.environments.mazes import make_env
from tests.training import processes
from tests.training.processes import assert_same_weights, curve_rows
from training.engines import jax as engine
from training.engines.jax import Run
from training.learning.auxiliary import AuxiliaryHead, auxiliary_loss
from training.learning.ppo import PPO

pytestmark = pytest.mark.usefixtures("quick_compilation")

SMALL = dataclasses.replace(
    processes.SMALL,
    engine="jax",
    environment="fast_memory_maze_9x9",
    environment_arguments={},
    previous_action_reward=True,
    total_steps=320,
    checkpoint_interval=120,
)
TAUGHT = dataclasses.replace(SMALL, teacher_coefficient=1.0, teacher_share=0.5)
ASKED = dataclasses.replace(TAUGHT, auxiliary_coefficient=0.5)
CUE = dataclasses.replace(
    processes.SMALL, engine="jax", auxiliary_coefficient=1.0, policy_coefficient=0.0
)


@pytest.fixture(autouse=True)
def mazes(monkeypatch):
    """Ten mazes without images, whose episodes end after 13 steps."""
    make = engine.make_functional_environment

    def make_maze(recipe):
        if recipe.environment != SMALL.environment:
            return make(recipe)
        env = make_env()
        env.max_episode_steps = 13
        return functional.PreviousActionReward(env)

    monkeypatch.setattr(engine, "make_functional_environment", make_maze)


@functools.cache
def compiled_collect(run):
    return jax.jit(run.collector.collect)


def collect(run, state=None):
    learner, begun = run.state
    return compiled_collect(run)(learner, begun if state is None else state)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.process
def test_the_belief_is_carried_and_emptied_at_a_start(tmp_path):
    """Followed by hand, over two sequences and the start of an episode between."""
    run = Run(ASKED, tmp_path)
    env = run.env.env
    play = jax.jit(jax.vmap(env.teacher_action))
    ask = jax.jit(jax.vmap(env.teacher_targets))
    see = jax.jit(functools.partial(states_of, env))
    state = run.state[1]
    beliefs = state[2]
    assert not any(np.asarray(x).any() for x in jax.tree.leaves(beliefs))
    for _ in range(2):
        state, x, _ = collect(run, state)
        taught = x.teacher, x.targets, x.start, x.observation
        seen = []
        for time in range(SMALL.sequence_length):
            teacher, targets, start, observed = jax.tree.map(
                lambda a, time=time: a[:, time], taught
            )
            poses = see(observed)
            actions, beliefs = play(poses, beliefs, start)
            np.testing.assert_array_equal(teacher, actions)
            expected = ask(poses, beliefs)
            assert_equal(targets.flags, expected.flags)
            np.testing.assert_allclose(targets.values, expected.values, atol=1e-5)
            seen.append(np.asarray(beliefs.seen).sum((1, 2)))
        assert_equal(jax.tree.leaves(state[2]), jax.tree.leaves(beliefs))
    # The second sequence begins an episode in its fifth step, and not with its first.
    assert np.asarray(x.start)[:, 4].all()
    assert not np.asarray(x.start)[:, 0].any()
    assert (seen[4] < seen[3]).any()


def states_of(env, observed):
    """States of mazes as far as the teacher reads them, from positions observed."""
    middle, cell = (env.cells - 2) / 2, 2.0
    x, y = ((observed["agent_pos"] - middle) * cell).T
    heading = jnp.arctan2(*observed["agent_dir"].T[::-1])
    grids = jnp.stack([layout_of(env, i) for i in range(env.num_layouts)])
    same = (grids[None] == observed["maze_layout"][:, None]).all((2, 3))
    away = observed["targets_pos"] - observed["target_pos"][:, None]
    state = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), len(x)))
    return state._replace(
        body=state.body._replace(x=x, y=y, heading=heading),
        layout=jnp.argmax(same, -1),
        targets=(observed["targets_pos"] - middle) * cell,
        target=jnp.argmin(jnp.abs(away).sum(-1), -1),
    )


def layout_of(env, number):
    state = env.reset(jax.random.key(0))._replace(layout=jnp.int32(number))
    return env.observe(state)["maze_layout"]


@pytest.mark.process
def test_the_belief_never_reaches_the_policy(tmp_path):
    run = Run(dataclasses.replace(ASKED, teacher_share=0.0), tmp_path / "asked")
    envs, memory_state, beliefs = run.state[1]
    other = jax.tree.map(lambda x: jnp.ones_like(x), beliefs)
    envs = envs._replace(start=jnp.zeros_like(envs.start))
    (_, one, _), (_, two, _) = (
        collect(run, (envs, memory_state, b)) for b in (beliefs, other)
    )
    assert (one.targets.flags != two.targets.flags).any()
    known = ("teacher", "targets")
    for name in set(one._fields) - set(known):
        assert_equal(getattr(one, name), getattr(two, name))
    # What is played is what it would be without a teacher.
    alone = Run(SMALL, tmp_path / "alone")
    assert alone.policy.observation_space == run.policy.observation_space
    _, one, _ = collect(run)
    _, two, _ = collect(alone)
    for name in set(one._fields) - {*known, "by_policy"}:
        assert_equal(getattr(one, name), getattr(two, name))


@pytest.mark.process
def test_a_resumed_run_repeats_the_one_that_was_not_stopped(tmp_path):
    whole = Run(ASKED, tmp_path / "whole")
    whole.train()
    stopped = Run(dataclasses.replace(ASKED), tmp_path / "stopped")
    stopped.recipe = dataclasses.replace(ASKED, total_steps=160)
    stopped.train()
    stopped.close()
    resumed = Run(ASKED, tmp_path / "stopped")
    assert resumed.step == 160
    assert np.asarray(resumed.state[1][2].seen).any()
    resumed.train()
    assert_same_weights(
        *(map(np.asarray, r.state[0].weights) for r in (whole, resumed))
    )
    assert_equal(*(jax.tree.leaves(r.state[1][2]) for r in (whole, resumed)))
    assert curve_rows(whole) == curve_rows(resumed)
    for name in ("loss", "cross_entropy", "squared_error"):
        assert curve_rows(whole)[-1][f"auxiliary_{name}"] > 0


def test_the_auxiliary_head_is_learnt_and_is_not_part_of_the_preset(tmp_path):
    run = Run(CUE, tmp_path / "asked")
    before = [np.asarray(w) for w in run.state[0].weights]
    run.train()
    number = len(run.policy.trainable_variables)
    assert len(before) == number + 4
    for old, new in zip(before[number:], run.state[0].weights[number:], strict=True):
        assert (old != np.asarray(new)).any()
    saved = np.load(run.checkpoints.last())
    assert sum(".weights" in name for name in saved.files) == number + 4
    run.update_policy()
    run.policy.save_to_preset(tmp_path / "preset")
    loaded = keras_agalite.MemoryPolicy.from_preset(tmp_path / "preset")
    assert_same_weights(
        [v.numpy() for v in loaded.trainable_variables],
        [np.asarray(w) for w in run.state[0].weights[:number]],
    )
    assert loaded.count_params() == run.policy.count_params()
    # It begins as the policy of a run that asks nothing.
    alone = Run(dataclasses.replace(CUE, auxiliary_coefficient=0.0), tmp_path / "alone")
    assert_same_weights(before[:number], map(np.asarray, alone.state[0].weights))


@pytest.mark.process
def test_the_auxiliary_loss_reaches_the_memory_and_not_the_heads(tmp_path):
    run = Run(CUE, tmp_path)
    ppo = run.ppo
    _, experience, _ = collect(run)
    batch = ppo.prepare(experience)

    def gradients(coefficient):
        recipe = dataclasses.replace(CUE, auxiliary_coefficient=coefficient)
        ppo.recipe = recipe
        return jax.grad(ppo.loss, has_aux=True)(run.state[0].weights, batch)[0]

    without, with_loss = gradients(0.0), gradients(1.0)
    differ = {
        v.path
        for v, a, b in zip(ppo.variables, without, with_loss, strict=True)
        if (a != b).any()
    }
    memory = {v.path for v in run.policy.memory.trainable_variables}
    own = {v.path for v in run.policy.trainable_variables}
    assert len(differ & memory) > len(memory) / 2
    assert differ & own <= memory  # T-Maze's encoder has no weights
    assert {v.path for v in ppo.head.trainable_variables} <= differ


def test_the_memory_learns_the_cue(tmp_path):
    recipe = dataclasses.replace(
        CUE, total_steps=8000, learning_rate=1e-2, checkpoint_interval=8000
    )
    run = Run(recipe, tmp_path)
    run.train()
    first, last = run.curve.rows[0], run.curve.rows[-1]
    assert first["auxiliary_cross_entropy"] > 0.5
    assert last["auxiliary_cross_entropy"] < 0.2


def test_the_auxiliary_loss_equals_plain_numpy():
    random = np.random.default_rng(0)
    logits, flag_weights = random.normal(size=(2, 3, 4, 5))
    values, answers, value_weights = random.normal(size=(3, 3, 4, 2))
    flags = random.random((3, 4, 5)) < 0.5
    flag_weights, value_weights = flag_weights > 0, value_weights > 0
    p = 1 / (1 + np.exp(-logits))
    cross_entropy = -np.log(np.where(flags, p, 1 - p))[flag_weights].mean()
    squared_error = ((values - answers) ** 2)[value_weights].mean()
    targets = functional.TeacherTargets(flags, flag_weights, answers, value_weights)
    loss, metrics = auxiliary_loss(logits, values, targets)
    assert loss == pytest.approx(cross_entropy + squared_error, rel=1e-5)
    assert metrics["auxiliary_cross_entropy"] == pytest.approx(cross_entropy, rel=1e-5)
    assert metrics["auxiliary_squared_error"] == pytest.approx(squared_error, rel=1e-5)
    nothing = jax.tree.map(np.zeros_like, targets)
    assert auxiliary_loss(logits, values, nothing)[0] == 0.0


@pytest.mark.process
def test_targets_are_relative_to_the_walker():
    env = make_env()
    state, belief = env.reset(jax.random.key(0)), env.initial_teacher_state()
    act, step = jax.jit(env.teacher_action), jax.jit(env.step)
    action, belief = act(state, belief, True)
    for _ in range(19):
        state, *_ = step(jax.random.key(1), state, action)
        action, belief = act(state, belief, False)
    seen = env.observe(state)
    targets = env.teacher_targets(state, belief)
    cells = env.cells - 2
    vectors = np.asarray(targets.values).reshape(-1, 2) * cells
    known = np.asarray(belief.known)
    np.testing.assert_allclose(
        vectors[known], np.asarray(seen["targets_vec"])[known], atol=1e-5
    )
    here, ahead = np.asarray(seen["agent_pos"]), np.asarray(seen["agent_dir"])
    right = np.array([ahead[1], -ahead[0]])
    asked = 0
    for i in range(cells**2):
        row, column = divmod(i, cells)
        side = cells // 2
        x, y = np.floor(here + (column - side) * right + (row - side) * ahead)
        inside = 0 <= x < cells and 0 <= y < cells
        if inside and belief.seen[int(y), int(x)]:
            assert targets.flag_weights[i]
            asked += 1
            is_wall = seen["maze_layout"][int(y), int(x)] == 0
            assert targets.flags[i] == is_wall
        else:
            assert not targets.flag_weights[i]
    assert asked > 10
    assert known.any()
    np.testing.assert_array_equal(targets.flags[-3:], known)
    assert np.asarray(targets.flag_weights[-3:]).all()


@pytest.mark.process
def test_the_teachers_that_see_the_maze_know_nothing_to_ask_for():
    for teacher, offers in (("explorer", True), ("ahead", False), ("shortest", False)):
        env = functional.PreviousActionReward(make_env(teacher))
        assert (env.teacher_targets is not None) == offers
        assert bool(jax.tree.leaves(env.initial_teacher_state())) == offers
        state = env.reset(jax.random.key(0))
        belief = env.initial_teacher_state()
        action, after = env.teacher_action(state, belief, True)
        assert 0 <= int(action) < 6
        assert jax.tree.structure(after) == jax.tree.structure(belief)
    with pytest.raises(ValueError, match="`teacher` must be one of explorer, ahead, s"):
        make_env("nobody")


def test_a_policy_of_another_width_is_asked():
    policy = keras_agalite.MemoryPolicy(
        keras_agalite.MLPEncoder(gymnasium.spaces.Box(0, 1, (12,), np.float32)),
        keras_agalite.GRU(6),
        gymnasium.spaces.Discrete(4),
    )
    head = AuxiliaryHead(functional.TMaze(), policy, CUE)
    logits, values = head(np.zeros((2, 3, 6), np.float32))
    assert (logits.shape, values.shape) == ((2, 3, 1), (2, 3, 0))
    assert len(PPO(policy, CUE, head).variables) == len(policy.trainable_variables) + 4
