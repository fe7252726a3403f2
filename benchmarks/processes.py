"""What it costs to train in several processes of one machine, in turns.

`python -m benchmarks.processes [RECIPE] [--processes N ...] [--steps N] [--rounds N]`.
N processes have N cores and N times the recipe's environments; beside them, one
process has the same. The first third of a run, with the compiling, does not count.
"""

import argparse
import json
import os
import statistics
from pathlib import Path

from benchmarks.engines import RECIPE, measure
from training.recipe import load_recipe


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.processes", description=__doc__)
    parser.add_argument("recipe", nargs="?", default=RECIPE)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=60_000, help="a process")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows")
    options = parser.parse_args()
    overrides = [*options.overrides, 'engine="jax"']
    environments = load_recipe(options.recipe, overrides).num_environments
    cores = sorted(os.sched_getaffinity(0))
    if max(options.processes) > len(cores):
        raise SystemExit(
            f"error: --processes must be at most the {len(cores)} cores of this "
            f"machine. Received: --processes {max(options.processes)}"
        )
    rates: dict[tuple[int, int], list[float]] = {}
    for turn in range(options.rounds):
        for number in options.processes:
            os.sched_setaffinity(0, cores[:number])  # children have it too
            changes = [*overrides, f"num_environments={environments * number}"]
            for processes in (0, number) if number > 1 else (0,):
                rate = measure(
                    "jax", options.recipe, options.steps * number, changes, processes
                )
                rates.setdefault((number, processes or 1), []).append(rate)
                print(
                    f"round {turn + 1}  {number} cores  {environments * number} "
                    f"environments  {processes or 1} processes {rate:10,.0f} steps/s",
                    flush=True,
                )
    rows = [
        {
            "cores": number,
            "processes": processes,
            "environments": environments * number,
            "steps_per_second": statistics.median(each),
            "rounds": each,
        }
        for (number, processes), each in rates.items()
    ]
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
