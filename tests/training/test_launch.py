"""The launcher, with small programs in the place of training."""

import dataclasses
import os
import shlex
import signal
import socket
import subprocess
import sys

import pytest

from tests.training.processes import SMALL
from training.__main__ import main
from training.errors import Interrupted, TrainingError
from training.runs import launch
from training.runs.join import join, number_of_tasks
from training.runs.launch import supervise

pytestmark = [pytest.mark.once, pytest.mark.process]

ENDLESS = "import time; print('started', flush=True); time.sleep(100)"
# As training does: it saves, and says by which signal it was stopped.
STOPS = """
import signal, sys, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: sys.exit(128 + number))
print("started", flush=True)
time.sleep(100)
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(launch, "SECONDS_TO_END", 0.2)


def programs(*codes):
    return lambda: [[sys.executable, "-S", "-c", code] for code in codes]


def after(file, code):
    """A program that waits for a file first."""
    return (
        "import os, time\n"
        f"while not os.path.exists({str(file)!r}):\n"
        f"    time.sleep(0.01)\n{code}"
    )


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_lines_say_who_printed_them(capfd):
    supervise(programs("print('one\\ntwo')", "import sys; sys.exit(0)"), 0)
    warn = "import sys; sys.stderr.write('last, without an end')"
    supervise(programs("print('three')", warn), 0)
    out, err = capfd.readouterr()
    assert out.splitlines() == ["[0] one", "[0] two", "[0] three"]
    assert err.splitlines() == ["[1] last, without an end"]


def test_the_first_that_fails_ends_all(capfd, tmp_path):
    deaf = "import os, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    ready = tmp_path / "ready"
    deaf += f"; print(os.getpid(), flush=True); open({str(ready)!r}, 'w'); {ENDLESS}"
    fails = after(ready, "raise SystemExit(3)")
    with pytest.raises(TrainingError, match=r"ended: process 1 ended with exit code 3"):
        supervise(programs(deaf, fails), 5)
    out, err = capfd.readouterr()
    assert not is_running(int(out.splitlines()[0].removeprefix("[0] ")))
    assert "starting all again" not in err  # it would fail again


def test_what_is_refused_is_not_started_again():
    with pytest.raises(ValueError, match=r"process 0 ended with exit code 2"):
        supervise(programs("raise SystemExit(2)", ENDLESS), 5)


class Ends:
    """A process that so many looks find running."""

    def __init__(self, looks, code):
        self.looks, self.code = looks, code

    def poll(self):
        self.looks -= 1
        return None if self.looks >= 0 else self.code


def test_what_fails_for_want_of_another_is_a_loss():
    killed = -signal.SIGKILL  # seen one look later than the one that failed for it
    codes = launch._wait([Ends(0, 2), Ends(1, killed)], [])
    assert codes == {0: 2, 1: killed}
    assert launch._is_loss([*codes.values()])


def test_who_is_aborted_for_another_is_no_loss():
    assert not launch._is_loss([1, -signal.SIGABRT])
    assert launch._is_loss([-signal.SIGABRT])
    assert launch._is_loss([1, -signal.SIGKILL])


def killed_until(folder, starts):
    """A program that kills itself until it was started so often."""
    return (
        "import os, pathlib, signal\n"
        f"folder = pathlib.Path({str(folder)!r})\n"
        "(folder / str(os.getpid())).touch()\n"
        f"if len(list(folder.iterdir())) < {starts}:\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )


def test_after_a_loss_all_are_started_again(tmp_path, capfd):
    dies = killed_until(tmp_path, 3)
    supervise(programs("print('hello')", dies), 2)
    out, err = capfd.readouterr()
    assert len(list(tmp_path.iterdir())) == 3
    assert "[0] hello" in out
    assert err.count("process 1 was killed by SIGKILL: starting all again") == 2

    with pytest.raises(TrainingError, match=r"process 1 was killed by SIGKILL\."):
        supervise(programs(ENDLESS, killed_until(tmp_path, 9)), 2)
    assert len(list(tmp_path.iterdir())) == 6


DRIVER = """
import sys
from training.__main__ import main
from training.runs.launch import supervise
import training.__main__
training.__main__.launch = lambda *_: supervise(
    lambda: [[sys.executable, "-S", "-c", sys.argv[2]]] * 2, 3
)
sys.exit(main(["launch", sys.argv[1], "--processes", "2"]))
"""


@pytest.fixture
def recipe_file(tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(dataclasses.replace(SMALL, engine="jax").to_toml())
    return file


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_are_passed_on(number, recipe_file):
    number = getattr(signal, number)
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, recipe_file, STOPS],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        lines = sorted(process.stdout.readline().strip() for _ in range(2))
        assert lines == ["[0] started", "[1] started"]
        process.send_signal(number)
        assert process.wait(timeout=30) == 128 + number
    finally:
        process.kill()
        process.stdout.close()


def test_one_that_was_asked_to_stop_stops_all(tmp_path):
    """Training passes on itself what one process was asked; all end by the signal."""
    both = (
        "raise SystemExit(143)",
        "import time; time.sleep(0.3); raise SystemExit(143)",
    )
    with pytest.raises(Interrupted) as stop:
        supervise(programs(*both), 3)
    assert stop.value.exit_code == 128 + signal.SIGTERM


def test_processes_get_a_free_port_of_this_machine(monkeypatch):
    started = []
    monkeypatch.setattr(launch, "supervise", lambda get, _: started.append(get()))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        launch.launch(["recipe.toml", "--set", "seed=1"], 3, 0)
        [commands] = started
        addresses = {
            command[command.index("--coordinator") + 1] for command in commands
        }
        [(host, port)] = [address.split(":") for address in addresses]
        assert host == "127.0.0.1"
        assert int(port) != taken.getsockname()[1]
    for i, command in enumerate(commands):
        assert command[:7] == [
            sys.executable, "-m", "training", "train", "recipe.toml", "--set", "seed=1"
        ]  # fmt: skip
        joined = command[command.index("--processes") :]
        parent = ["--parent", str(os.getpid())]
        assert joined == ["--processes", "3", "--process", str(i), *parent]


def test_a_line_for_each_host(tmp_path, recipe_file, monkeypatch, capsys):
    hosts = tmp_path / "hosts"
    hosts.write_text("# two machines\nuser@node01\n\nnode02  # slow\n")
    folder = tmp_path / "a folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    command = ["launch", str(recipe_file), "--hosts", str(hosts), "--port", "4000"]
    assert main([*command, "--set", 'name="a b"', "--run-dir", "/runs/x"]) == 0
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines] == [["ssh", "user@node01"], ["ssh", "node02"]]
    for i, (_, _, there) in enumerate(lines):
        # A shell there takes it apart again.
        show = f"exec() {{ pwd; printf '%s\\n' \"$@\"; }}; {there}"
        out = subprocess.check_output(["bash", "-c", show], text=True).splitlines()
        assert out == [
            str(folder), sys.executable, "-m", "training", "train", str(recipe_file),
            "--set", 'name="a b"', "--run-dir", "/runs/x",
            "--coordinator", "node01:4000", "--processes", "2", "--process", str(i),
        ]  # fmt: skip


def test_what_is_refused(tmp_path, recipe_file, capsys):
    hosts, empty, wrong = (tmp_path / name for name in ("hosts", "empty", "wrong"))
    hosts.write_text("a\nb\n")
    empty.write_text("# nobody\n")
    wrong.write_text("a slots=4\n-oProxyCommand=x\n")
    for arguments, message in (
        ([], "--processes N, or --hosts FILE"),
        (["--processes", "3"], "multiple of the number of processes. Received: num"),
        (["--processes", "3", "--hosts", hosts], "--processes 3, 2 hosts"),
        (["--hosts", empty], "no host"),
        (["--hosts", wrong], "['a slots=4', '-oProxyCommand=x']"),
        (["--hosts", tmp_path / "none"], "Expected a file of hosts"),
        (["--hosts", hosts, "--restarts", "1"], "Received: --restarts 1"),
        (["--processes", "2", "--port", "1"], "--port is for --hosts"),
        (["--processes", "2", "--set", 'engine="tf_agents"'], "engine='tf_agents'"),
    ):
        assert main(["launch", str(recipe_file), *map(str, arguments)]) == 2
        assert message in capsys.readouterr().err, arguments
    for arguments in ("--restarts -1", "--processes 0"):
        with pytest.raises(SystemExit):
            main(["launch", str(recipe_file), *arguments.split()])


@pytest.mark.parametrize(
    ("engine", "coordinator", "processes", "process"),
    [
        ("tf_agents", "localhost:1234", 2, 0),
        ("jax", None, 2, None),
        ("jax", None, None, 0),
        ("jax", "localhost:1234", 2, None),
        ("jax", "localhost:1234", 2, 2),
        ("jax", "localhost:1234", 2, -1),
        ("jax", "localhost", 2, 0),
        ("jax", "localhost:http", 2, 0),
        ("jax", ":1234", 2, 0),
        ("jax", "localhost:65536", 2, 0),
    ],
)
def test_processes_that_cannot_join(engine, coordinator, processes, process):
    with pytest.raises(
        ValueError, match=rf"Received: --coordinator {coordinator} --pr"
    ):
        join(engine, coordinator, processes, process)


def test_who_trains_alone(monkeypatch):
    monkeypatch.setattr("training.runs.join._initialize", lambda _: joined.append(1))
    monkeypatch.setenv("SLURM_PROCID", "0")
    for tasks, engine, processes, expected in (
        (None, "jax", None, 0),
        ("1", "jax", None, 0),
        ("2", "jax", None, 1),
        ("2", "jax", 1, 0),
        ("2", "tf_agents", None, 0),
    ):
        joined = []
        if tasks:
            monkeypatch.setenv("SLURM_STEP_NUM_TASKS", tasks)
        join(engine, None, processes, None)
        assert len(joined) == expected, (tasks, engine, processes)
    assert number_of_tasks() == 2
