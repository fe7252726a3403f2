"""What would end a run late is found before its first step, on both engines."""

import contextlib
import dataclasses
import fcntl
import importlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time

import gymnasium
import keras
import numpy as np
import pytest

from tests.training import processes
from tests.training.test_faults import SMALL
from training.__main__ import main
from training.atomic_write import write_text
from training.runs.interrupt import Interrupt

pytestmark = pytest.mark.usefixtures("quick_compilation")


class Words(gymnasium.Env):
    """Sees what no encoder reads."""

    observation_space = gymnasium.spaces.Text(3)
    action_space = gymnasium.spaces.Discrete(2)


gymnasium.register("Words-v0", Words)


@pytest.fixture
def train(tmp_path):
    """Trains in `tmp_path/run` with keys changed; gives the exit code."""

    def train(*options, run="run", **changed):
        file = tmp_path / "small.toml"
        file.write_text(dataclasses.replace(SMALL, **changed).to_toml(), "utf-8")
        return main(["train", str(file), "--run-dir", str(tmp_path / run), *options])

    return train


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"head_activation": "celu"}, "Received: head_activation='celu'"),
        ({"head_units": 2**21}, "Received: head_units=2097152"),
        (
            {"encoder_arguments": {"units": [4], "activation": "exponential"}},
            "Received: activation='exponential'",
        ),
        ({"memory_arguments": {"hidden_dim": 2**70}}, "Received: hidden_dim=1180"),
        (
            {"memory": "gru", "memory_arguments": {"num_layers": 1_000_000}},
            "at most 1,024. Received: num_layers=1000000",
        ),
        ({"memory_arguments": {"hidden_dim": -1}}, "`hidden_dim` must be a positive"),
        (
            {"memory_arguments": {"hidden_dim": 8, "dtype": "bfloat16"}},
            "Received: dtype='bfloat16'",
        ),
        (
            {"memory_arguments": {"hidden_dim": 8, "return_sequences": False}},
            "`memory_arguments` must be those of Memoryless: hidden_dim",
        ),
        (
            {
                "environment": "Words-v0",
                "encoder_arguments": {},
            },
            "error: Expected a space that is Box",
        ),
        ({"num_environments": 2**30}, "The recipe needs at least"),
        ({"sequence_length": 2**31 - 1}, "The recipe needs at least"),
        ({"initial_preset": "nowhere"}, "Received: preset='nowhere'"),
        ({"initial_preset": "tmaze_10"}, "`initial_preset` must hold the policy"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else None,
)
def test_a_recipe_that_cannot_end_well_is_refused(
    changed, told, train, tmp_path, capfd
):
    assert train(**changed) == 2
    assert told in capfd.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_missing_preset_is_told_before_environments_are_made(
    train, monkeypatch, capfd
):
    engine = importlib.import_module(f"training.engines.{SMALL.engine}")
    monkeypatch.setattr(engine.Run, "spaces", lambda self: pytest.fail("made"))
    assert train(initial_preset="nowhere") == 2
    assert "nowhere" in capfd.readouterr().err


@pytest.mark.filterwarnings("ignore:.*render_mode")  # gymnasium's own
def test_what_cannot_be_drawn_is_refused_with_video(train, tmp_path, capfd):
    assert train("--video") == 2
    assert "render_mode" in capfd.readouterr().err
    assert not (tmp_path / "run").exists()


class Alone(gymnasium.Env):
    """Sees three numbers where its vector sees two."""

    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)


class Together(gymnasium.vector.VectorEnv):
    def __init__(self, num_envs=1, **unused):
        self.num_envs = num_envs
        self.single_observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        self.single_action_space = gymnasium.spaces.Discrete(2)
        batch = gymnasium.vector.utils.batch_space
        self.observation_space = batch(self.single_observation_space, num_envs)
        self.action_space = batch(self.single_action_space, num_envs)
        self.metadata = {"autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP}


gymnasium.register("Apart-v0", Alone, vector_entry_point=Together)


def test_what_cannot_be_evaluated_is_refused(train, tmp_path, capfd):
    assert train(environment="Apart-v0") == 2
    assert "must have the same spaces alone as in a vector" in capfd.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("previous", [False, True])
def test_an_environment_with_a_vector_form_of_its_own_is_evaluated(
    previous, train, tmp_path
):
    assert train(environment="CartPole-v1", previous_action_reward=previous) == 0
    assert (tmp_path / "run" / "evaluation.json").exists()


def test_a_finished_run_that_changes_nothing_writes_nothing(train, tmp_path):
    def state():
        files = sorted((tmp_path / "run").rglob("*"))
        return [(file, file.stat().st_mtime_ns) for file in files]

    assert train() == 0
    before = state()
    assert train() == 0
    assert state() == before
    assert train(evaluation_episodes=3) == 0
    assert state() != before


def test_a_folder_with_blanks_and_any_letters(train, tmp_path):
    assert train(run="и ü/with blanks", name="ü и") == 0
    assert train(run="и ü/with blanks", name="ü и", total_steps=200) == 0
    assert (tmp_path / "и ü" / "with blanks" / "preset" / "config.json").exists()


def test_a_file_is_no_folder_for_a_run(train, tmp_path, capfd):
    (tmp_path / "run").touch()
    assert train() == 2
    assert "Expected a folder for the run" in capfd.readouterr().err


def test_a_read_only_folder_is_told_at_once(train, tmp_path, monkeypatch, capfd):
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: path != tmp_path and access(path, mode)
    )
    assert train() == 1
    assert f"Cannot write {tmp_path}/run/recipe.toml" in capfd.readouterr().err


@pytest.mark.once
def test_a_file_that_cannot_be_written_is_told_by_its_own_name(tmp_path):
    (tmp_path / "folder").touch()
    file = tmp_path / "folder" / "recipe.toml"
    with pytest.raises(OSError, match=f"Cannot write {file}"):
        write_text(file, "")


def test_a_second_process_is_refused(train, tmp_path, capfd):
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert train() == 1
    error = capfd.readouterr().err
    assert f"Another process trains in {tmp_path}/run." in error
    assert not (tmp_path / "run" / "recipe.toml").exists()
    assert train() == 0  # the lock has ended


@pytest.mark.process
def test_a_full_disk_is_one_line(tmp_path):
    file, run = tmp_path / "small.toml", tmp_path / "run"
    recipe = dataclasses.replace(SMALL, total_steps=4000, checkpoint_interval=2**40)
    file.write_text(recipe.to_toml())
    script = (
        "import resource, sys; from training.__main__ import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY)); "
        "sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, "train", str(file), "--run-dir", str(run)]
    # What JAX cannot keep of its compilation it warns of.
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert f"error: Cannot write {run}/curve.jsonl: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.process
def test_the_lock_ends_with_its_process(tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(dataclasses.replace(SMALL, total_steps=2**40).to_toml())
    run = tmp_path / "run"
    first = started(file, run)
    try:
        second = processes.in_a_process(file, run, log=tmp_path / "second.log")
        assert second.wait() == 1
        assert (
            f"Another process trains in {run}." in (tmp_path / "second.log").read_text()
        )
        first.kill()
        first.wait()
        again = started(file, run, rows=len(lines_of(run)) + 1)
        again.send_signal(signal.SIGTERM)
        assert again.wait() == 128 + signal.SIGTERM
    finally:
        first.kill()


def lines_of(run):
    curve = run / "curve.jsonl"
    return curve.read_text().splitlines() if curve.exists() else []


def started(file, run, rows=1):
    """A run in a process of its own that has done its first iterations."""
    process = processes.in_a_process(file, run)
    while len(lines_of(run)) < rows:
        assert process.poll() is None, processes.log_of(run)
        time.sleep(0.05)
    return process


@pytest.mark.process
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=lambda n: n.name
)
def test_a_sweep_that_is_ended_leaves_no_training_behind(number, tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(dataclasses.replace(SMALL, total_steps=2**40).to_toml())
    run = tmp_path / "sweep" / "seed_0"
    command = [sys.executable, "-m", "training", "sweep", str(file)]
    with (tmp_path / "log").open("w") as log:
        sweep = subprocess.Popen(
            [*command, "--run-dir", str(tmp_path / "sweep")], stdout=log, stderr=log
        )
    try:
        while not lines_of(run):
            assert sweep.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.05)
        sweep.send_signal(number)
        code = sweep.wait(timeout=60)
        assert code == (-number if number == signal.SIGKILL else 128 + number)
        limit = time.monotonic() + 60
        with (run / "lock").open() as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    assert time.monotonic() < limit, "the training goes on"
                    time.sleep(0.1)
    finally:
        sweep.kill()
    last = processes.checkpointed_weights(run)[0]  # it has saved before it ended
    assert int(last[5:-4]) == processes.curve_steps(run)[-1]
    assert not (tmp_path / "sweep" / "seed_1").exists()


IN_A_TERMINAL = """
import os, sys
os.setsid()
terminal = os.open(sys.argv[1], os.O_RDWR)  # which becomes the session's own
for number in range(3):
    os.dup2(terminal, number)
from training.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.process
def test_a_run_whose_terminal_is_closed_saves_and_stops(tmp_path):
    file, run = tmp_path / "small.toml", tmp_path / "run"
    file.write_text(dataclasses.replace(SMALL, total_steps=2**40).to_toml())
    terminal, child = pty.openpty()
    train = ["train", str(file), "--run-dir", str(run)]
    process = subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL, os.ttyname(child), *train]
    )
    try:
        while not lines_of(run):
            assert process.poll() is None
            if select.select([terminal], [], [], 0.05)[0]:  # else it would be full
                os.read(terminal, 1000)
        os.close(terminal)
        assert process.wait(timeout=60) == 128 + signal.SIGHUP
    finally:
        os.close(child)
        process.kill()
        process.wait()
    last = processes.checkpointed_weights(run)[0]
    assert int(last[5:-4]) == processes.curve_steps(run)[-1]


@pytest.mark.process
def test_a_run_whose_output_nobody_reads_goes_on(tmp_path):
    file, run = tmp_path / "small.toml", tmp_path / "run"
    file.write_text(dataclasses.replace(SMALL, total_steps=4000).to_toml())
    command = [sys.executable, "-m", "training", "train", str(file)]
    with subprocess.Popen(
        [*command, "--run-dir", str(run)], stdout=subprocess.PIPE
    ) as process:
        process.stdout.close()
        process.wait()
    assert (run / "evaluation.json").exists()


@pytest.mark.once
def test_a_signal_that_comes_twice_is_one():
    """A batch system sends it to a sweep and its run, and the sweep passes it on."""
    with Interrupt() as interrupt:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.signal_number == signal.SIGTERM
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL


@pytest.mark.once
def test_nohup_is_respected():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interrupt.signal_number is None
    finally:
        signal.signal(signal.SIGHUP, before)


@contextlib.contextmanager
def default_dtype(floatx):
    """Keras's settings, as `~/.keras/keras.json` gives them; 64 bits in JAX as well."""
    with contextlib.ExitStack() as stack:
        if keras.backend.backend() == "jax":
            import jax

            stack.enter_context(jax.enable_x64(floatx == "float64"))
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(floatx)
        try:
            yield
            assert keras.config.floatx() == keras.config.dtype_policy().name == floatx
        finally:
            keras.config.set_floatx("float32")
            keras.config.set_dtype_policy("float32")


@pytest.mark.process
def test_the_default_dtype_changes_nothing(train, tmp_path):
    environment = "tmaze_4" if SMALL.engine == "jax" else SMALL.environment
    dtypes = ("float32", "float64", "bfloat16")
    for floatx in dtypes:
        with default_dtype(floatx):
            run = {"run": floatx, "environment": environment, "memory": "memoryless"}
            assert train(**run) == 0
    (name, expected), *others = (
        processes.checkpointed_weights(tmp_path / floatx) for floatx in dtypes
    )
    assert name == f"step_{SMALL.total_steps:012}.npz"
    files = [tmp_path / floatx / "evaluation.json" for floatx in dtypes]
    assert len({json.loads(file.read_text())["mean_return"] for file in files}) == 1
    for _, weights in others:
        processes.assert_same_weights(weights, expected)
