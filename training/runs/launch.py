"""One recipe in several processes that train together, with the engine jax."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TextIO

from training.errors import Interrupted, TrainingError
from training.recipe import load_recipe
from training.runs.interrupt import SIGNALS, signals_passed_on
from training.runs.join import LOCALHOST
from training.runs.tell import tell

PORT = 29_400  # of process 0 where the processes are on several hosts
RESTARTS = 3
SECONDS_BETWEEN_LOOKS = 0.05
SECONDS_TO_END = 5.0  # after SIGTERM, for processes that have lost another one
UNBUFFERED = {"PYTHONUNBUFFERED": "1"}
REFUSED = 2  # the exit code of a ValueError
# One list of arguments a process; the address of process 0 changes with each start.
Commands = Callable[[], list[list[str]]]


def launch(train: list[str], processes: int, restarts: int) -> None:
    """Trains in processes on this machine, until all of them have ended.

    Args:
        train: Arguments of `python -m training train`.
        processes: How many.
        restarts: How often all of them are started again after one was lost. They go
            on from the last checkpoint.

    Raises:
        ValueError: If a process refused its recipe.
        TrainingError: If one failed; the others were ended.
        Interrupted: If a signal came, which was passed on to all.
    """

    def commands() -> list[list[str]]:
        address = f"{LOCALHOST}:{_free_port()}"
        parent = ["--parent", str(os.getpid())]
        return [
            [sys.executable, *_train(train, address, processes, i), *parent]
            for i in range(processes)
        ]

    supervise(commands, restarts)


def check_recipe(recipe: str, overrides: list[str], processes: int) -> None:
    """Raises a ValueError if so many processes cannot train a recipe together."""
    values = load_recipe(recipe, overrides)
    if values.engine != "jax":
        raise ValueError(
            "Several processes train together with the engine jax alone: "
            f"--set 'engine=\"jax\"' selects it. Received: engine={values.engine!r}"
        )
    if values.num_environments % processes:
        raise ValueError(
            "`num_environments` must be a multiple of the number of processes. "
            f"Received: num_environments={values.num_environments}, "
            f"--processes {processes}"
        )


def read_hosts(file: Path) -> list[str]:
    """The hosts of a file, one a line; `#` begins a comment.

    Raises:
        ValueError: If there is none, or a line is no name.
    """
    if not file.is_file():
        raise ValueError(f"Expected a file of hosts. Received: --hosts {file}")
    lines = [line.partition("#")[0].split() for line in file.read_text().splitlines()]
    words = [line for line in lines if line]
    wrong = [" ".join(line) for line in words if len(line) > 1 or line[0][0] == "-"]
    if wrong or not words:
        raise ValueError(
            f"{file} must have the name of one host in each line. Received: "
            f"{wrong or 'no host'}"
        )
    return [line[0] for line in words]


def ssh_lines(train: list[str], hosts: list[str], port: int) -> list[str]:
    """Lines for a shell: each starts the process of one host through ssh.

    Folder and Python are those of this process, so that all hosts must have them.

    Args:
        train: Arguments of `python -m training train`.
        hosts: One a process; process 0 is on the first, and listens there.
        port: Where it listens.
    """
    lines, address = [], f"{hosts[0].rpartition('@')[2]}:{port}"
    for i, host in enumerate(hosts):
        command = [sys.executable, *_train(train, address, len(hosts), i)]
        there = f"cd {shlex.quote(os.getcwd())} && exec {shlex.join(command)}"
        lines.append(shlex.join(["ssh", host, there]))
    return lines


def _train(train: list[str], address: str, processes: int, process: int) -> list[str]:
    joined = ["--coordinator", address, "--processes", str(processes)]
    return ["-m", "training", "train", *train, *joined, "--process", str(process)]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((LOCALHOST, 0))
        return int(free.getsockname()[1])


def supervise(commands: Commands, restarts: int) -> None:
    """Runs programs side by side until all have ended well.

    Each line that they print begins with their number. Signals are passed on to all.
    The first that fails ends all. If one was killed, all are started again.

    Args:
        commands: Called at each start.
        restarts: How often they are started again.

    Raises:
        ValueError, TrainingError, Interrupted: As `launch`.
    """
    processes: list[Any] = []
    with signals_passed_on(processes) as asked:
        for left in reversed(range(restarts + 1)):
            processes[:] = []
            codes = _run(commands(), processes, asked)
            for number in [*asked, *SIGNALS]:
                if number in asked or {128 + number, -number} & set(codes.values()):
                    raise Interrupted(number)
            if not codes:
                return
            what = ", ".join(f"process {i} {_say(code)}" for i, code in codes.items())
            lost = _is_loss(list(codes.values()))
            if REFUSED in codes.values() and not lost:
                raise ValueError(f"Expected every process to train. Received: {what}")
            if left == 0 or not lost:
                raise TrainingError(f"The processes were ended: {what}.")
            tell(f"{what}: starting all again, {left - 1} more times left", sys.stderr)


def _is_loss(codes: list[int]) -> bool:
    """Whether one was killed; others may have failed for want of it."""
    killed = [code for code in codes if code < 0]
    # JAX aborts those whose process 0 has failed by itself.
    return any(code != -signal.SIGABRT for code in killed) or len(killed) == len(codes)


def _say(code: int) -> str:
    if code > 0:
        return f"ended with exit code {code}"
    return f"was killed by {signal.Signals(-code).name}"


def _run(
    commands: list[list[str]], processes: list[Any], asked: list[int]
) -> dict[int, int]:
    """The exit codes of those that failed by themselves, by number of the process."""
    lock, readers = threading.Lock(), []
    try:
        for i, command in enumerate(commands):
            if asked:
                break
            process = subprocess.Popen(
                command,
                # One GPU for each, where there are GPUs.
                env={"JAX_LOCAL_DEVICE_IDS": str(i), **os.environ, **UNBUFFERED},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # Ctrl-C of a terminal comes through this process alone.
                start_new_session=True,
            )
            processes.append(process)
            for name in ("stdout", "stderr"):
                streams = getattr(process, name), getattr(sys, name)
                arguments = (f"[{i}] ", *streams, lock)
                reader = threading.Thread(target=_copy, args=arguments, daemon=True)
                readers.append(reader)
                reader.start()
        if asked:  # it may have come while the last of them was started
            for process in processes:
                process.send_signal(asked[0])
        codes = _wait(processes, asked)
    finally:
        _end(processes)
    for reader in readers:
        reader.join(SECONDS_TO_END)  # what a process began may hold its output open
    return codes


def _wait(processes: list[Any], asked: list[int]) -> dict[int, int]:
    """Waits until all have ended, or one has failed; gives what is not 0."""
    # One that a signal stopped has asked the others to save and stop as well.
    stopped = {128 + n for n in SIGNALS}
    while True:
        well = {None, 0} | stopped | ({-n for n in SIGNALS} if asked else set())
        codes = [process.poll() for process in processes]
        if None not in codes or set(codes) - well:
            break
        time.sleep(SECONDS_BETWEEN_LOOKS)
    # Once more: what ended the first may have ended another one before it was seen.
    codes = [process.poll() for process in processes]
    return {i: code for i, code in enumerate(codes) if code}


def _end(processes: list[Any]) -> None:
    left = [process for process in processes if process.poll() is None]
    for process in left:
        process.terminate()
    limit = time.monotonic() + SECONDS_TO_END
    for process in left:
        try:
            process.wait(max(0.0, limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()  # it waits for the one that failed
            process.wait()


def _copy(prefix: str, stream: IO[bytes], file: TextIO, lock: threading.Lock) -> None:
    with stream:
        for line in stream:
            with lock:
                tell(prefix + line.decode(errors="replace").rstrip("\r\n"), file)
