"""The JAX engine: what it collects and writes, and that a run repeats itself."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import keras_agalite
from keras_agalite.environments import tmaze
from tests.training import processes
from tests.training.processes import (
    MEASURED,
    assert_same_weights,
    check_the_choice,
    checkpointed_weights,
    curve_rows,
    curve_steps,
    in_a_process,
    log_of,
    run_killed_at_random,
)
from training.__main__ import main
from training.engines.jax import Run
from training.learning.collect import finished
from training.learning.ppo import PPO

pytestmark = pytest.mark.usefixtures("quick_compilation")

SMALL = dataclasses.replace(
    processes.SMALL,
    engine="jax",
    total_steps=800,
    num_environments=8,
    checkpoint_interval=240,
)
TAUGHT = dataclasses.replace(
    SMALL, teacher_coefficient=0.5, teacher_share=0.5, anneal_teacher=True
)
ASKED = dataclasses.replace(TAUGHT, auxiliary_coefficient=0.5)
# An environment without a functional form: gymnasium steps it.
FED = dataclasses.replace(
    SMALL,
    environment="CartPole-v1",
    environment_arguments={"max_episode_steps": 7},
)

MEASURED_SMALL = dataclasses.replace(SMALL, **MEASURED)
MEASURED_FED = dataclasses.replace(FED, **MEASURED)


@pytest.fixture
def recipe_file(tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(SMALL.to_toml())
    return str(file)


@pytest.mark.process
def test_a_run_imports_no_tensorflow(recipe_file, tmp_path):
    """Keras and TensorBoard would, which takes seconds; an environment still may."""
    pytest.importorskip("tensorflow")
    code = f"""
import sys
from training.__main__ import main

run = {str(tmp_path / "run")!r}
assert main(["train", {recipe_file!r}, "--run-dir", run]) == 0
assert "tensorflow" not in sys.modules
import tensorflow
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert list((tmp_path / "run" / "tensorboard").iterdir())


def final_weights(run):
    return [np.asarray(w) for w in run.state[0].weights]


def test_a_run_writes_what_the_docs_say_and_is_continued(recipe_file, tmp_path, capfd):
    run = tmp_path / "run"
    arguments = ["train", recipe_file, "--run-dir", str(run)]
    assert main([*arguments, "--video"]) == 0
    for name in (
        "episodes.gif",
        "machine.json",
        "recipe.toml",
        "curve.jsonl",
        "learning_curve.png",
        "evaluation.json",
        "preset/config.json",
        "preset/model.weights.h5",
        "preset/recipe.toml",
        "checkpoints/step_000000000800.npz",
    ):
        assert (run / name).stat().st_size > 0, name
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert evaluation["trained_steps"] == 800
    policy = keras_agalite.MemoryPolicy.from_preset(run / "preset")
    last = np.load(run / "checkpoints" / "step_000000000800.npz")
    saved = [last[name] for name in last.files if ".weights" in name]
    assert_same_weights([v.numpy() for v in policy.trainable_variables], saved)
    assert curve_steps(run) == list(range(80, 801, 80))
    assert "steps/s" in capfd.readouterr().out

    assert main([*arguments, "--set", "total_steps=960"]) == 0
    assert curve_steps(run) == list(range(80, 961, 80))
    assert main([*arguments, "--set", "learning_rate=0.1"]) == 2
    assert "changed ['learning_rate']" in capfd.readouterr().err

    # Another run begins with its weights.
    preset = str(run / "preset")
    second = Run(dataclasses.replace(SMALL, initial_preset=preset), tmp_path / "second")
    policy = keras_agalite.MemoryPolicy.from_preset(preset)
    assert_same_weights(
        final_weights(second), [v.numpy() for v in policy.trainable_variables]
    )
    other = dataclasses.replace(SMALL, initial_preset=preset, head_units=9)
    with pytest.raises(ValueError, match="must hold the policy that the recipe"):
        Run(other, tmp_path / "third")


def test_staggered_episodes_begin_in_the_middle_of_their_time(tmp_path):
    one = Run(SMALL, tmp_path / "one").state[1][0]
    run = Run(dataclasses.replace(SMALL, stagger_episodes=True), tmp_path / "two")
    two = run.state[1][0]
    elapsed, limit = np.asarray(two.elapsed), run.env.max_episode_steps
    assert len(set(elapsed.tolist())) > 1
    assert (elapsed >= 0).all()
    assert (elapsed < limit).all()
    assert_same_weights(
        *(jax.tree.leaves(x._replace(elapsed=x.total)) for x in (one, two))
    )
    with pytest.raises(ValueError, match="environment='CartPole-v1', stagger"):
        Run(dataclasses.replace(FED, stagger_episodes=True), tmp_path / "three")


def test_collected_sequences_say_what_happened(tmp_path):
    """Replayed by hand: values, log-probabilities and starts, across two sequences."""
    run = Run(SMALL, tmp_path)
    ppo, collect = run.ppo, jax.jit(run.collector.collect)
    learner, state = run.state
    first = state[1]
    state, one, _ = collect(learner, state)
    _, two, episodes = collect(learner._replace(iteration=np.int32(1)), state)
    np.testing.assert_array_equal(two.state[0], state[1][0])
    np.testing.assert_array_equal(one.start[:, 0], True)
    # After the last frame of an episode comes the first one of the next.
    np.testing.assert_array_equal(one.start[:, 1:], ~one.valid[:, :-1])
    np.testing.assert_array_equal(one.valid[:, 1:], ~one.ended[:, :-1])
    assert np.asarray(two.start[:, 1:]).any()
    assert np.asarray(two.terminated == two.ended).all()
    reward = np.asarray(two.reward)
    np.testing.assert_array_equal(reward == 0, ~two.valid)
    # The two sequences in one: the same values and log-probabilities.
    observation, start, action = (
        np.concatenate([getattr(one, name), getattr(two, name)], axis=1)
        for name in ("observation", "start", "action")
    )
    out, _ = ppo.run_policy(learner.weights, observation, first, start)
    log_prob = ppo.policy.actor.log_prob(out.logits, action)
    np.testing.assert_allclose(out.value[:, 10:], two.value, atol=1e-5)
    np.testing.assert_allclose(log_prob[:, 10:], two.log_prob, atol=1e-5)
    np.testing.assert_allclose(out.value[:, 10], one.final_value, atol=1e-5)
    # Every episode that ended, with its return: both sequences hold it whole or not.
    ended = finished(jax.tree.map(np.asarray, episodes))
    assert len(ended) == np.asarray(two.ended).sum() > 0
    for episode in ended:
        last = 4.0 if episode["success"] else -1.0
        assert episode["return"] == pytest.approx(last - 0.1 * (episode["length"] - 1))


def collected(run):
    """The first sequences of a run."""
    if run.vector is None:
        _, experience, _ = jax.jit(run.collector.collect)(*run.state)
        return experience
    kept = []
    run.collector._learn = lambda learner, batch: kept.append(batch) or (learner, {})
    run.collector.reset(0)
    run.collector.iterate(run.state[0])
    return kept[0]


def test_a_teacher_says_what_it_would_have_done(tmp_path):
    run = Run(TAUGHT, tmp_path)
    experience = collected(run)
    junction = TAUGHT.environment_arguments["corridor_length"] - 1
    gray = junction ^ junction >> 1
    bits = np.asarray(experience.observation)[..., 2:-6]
    there = (bits == [gray >> i & 1 for i in range(bits.shape[-1])][::-1]).all(-1)
    teacher = np.asarray(experience.teacher)
    assert 0 < there.sum() < there.size
    np.testing.assert_array_equal(teacher == tmaze.RIGHT, ~there)
    # In five of eight environments it acts, and wins.
    own, agrees = np.asarray(experience.by_policy), teacher == experience.action
    assert own[:, 0].sum() == 3
    assert agrees[~own].all()
    assert not agrees[own].all()
    won = np.asarray(experience.reward) > 0
    np.testing.assert_array_equal(won, experience.terminated & there & agrees)
    assert won[~own].any()
    assert not run.ppo.teacher_acts(10).any()  # at the end of the run


def test_a_truncated_episode_is_no_terminated_one(tmp_path):
    arguments = {"corridor_length": 4, "max_episode_steps": 7}
    functional = dataclasses.replace(SMALL, environment_arguments=arguments)
    for recipe in (functional, FED):
        experience = collected(Run(recipe, tmp_path / recipe.environment[:4]))
        truncated = np.asarray(experience.ended & ~experience.terminated)
        assert truncated[:, 6].any(), recipe.environment
        assert (np.asarray(experience.reward)[:, 7][truncated[:, 6]] == 0.0).all()
        assert np.asarray(experience.start)[:, 8][truncated[:, 6]].all()


def test_the_policy_sees_its_previous_action_and_reward(tmp_path):
    maze = {"corridor_length": 4, "max_episode_steps": 7}
    pendulum = {"max_episode_steps": 7}
    for environment, arguments in (
        (SMALL.environment, maze),
        ("Pendulum-v1", pendulum),
    ):
        recipe = dataclasses.replace(
            SMALL,
            environment=environment,
            environment_arguments=arguments,
            previous_action_reward=True,
        )
        run = Run(recipe, tmp_path / environment[:4])
        x = jax.tree.map(np.asarray, collected(run))

        # A Box action is drawn without bounds, and clipped for the environment.
        box = environment == "Pendulum-v1"
        done = np.clip(x.action, -2, 2) if box else np.eye(4)[x.action]
        follows = ~x.start[:, 1:, None]
        assert not follows.all()
        for seen, expected in (
            (x.observation["previous_action"], done),
            (x.observation["previous_reward"], x.reward[..., None]),
        ):
            assert (seen[x.start] == 0).all()
            np.testing.assert_allclose(seen[:, 1:], follows * expected[:, :-1], 1e-6)
        _, metrics = run.ppo.learn_in_steps(run.state[0], collected(run))
        assert np.isfinite(metrics["loss"]), environment


@pytest.mark.process
@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(MEASURED_SMALL, id="functional"),
        pytest.param(ASKED, id="taught"),
        pytest.param(MEASURED_FED, id="gymnasium"),
    ],
)
def test_a_resumed_run_repeats_the_one_that_was_not_stopped(recipe, tmp_path):
    whole = Run(recipe, tmp_path / "whole")
    whole.train()
    stopped = Run(recipe, tmp_path / "stopped")

    class StopError(RuntimeError):
        pass

    iterate, count = stopped.iterate, iter(range(5))

    def until_stopped():
        if next(count, None) is None:
            raise StopError
        return iterate()

    stopped.iterate = until_stopped
    with pytest.raises(StopError):
        stopped.train()
    stopped.close()
    resumed = Run(recipe, tmp_path / "stopped")
    assert resumed.step == 240
    resumed.train()
    assert resumed.step == 800
    assert_same_weights(final_weights(whole), final_weights(resumed))
    statistics = [jax.tree.leaves(run.state[0].statistics) for run in (whole, resumed)]
    assert_same_weights(*statistics)
    assert curve_rows(whole) == curve_rows(resumed)
    if recipe.validation_interval:
        resumed.update_policy()
        steps = check_the_choice(resumed, tmp_path / "stopped")
        assert steps == [160, 320, 480, 640, 800]


@pytest.mark.parametrize(
    "recipe", [MEASURED_SMALL, MEASURED_FED], ids=["functional", "gymnasium"]
)
def test_what_was_collected_is_counted_in(recipe, tmp_path):
    """Observations and discounted returns, against plain NumPy."""
    run = Run(recipe, tmp_path)
    x = jax.tree.map(np.asarray, collected(run))
    batch, statistics = jax.jit(run.ppo.begin)(run.state[0].statistics, x)

    assert not x.valid.all()
    count, mean, variance = statistics["observations"]
    rows = x.observation[x.valid]
    assert count == x.valid.sum()
    np.testing.assert_allclose(mean, rows.mean(0), 1e-4, 1e-5)
    np.testing.assert_allclose(variance, rows.var(0), 1e-4, 1e-5)
    total, totals = np.zeros(len(x.reward)), []
    for t in range(x.reward.shape[1]):
        total = recipe.discount * np.where(x.start[:, t], 0, total) + x.reward[:, t]
        totals += total[x.valid[:, t]].tolist()
    scale = statistics["rewards"]
    np.testing.assert_allclose(scale.returns, total, 1e-4)
    np.testing.assert_allclose(scale.moments.variance, [np.var(totals)], 1e-4)
    plain = run.ppo.prepare(x._replace(reward=x.reward / np.std(totals)))
    np.testing.assert_allclose(batch.advantage, plain.advantage, 1e-4, 1e-5)

    # From then on the policy acts with them, and so does its preset.
    learner = run.state[0]._replace(statistics=statistics)
    with run.ppo.with_weights(learner.all_weights):
        normalized = run.policy.normalizer(rows)
    varies = rows.std(0) > 0
    expected = (rows - rows.mean(0))[:, varies] / rows.std(0)[varies]
    np.testing.assert_allclose(normalized[:, varies], expected, 1e-3, 1e-4)
    run.state = (learner, *run.state[1:])
    run.update_policy()
    weights = run.policy.normalizer.get_weights()
    assert_same_weights(weights, statistics["observations"])


def test_an_iteration_that_waits_is_timed_by_itself(tmp_path, monkeypatch):
    """Learning in steps waits: the time of an iteration ends before the next one."""
    in_steps = property(lambda self: True, lambda self, value: None)
    monkeypatch.setattr(PPO, "learns_in_steps", in_steps, raising=False)
    run, events = Run(SMALL, tmp_path), []

    def iterate():
        events.append("iterate")
        return lambda: (events.append("report") or {}, [], {})

    monkeypatch.setattr(run, "iterate", iterate)
    run.train()

    assert not run.overlaps
    assert events == ["iterate", "report"] * (len(events) // 2)


def test_another_seed_is_another_run(tmp_path):
    weights = []
    for seed in (0, 1):
        recipe = dataclasses.replace(SMALL, seed=seed, total_steps=80)
        run = Run(recipe, tmp_path / str(seed))
        run.train()
        weights.append(final_weights(run))
    assert any((a != b).any() for a, b in zip(*weights, strict=True))


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_weights(tmp_path):
    recipe = dataclasses.replace(SMALL, total_steps=16_000, checkpoint_interval=800)
    run_killed_at_random(tmp_path, recipe, kills=2)


@pytest.mark.slow
def test_a_run_killed_many_times_ends_with_the_same_weights(tmp_path):
    recipe = dataclasses.replace(SMALL, total_steps=60_000, checkpoint_interval=800)
    run_killed_at_random(tmp_path, recipe, kills=25)


@pytest.mark.process
def test_eight_devices_end_with_the_weights_of_one(tmp_path):
    measured = {**MEASURED, "validation_interval": 0}
    recipe = dataclasses.replace(
        SMALL, num_environments=16, total_steps=1600, **measured
    )
    file = tmp_path / "recipe.toml"
    file.write_text(recipe.to_toml())
    flag = "--xla_force_host_platform_device_count=8"
    one = in_a_process(file, tmp_path / "one")
    eight = in_a_process(file, tmp_path / "eight", XLA_FLAGS=flag)
    assert one.wait() == 0, log_of(tmp_path / "one")
    assert eight.wait() == 0, log_of(tmp_path / "eight")
    _, expected = checkpointed_weights(tmp_path / "one")
    _, weights = checkpointed_weights(tmp_path / "eight")
    assert len(curve_steps(tmp_path / "eight")) == 10
    for a, b in zip(weights, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def assert_one_trained_it(tmp_path):
    """The run `two` has the weights of `one`, which one process trains here."""
    file = tmp_path / "recipe.toml"
    assert in_a_process(file, tmp_path / "one").wait() == 0, log_of(tmp_path / "one")
    _, expected = checkpointed_weights(tmp_path / "one")
    _, weights = checkpointed_weights(tmp_path / "two")
    for a, b in zip(weights, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    evaluation = json.loads((tmp_path / "two" / "evaluation.json").read_text())
    assert evaluation["trained_steps"] == checkpointed_steps(tmp_path / "one")


def checkpointed_steps(run_dir):
    return int(checkpointed_weights(run_dir)[0][5:-4])


def launched(file, run_dir, *options):
    command = [sys.executable, "-m", "training", "launch", str(file)]
    command += ["--processes", "2", "--run-dir", str(run_dir), *options]
    with (run_dir.parent / f"{run_dir.name}.log").open("w") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def launched_until_a_checkpoint(tmp_path, **changes):
    file, run = tmp_path / "recipe.toml", tmp_path / "two"
    file.write_text(dataclasses.replace(SMALL, **changes).to_toml())
    launcher = launched(file, run)
    while not list(run.glob("checkpoints/*.npz")):
        assert launcher.poll() is None, log_of(run)
        time.sleep(0.01)
    return launcher, run


def signal_process_1(launcher, number):
    found = ["pgrep", "-P", str(launcher.pid), "-f", "--", "--process 1"]
    os.kill(int(subprocess.check_output(found)), number)


@pytest.mark.slow
def test_two_processes_end_with_the_weights_of_one(tmp_path):
    file, run = tmp_path / "recipe.toml", tmp_path / "two"
    file.write_text(SMALL.to_toml())
    assert launched(file, run).wait(timeout=300) == 0, log_of(run)
    assert "[0] written to" in log_of(run)
    assert_one_trained_it(tmp_path)


@pytest.mark.slow
def test_a_killed_process_is_survived_by_a_restart(tmp_path):
    # The last step is one of a checkpoint too.
    launcher, run = launched_until_a_checkpoint(tmp_path, checkpoint_interval=160)
    signal_process_1(launcher, signal.SIGKILL)
    assert launcher.wait(timeout=300) == 0, log_of(run)
    lost = "process 1 was killed by SIGKILL: starting all again, 2 more times left"
    assert lost in log_of(run)
    assert curve_steps(run) == list(range(80, 801, 80))
    assert_one_trained_it(tmp_path)


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all(tmp_path):
    launcher, run = launched_until_a_checkpoint(tmp_path, total_steps=2**40)
    signal_process_1(launcher, signal.SIGTERM)
    assert launcher.wait(timeout=300) == 128 + signal.SIGTERM, log_of(run)
    assert checkpointed_steps(run) == curve_steps(run)[-1]
    assert not (run / "evaluation.json").exists()


@pytest.mark.slow
def test_a_process_that_fails_ends_all(tmp_path):
    launcher, run = launched_until_a_checkpoint(tmp_path, total_steps=2**40)
    (run / "checkpoints").rename(run / "moved")
    (run / "checkpoints").write_text("")  # process 0 alone writes there
    assert launcher.wait(timeout=60) == 1, log_of(run)
    assert "[0] error: Cannot write" in log_of(run)
    assert "starting all again" not in log_of(run)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [(0, 0), (0, 1)], ids=["alike", "different"])
def test_tasks_of_slurm_train_together(seeds, tmp_path):
    """With the variables that srun sets: JAX itself reads them."""
    file = tmp_path / "recipe.toml"
    file.write_text(SMALL.to_toml())
    job = {
        "SLURM_JOB_ID": str(os.getpid()),  # gives the port
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_STEP_NUM_TASKS": "2",
    }
    both = [
        in_a_process(
            file,
            tmp_path / "two",
            "--set",
            f"seed={seed}",
            log=tmp_path / f"{i}.log",
            SLURM_PROCID=str(i),
            SLURM_LOCALID=str(i),
            **job,
        )
        for i, seed in enumerate(seeds)
    ]
    codes = [process.wait(timeout=300) for process in both]
    logs = [(tmp_path / f"{i}.log").read_text() for i in range(2)]
    if seeds == (0, 0):
        assert codes == [0, 0], logs
        assert_one_trained_it(tmp_path)
    else:
        assert codes == [2, 2], logs
        assert "must have the same recipe" in logs[0]


def test_what_it_refuses(tmp_path, recipe_file, monkeypatch, capfd):
    monkeypatch.setattr(jax, "devices", lambda: [None] * 3)
    with pytest.raises(ValueError, match="multiple of the 3 devices"):
        Run(SMALL, tmp_path / "run")
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"no teacher. Received: environment='Cart"):
        Run(dataclasses.replace(FED, teacher_coefficient=1.0), tmp_path / "run")
    with pytest.raises(ValueError, match=r"no targets of a teacher. Received: env"):
        Run(dataclasses.replace(FED, auxiliary_coefficient=1.0), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    arguments = ["train", recipe_file, "--set", 'engine="tf_agents"']
    assert main([*arguments, "--run-dir", str(tmp_path / "run")]) == 2
    assert "KERAS_BACKEND=tensorflow" in capfd.readouterr().err
