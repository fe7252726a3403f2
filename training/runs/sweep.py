"""The same recipe with several training seeds, one process each."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from training.errors import Interrupted
from training.recipe import load_recipe
from training.runs.interrupt import SIGNALS, signals_passed_on
from training.runs.tell import tell


def sweep(
    recipe: str, overrides: list[str], seeds: int, run_dir: Path | None = None
) -> Path:
    """Trains seeds 0, 1, ... one after another, each in `<run_dir>/seed_<n>`.

    Started again, it continues where it was stopped.

    Args:
        recipe: A TOML file.
        overrides: Texts `key=value`, as `load_recipe` takes them.
        seeds: Number of seeds.
        run_dir: Folder of the runs; `runs/<recipe's name>` if None.

    Returns:
        The folder of the runs.

    Raises:
        Interrupted: If a signal stopped a run: the others are not begun.
        ValueError: If the recipe is not valid or a run failed; the message says
            which seeds did. The other seeds are trained all the same.
    """
    folder = run_dir or Path("runs") / load_recipe(recipe, overrides).name
    failed = []
    for seed in range(seeds):
        tell(f"seed {seed}")
        command = [sys.executable, "-m", "training", "train", recipe]
        for text in [*overrides, f"seed={seed}"]:
            command += ["--set", text]
        command += ["--run-dir", str(folder / f"seed_{seed}")]
        # Tasks of SLURM would join each other.
        command += ["--processes", "1", "--parent", str(os.getpid())]
        code = _run(command)
        for number in SIGNALS:
            if code in (128 + number, -number):
                raise Interrupted(number)
        if code:
            failed.append(seed)
    if failed:
        raise ValueError(f"Expected every run to end well. Received: seeds {failed}")
    return folder


def _run(command: list[str]) -> int:
    """Runs a process, and leaves signals to it: it saves before it ends.

    A terminal sends Ctrl-C to both. The other signals are passed on, and stop the
    sweep also if the run ended well meanwhile.
    """
    # Of a terminal it comes to both.
    own = (signal.SIGINT,)
    with (
        subprocess.Popen(command) as process,
        signals_passed_on([process], own) as asked,
    ):
        code = process.wait()
    return 128 + asked[0] if asked else code
