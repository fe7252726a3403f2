"""Which memory? The experiment of docs/which_memory.md.

`python -m benchmarks.which_memory WORK`:

- `commands` prints what trains the runs that are missing, a line for each memory in
  each task; `... commands | bash` trains them;
- `gather [RUNS]` takes the scores and curves of finished runs to what is kept,
  benchmarks/results/which_memory.json;
- `costs` measures what a step and learning cost, and keeps it there;
- `page` writes the figure, the table and the other generated parts of the page.
"""

import argparse
import json
import os
import statistics
from pathlib import Path
from typing import Any

from training.atomic_write import write_text

FEATURES = 16  # inputs of the memory, as in T-Maze
LEARN = (16, 104)  # sequences and their steps: those of a minibatch of POPGym's recipes


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.which_memory",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("work", choices=("commands", "gather", "costs", "page"))
    parser.add_argument("runs", nargs="?", type=Path, help="gather: folder of the runs")
    parser.add_argument("--rounds", type=int, default=20, help="costs")
    parser.add_argument("--kept", type=Path, metavar="FILE", help="another file")
    options = parser.parse_args(arguments)
    os.environ.setdefault("KERAS_BACKEND", "jax")
    from training.analysis import which_memory, which_memory_page
    from training.release.tables import write_tables

    file = options.kept or which_memory.KEPT
    kept = which_memory.read_kept(file)
    if options.work == "commands":
        print("\n".join(cell.command for cell in which_memory.missing(kept)))
    elif options.work == "page":
        which_memory_page.plot(which_memory.ROOT / which_memory_page.FIGURE, kept)
        write_tables()
    else:
        if options.work == "gather":
            runs = options.runs or Path(which_memory.RUNS)
            kept = which_memory.gather(runs, kept)
        else:
            kept["costs"] = costs(options.rounds)
        write_text(file, to_text(kept))


def to_text(kept: dict[str, Any]) -> str:
    """What is kept as JSON, a line for each run, task and memory."""
    parts = []
    for key, value in kept.items():
        if isinstance(value, list):
            rows = ",\n".join(f"  {json.dumps(row)}" for row in value)
            parts.append(f' "{key}": [\n{rows}\n ]' if rows else f' "{key}": []')
        else:
            parts.append(f' "{key}": {json.dumps(value)}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def settings() -> dict[str, dict[str, tuple[str, dict[str, Any]]]]:
    """Names and arguments of the memories, with the page's and with the paper's sizes.

    Those of the page are of RepeatPrevious Medium.
    """
    from training.analysis.which_memory import MEMORIES, Cell
    from training.analysis.which_memory_page import PAGE, PAPER
    from training.release.tables import comparison_config

    sizes: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {PAPER: {}, PAGE: {}}
    windows = {"whole": 128, "quarter": 32}
    for name, (short_name, part) in MEMORIES.items():
        recipe = Cell("RepeatPrevious Medium", name).recipe()
        sizes[PAGE][name] = short_name, recipe.memory_arguments
        config = comparison_config(short_name)
        if part:
            config = {**config, "memory_length": windows[part]}
        sizes[PAPER][name] = short_name, config
    return sizes


def costs(rounds: int) -> list[dict[str, Any]]:
    """What each memory costs: state, a step, a gradient over sequences.

    Times are medians of interleaved rounds; `ratio` is the median over the rounds of
    the ratio to AGaLiTe's in the same round.
    """
    from benchmarks.measure import state_bytes

    rows = []
    for setting, memories in settings().items():
        layers = {name: _make(*memory) for name, memory in memories.items()}
        works = {
            "act_1": lambda layer: _act(layer, 1),
            "act_16": lambda layer: _act(layer, 16),
            "learn": _learn,
        }
        times = {
            work: _compare(layers, make, rounds, 1 if work == "learn" else 10)
            for work, make in works.items()
        }
        for name, layer in layers.items():
            arguments = memories[name][1]
            rows.append(
                {
                    "setting": setting,
                    "memory": name,
                    "window": arguments.get("memory_length"),
                    "weights": layer.count_params(),
                    "state_bytes": state_bytes(layer),
                    **{work: found[name] for work, found in times.items()},
                }
            )
    return rows


def _make(short_name: str, arguments: dict[str, Any]) -> Any:
    from keras_agalite.layers.catalog import MEMORIES

    layer = MEMORIES[short_name](**arguments, return_state=True)
    layer.build((None, None, FEATURES))
    layer.built = True
    return layer


def _act(layer: Any, batch: int) -> Any:
    from benchmarks.measure import act_work

    return act_work(layer, batch)


def _learn(layer: Any) -> Any:
    from benchmarks.measure import learn_work

    return learn_work(layer, *LEARN)


def _compare(
    layers: dict[str, Any], make: Any, rounds: int, calls: int
) -> dict[str, dict[str, float]]:
    from benchmarks.measure import interleave, median_ratio
    from training.analysis.which_memory import OURS

    works = {name: make(layer) for name, layer in layers.items()}
    times = interleave(works, rounds, calls, lambda: None)
    return {
        name: {
            "ms": round(statistics.median(ms), 4),
            "ratio": round(median_ratio(ms, times[OURS]), 4),
        }
        for name, ms in times.items()
    }


if __name__ == "__main__":
    main()
