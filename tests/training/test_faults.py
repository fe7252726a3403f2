"""What goes wrong at night, in the engine of the backend that the tests run on."""

import dataclasses
import importlib
import importlib.util
import json
import os
import resource
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.training import processes
from tests.training.faulty import NAME
from training.__main__ import main
from training.errors import Interrupted
from training.recipe import Recipe
from training.runs import footprint
from training.runs.interrupt import Interrupt

pytestmark = pytest.mark.usefixtures("quick_compilation")

ENGINES = {"tensorflow": "tf_agents", "jax": "jax"}
SMALL = Recipe(
    name="small",
    engine=ENGINES[keras.backend.backend()],
    environment=NAME,  # has no functional form: both engines step it in gymnasium
    total_steps=160,
    memory="memoryless",
    memory_arguments={"hidden_dim": 8},
    head_units=8,
    num_environments=4,
    sequence_length=10,
    num_epochs=2,
    num_minibatches=2,
    checkpoint_interval=80,
    evaluation_episodes=2,
    jit_compile=False,
)


@pytest.fixture
def train(tmp_path):
    """Trains in `tmp_path/run` with keys of the recipe changed; gives the exit code."""

    def train(**changed):
        file = tmp_path / "small.toml"
        file.write_text(dataclasses.replace(SMALL, **changed).to_toml())
        return main(["train", str(file), "--run-dir", str(tmp_path / "run")])

    return train


def during_iteration(monkeypatch, number, action):
    """Has `action(run)` happen before an iteration is done, counted from 1."""
    run_class = importlib.import_module(f"training.engines.{SMALL.engine}").Run
    iterate, count = run_class.iterate, [0]

    def counted(self, *arguments):
        count[0] += 1
        if count[0] == number:
            action(self)
        return iterate(self, *arguments)

    monkeypatch.setattr(run_class, "iterate", counted)


def steps_saved(tmp_path):
    files = (tmp_path / "run" / "checkpoints").glob("*")
    return sorted(file.name for file in files)


def test_ctrl_c_saves_and_the_run_goes_on_later(train, tmp_path, monkeypatch, capfd):
    with monkeypatch.context() as patched:
        during_iteration(patched, 3, lambda _: os.kill(os.getpid(), signal.SIGINT))
        assert train() == 130
    assert "Stopping after this iteration" in capfd.readouterr().err
    assert steps_saved(tmp_path)[-1] == "step_000000000120.npz"
    assert not (tmp_path / "run" / "preset").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert train() == 0
    assert processes.curve_steps(tmp_path / "run") == [40, 80, 120, 160]


@pytest.mark.process
def test_a_second_ctrl_c_stops_at_once():
    script = """
import os, signal, time
from training.runs.interrupt import Interrupt
with Interrupt() as interrupt:
    os.kill(os.getpid(), signal.SIGINT)
    assert interrupt.signal_number == signal.SIGINT
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
"""
    process = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE)
    assert process.returncode == -signal.SIGINT
    assert b"once more stops at once" in process.stderr


def test_a_full_disk_names_the_file_and_leaves_the_last_checkpoint(
    train, tmp_path, monkeypatch, capfd
):
    """A limit of file sizes is met in the middle of writing, as a full disk is."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(run):
        size = run.checkpoints.last().stat().st_size // 2
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))

    with monkeypatch.context() as patched:
        during_iteration(patched, 3, fill)
        try:
            assert train() == 1
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    error = capfd.readouterr().err
    assert f"Cannot write {tmp_path}/run/checkpoints/step_000000000160.npz" in error
    assert "Traceback" not in error
    assert steps_saved(tmp_path) == ["step_000000000080.npz"]
    assert train() == 0
    assert processes.curve_steps(tmp_path / "run") == [40, 80, 120, 160]


def poison(run):
    """Makes a weight NaN."""
    if SMALL.engine == "jax":
        learner, *rest = run.state
        weights = [w.at[...].set(np.nan) for w in learner.weights[:1]]
        weights += learner.weights[1:]
        run.state = (learner._replace(weights=weights), *rest)
    else:
        weight, prepare = run.policy.trainable_variables[0], run._prepare

        def after_collecting(*arguments):
            weight.assign(weight * np.nan)
            return prepare(*arguments)

        run._prepare = after_collecting


def test_a_loss_that_is_no_number_stops_the_run_at_its_last_good_checkpoint(
    train, tmp_path, monkeypatch, capfd
):
    with monkeypatch.context() as patched:
        during_iteration(patched, 3, poison)
        assert train() == 1
    error = capfd.readouterr().err
    assert "At step 120 a term of the loss is not finite: " in error
    assert "value_estimation_loss=nan" in error
    assert "gradient_norm=nan" in error
    last = f"last good checkpoint is {tmp_path}/run/checkpoints/step_000000000080.npz"
    assert last in error
    assert steps_saved(tmp_path) == ["step_000000000080.npz"]
    assert train() == 0


def test_a_weight_that_is_no_number_is_not_saved(train, tmp_path, monkeypatch, capfd):
    """Also where the loss did not tell."""
    from training.runs import finite

    monkeypatch.setattr(finite, "GUARDED", ())
    during_iteration(monkeypatch, 4, poison)
    assert train() == 1
    assert "is not finite; it is not saved" in capfd.readouterr().err
    assert steps_saved(tmp_path) == ["step_000000000080.npz"]


@pytest.mark.parametrize(
    "mode", ["sync", pytest.param("async", marks=pytest.mark.process)]
)
def test_wrong_data_stops_the_run(train, mode, capfd):
    arguments = {"fault": "reward", "at": 5}
    assert train(environment_arguments=arguments, vectorization_mode=mode) == 1
    error = capfd.readouterr().err
    assert "Environment 0 (last seeded with " in error
    assert "step 5 of its episode and 5 of all: the reward is nan" in error
    assert "Traceback" not in error


@pytest.mark.process
def test_a_worker_that_dies_does_not_stop_the_run(train, tmp_path):
    arguments = {"fault": "die", "at": 5, "once": str(tmp_path / "once")}
    with pytest.warns(RuntimeWarning, match="died with exit code 7"):
        assert train(environment_arguments=arguments, vectorization_mode="async") == 0
    rows = (tmp_path / "run" / "curve.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [40, 80, 120, 160]


@pytest.mark.process
def test_processes_learn_what_one_process_learns(train, tmp_path):
    weights = []
    for mode in ("sync", "async"):
        assert train(vectorization_mode=mode) == 0
        weights.append(processes.checkpointed_weights(tmp_path / "run"))
        (tmp_path / "run").rename(tmp_path / mode)
    assert weights[0][0] == weights[1][0]
    processes.assert_same_weights(weights[0][1], weights[1][1])


def test_a_recipe_that_needs_too_much_memory_is_refused_at_once(train, tmp_path, capfd):
    # Were it not, this would make ten million environments.
    assert train(num_environments=10_000_000, num_minibatches=1) == 2
    error = capfd.readouterr().err
    assert "The recipe needs at least " in error
    assert "num_environments=10000000" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(
    importlib.util.find_spec("wandb") is not None, reason="wandb is installed"
)
def test_a_writer_that_is_missing_is_told_before_training(tmp_path, capfd):
    file = tmp_path / "small.toml"
    file.write_text(SMALL.to_toml())
    run = tmp_path / "run"
    arguments = ["train", str(file), "--run-dir", str(run), "--wandb", "mazes"]
    assert main(arguments) == 2
    assert "pip install wandb" in capfd.readouterr().err
    assert not run.exists()


def test_the_footprint_grows_with_what_it_is_made_of(monkeypatch):
    from training.envs.make import make_spaces
    from training.learning.policy import make_policy

    recipe = dataclasses.replace(SMALL, memory="gru")
    policy = make_policy(recipe, *make_spaces(recipe))
    small = footprint.footprint(policy, recipe)
    more = dataclasses.replace(recipe, num_environments=8, num_minibatches=4)
    large = footprint.footprint(policy, more)
    assert large["rollout"] == 2 * small["rollout"]
    assert large["states"] == 2 * small["states"] == 2 * 8 * 8 * 4
    assert large["activations"] == small["activations"]
    assert large["weights"] == small["weights"] == 16 * policy.count_params()
    # Encoder, memory, the hidden layers of actor and critic, logits, value.
    assert footprint.activations(policy, 1) >= 8 + 8 + 8 + 2 + 1
    monkeypatch.setattr(footprint, "available_bytes", lambda: sum(small.values()))
    footprint.check_ram(policy, recipe)
    with pytest.raises(ValueError, match="num_environments=8"):
        footprint.check_ram(policy, more)


def test_what_is_free_is_read_from_the_system(tmp_path):
    assert footprint.available_bytes() is None or footprint.available_bytes() > 0
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  100 kB\nMemAvailable:   40 kB\n")
    assert footprint._meminfo(meminfo) == 40 * 1024
    assert footprint._meminfo(tmp_path / "none") is None
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert footprint._control_group(tmp_path) is None
    (tmp_path / "memory.max").write_text("5000\n")
    assert footprint._control_group(tmp_path) == 4000


def test_both_engines_tell_the_same(train, tmp_path):
    assert train() == 0
    row = json.loads((tmp_path / "run" / "curve.jsonl").read_text().splitlines()[-1])
    assert set(row) == {
        "step",
        "steps_per_second",
        "collect_steps_per_second",
        "learn_steps_per_second",
        "episodes",
        "mean_return",
        "mean_length",
        "success_rate",
        "loss",
        "policy_gradient_loss",
        "value_estimation_loss",
        "entropy_regularization_loss",
        "clip_fraction",
        "entropy",
        "kl_divergence",
        "explained_variance",
        "gradient_norm",
    }
    terms = [row[f"{k}_loss"] for k in ("policy_gradient", "value_estimation")]
    total = sum(terms) + row["entropy_regularization_loss"]
    assert row["loss"] == pytest.approx(total, abs=1e-4)
    assert row["gradient_norm"] > 0.0
    assert row["mean_length"] == 6.0


def test_what_ends_a_machine_ends_a_run_as_ctrl_c_does():
    with Interrupt() as interrupt:
        interrupt.raise_if_asked()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted) as stop:
            interrupt.raise_if_asked()
    assert stop.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
