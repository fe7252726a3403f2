"""Training steps per second of the engines, on the same recipe in turns.

`python -m benchmarks.engines [RECIPE] [--steps N] [--rounds N] [--set KEY=VALUE]`. A
run is a process of its own; its first third, with the compiling, does not count.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from training.recipe import ENGINES

ONLINE = {engine: backend for engine, backend in ENGINES.items() if backend}
RECIPE = "training/recipes/tmaze_10.toml"


def measure(
    engine: str, recipe: str, steps: int, overrides: list[str], processes: int = 0
) -> float:
    """Steps per second of one run, the median over its later iterations.

    Args:
        engine: The engine.
        recipe: A TOML file.
        steps: Of the run.
        overrides: Texts `key=value`.
        processes: How many train together, begun by the launcher; 0: without it.
    """
    changes = [f'engine="{engine}"', f"total_steps={steps}", *overrides]
    changes += [f"checkpoint_interval={steps * 2}", "evaluation_episodes=1"]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        launched = ["launch", "--processes", str(processes)]
        command = [sys.executable, "-m", "training"]
        command += [*(launched if processes else ["train"]), recipe]
        for change in changes:
            command += ["--set", change]
        subprocess.run(
            [*command, "--run-dir", str(run)],
            env={**os.environ, "KERAS_BACKEND": ONLINE[engine]},
            check=True,
            capture_output=True,
        )
        lines = (run / "curve.jsonl").read_text().splitlines()
    rates = [json.loads(line)["steps_per_second"] for line in lines]
    return statistics.median(rates[len(rates) // 3 :])


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.engines", description=__doc__)
    parser.add_argument("recipe", nargs="?", default=RECIPE)
    parser.add_argument("--steps", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    options = parser.parse_args()
    rates: dict[str, list[float]] = {engine: [] for engine in ONLINE}
    for number in range(options.rounds):
        for engine, all_of_it in rates.items():
            rate = measure(engine, options.recipe, options.steps, options.overrides)
            all_of_it.append(rate)
            print(f"round {number + 1}  {engine:10} {rate:10,.0f} steps/s", flush=True)
    ratios = [b / a for a, b in zip(*rates.values(), strict=True)]
    names = " / ".join(reversed(rates))
    print(f"{names}: {statistics.median(ratios):.2f} times, median of the rounds")


if __name__ == "__main__":
    main()
