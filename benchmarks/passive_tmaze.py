"""How long policies remember the hint of Passive T-Maze, beyond what they learnt from.

`python -m benchmarks.passive_tmaze RUN... [--lengths 30 90 180 300 900]
[--episodes 100] [--json FILE]`. A RUN is a run or a sweep, whose training seeds make
one row. A length is that of an episode in which no step is lost: that of the corridor
and two steps.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import keras_agalite
from keras_agalite.models import Policy
from training.analysis.estimates import mean_interval
from training.runs.folder import runs_of

LENGTHS = (30, 90, 180, 300, 900)


def successes(policy: Any, length: int, episodes: int, seed: int) -> list[bool]:
    """Which episodes end at the right side."""
    evaluation = keras_agalite.evaluate(
        policy,
        "passive_tmaze",
        episodes,
        seed,
        environment_arguments={"corridor_length": length - 2},
    )
    found: list[bool] = evaluation["successes"]
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path, help="write all successes")
    options = parser.parse_args(arguments)
    print("| run | seeds |", *(f" {length} |" for length in options.lengths), sep="")
    print("|---|---|" + "---|" * len(options.lengths))
    rows = {}
    for run in options.runs:
        policies = [Policy.from_preset(str(x / "preset")) for x in runs_of(run)]
        row: dict[int, list[list[bool]]] = {
            length: [
                successes(policy, length, options.episodes, options.seed)
                for policy in policies
            ]
            for length in options.lengths
        }
        cells = [_cell(np.array(found, float)) for found in row.values()]
        print(f"| {run.name} | {len(policies)} | {' | '.join(cells)} |", flush=True)
        rows[run.name] = row
    if options.json:
        options.json.write_text(json.dumps(rows) + "\n")


def _cell(values: np.ndarray) -> str:
    low, high = mean_interval(values)
    return f"{values.mean():.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
