"""The same recipe with several training seeds, one process each."""

import signal
import subprocess
import sys
from pathlib import Path

from training.errors import Interrupted
from training.recipe import load_recipe


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
        Interrupted: If a run was stopped with Ctrl-C: the others are not begun.
        ValueError: If the recipe is not valid or a run failed; the message says
            which seeds did. The other seeds are trained all the same.
    """
    folder = run_dir or Path("runs") / load_recipe(recipe, overrides).name
    failed = []
    for seed in range(seeds):
        print(f"seed {seed}", flush=True)
        command = [sys.executable, "-m", "training", "train", recipe]
        for text in [*overrides, f"seed={seed}"]:
            command += ["--set", text]
        command += ["--run-dir", str(folder / f"seed_{seed}")]
        code = _run(command)
        if code in (128 + signal.SIGINT, -signal.SIGINT):
            raise Interrupted(signal.SIGINT)
        if code:
            failed.append(seed)
    if failed:
        raise ValueError(f"Expected every run to end well. Received: seeds {failed}")
    return folder


def _run(command: list[str]) -> int:
    """Runs a process, and leaves Ctrl-C to it: it saves before it ends."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return subprocess.run(command).returncode
    finally:
        signal.signal(signal.SIGINT, before)
