"""Processes that train together find each other, with the engine jax."""

import os
import sys
import time
import traceback
from typing import Any

LOCALHOST = "127.0.0.1"
FAILED = (1, 2)  # exit codes of errors
SECONDS_FOR_OTHERS = 2.0
_process: int | None = None  # of those that train together, if this is one


def join(
    engine: Any, coordinator: str | None, processes: int | None, process: int | None
) -> None:
    """Joins the processes that train together, before JAX looks for devices.

    Without arguments, tasks of SLURM that `srun` began with the engine jax join each
    other; with `processes=1` each of them trains alone.

    Args:
        engine: The recipe's engine.
        coordinator: `host:port` of process 0.
        processes: How many there are.
        process: Which one this is, from 0.

    Raises:
        ValueError: If the arguments do not name a process, or the engine cannot.
    """
    received = (
        f"Received: --coordinator {coordinator} --processes {processes} "
        f"--process {process}, engine={engine!r}"
    )
    if coordinator is None and process is None and processes in (None, 1):
        if processes is None and engine == "jax" and number_of_tasks() > 1:
            # JAX itself reads the variables of SLURM.
            _initialize(int(os.environ["SLURM_PROCID"]))
        return
    if (
        engine != "jax"
        or coordinator is None
        or processes is None
        or process is None
        or not 0 <= process < processes
    ):
        raise ValueError(
            "Processes that train together need the engine jax, --coordinator "
            f"HOST:PORT, --processes N, and --process from 0 to N - 1. {received}"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(f"Expected --coordinator HOST:PORT. {received}")
    # Nobody else is let in where all processes are on this machine.
    bound = coordinator if host in (LOCALHOST, "localhost") else None
    _initialize(
        process,
        coordinator_address=coordinator,
        num_processes=processes,
        process_id=process,
        coordinator_bind_address=bound,
    )


def number_of_tasks() -> int:
    """The tasks that `srun` began together with this one; 1 outside of it."""
    text = os.environ.get("SLURM_STEP_NUM_TASKS", "")
    return int(text) if text.isdecimal() else 1


def _initialize(process: int, **how: Any) -> None:
    global _process
    import jax

    # It would take SIGTERM, which is for `training.runs.interrupt`.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(**how)
    _process = process


def leave(code: int) -> None:
    """Ends a process that has joined others at once, if it failed.

    At its normal end it would wait for the others, which wait for it. Process 0 gives
    them time to fail by themselves: when it goes, JAX aborts them.

    Args:
        code: Its exit code.
    """
    if _process is None or code not in FAILED:
        return
    if (error := sys.exception()) is not None:
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    if _process == 0:
        time.sleep(SECONDS_FOR_OTHERS)
    os._exit(code)
