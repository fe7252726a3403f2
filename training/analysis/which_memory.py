"""Which memory? One experiment: its list, its commands, and what is kept of its runs.

docs/which_memory.md follows from the list and from what is kept
(`training.analysis.which_memory_page`). `python -m benchmarks.which_memory` prints the
commands, gathers the runs, measures the costs and writes the page.
"""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_agalite.zoo import find_spec
from training.analysis.estimates import Estimate, Scores, estimate_mean
from training.analysis.results import FinishedRun
from training.recipe import Recipe, load_recipe, read_values
from training.runs.folder import runs_of

ROOT = Path(__file__).parents[2]
RECIPES = "training/recipes"
RUNS = "runs/which_memory"
KEPT = ROOT / "benchmarks" / "results" / "which_memory.json"
STEPS = 1_000_000
SEEDS = 3
RESAMPLES = 1000  # three seeds can be drawn in 27 ways
POINTS = 25  # of a kept curve


class Task(NamedTuple):
    """A task, and how it is scored.

    Attributes:
        recipe: Name of its recipe.
        score: Which score of an evaluation counts.
        steps: Steps over which it asks for a memory.
        window: Of a GTrXL that sees all of them.
        environment: Name of the same task in JAX alone, if the recipe's is another.
    """

    recipe: str
    score: str
    steps: int
    window: int
    environment: str = ""


class Memory(NamedTuple):
    """A memory by its short name, and which part of a task a window of it sees."""

    short_name: str
    window: str = ""


TASKS = {
    "T-Maze 50": Task("tmaze_50_jax", "success_rate", 50, 64),
    "RepeatPrevious Medium": Task(
        "popgym_repeat_previous_medium",
        "mean_return",
        104,
        104,
        "repeat_previous_medium",
    ),
    "Autoencode Easy": Task("popgym_autoencode_easy", "mean_return", 104, 104),
    "Concentration Easy": Task("popgym_concentration_easy", "mean_return", 104, 104),
}
OURS, RIVAL = "AGaLiTe", "GTrXL, whole"
MEMORIES = {
    OURS: Memory("agalite"),
    "GaLiTe": Memory("galite"),
    RIVAL: Memory("gtrxl", "whole"),
    "GTrXL, quarter": Memory("gtrxl", "quarter"),
    "MinGRU": Memory("mingru"),
    "GRU": Memory("gru"),
    "none": Memory("memoryless"),
}


class Cell(NamedTuple):
    """A memory in a task, by the names of `MEMORIES` and `TASKS`."""

    task: str
    memory: str

    @property
    def file(self) -> str:
        """The recipe that is trained."""
        return f"{RECIPES}/{TASKS[self.task].recipe}.toml"

    @property
    def overrides(self) -> list[str]:
        """What the experiment changes in the recipe, as `--set` takes it."""
        task, (short_name, part) = TASKS[self.task], MEMORIES[self.memory]
        texts = [f"environment={task.environment}"] if task.environment else []
        texts.append(f"memory={short_name}")
        if part:
            window = {"whole": task.window, "quarter": task.steps // 4}[part]
            texts.append(f"memory_arguments.memory_length={window}")
        return [*texts, f"total_steps={STEPS}"]

    @property
    def folder(self) -> Path:
        """Its runs, below the folder of all runs."""
        short_name, part = MEMORIES[self.memory]
        name = f"{short_name}_quarter" if part == "quarter" else short_name
        return Path(TASKS[self.task].recipe) / name

    @property
    def command(self) -> str:
        """Trains all seeds; those that are trained are left as they are."""
        changes = [f"--set {text}" for text in self.overrides]
        words = [f"--seeds {SEEDS}", f"--run-dir {RUNS}/{self.folder}"]
        return " ".join(["python -m training sweep", self.file, *changes, *words])

    def recipe(self, seed: int = 0) -> Recipe:
        """The recipe of a training seed."""
        return load_recipe(ROOT / self.file, [*self.overrides, f"seed={seed}"])

    def num_weights(self) -> int:
        """Number of weights of the policy, which is not built for it."""
        policy = read_values(ROOT / self.file)["policy"]
        preset = find_spec(policy).preset(MEMORIES[self.memory].short_name)
        arguments = self.recipe().memory_arguments
        memory = preset.memory._replace(arguments=arguments)
        return dataclasses.replace(preset, memory=memory).num_weights


CELLS = [Cell(task, memory) for task in TASKS for memory in MEMORIES]


def gather(folder: Path, kept: dict[str, Any]) -> dict[str, Any]:
    """Takes the runs of a folder, as far as they are finished, to what is kept.

    Args:
        folder: Holds `Cell.folder` of each cell; those that are missing stay as they
            were kept.
        kept: What is kept so far.

    Returns:
        `kept` with new `runs` (task, memory, seed, score, actions, commit, and the
        curve of the training episodes) and `random` (by task, the score of random
        actions).

    Raises:
        ValueError: If a run is not one of the experiment.
    """
    known = {_key(run): run for run in kept.get("runs", [])}
    random = dict(kept.get("random", {}))
    for cell in CELLS:
        for path in runs_of(folder / cell.folder):
            if not (path / "evaluation.json").is_file():
                continue
            run = FinishedRun(path, load_recipe(path / "recipe.toml"))
            row = _summary(cell, run)
            known[_key(row)] = row
            if cell.task not in random:
                evaluation = run.evaluation("random")
                random[cell.task] = evaluation[TASKS[cell.task].score]
    order = {cell: number for number, cell in enumerate(CELLS)}
    runs = sorted(known.values(), key=lambda run: (order[_cell(run)], run["seed"]))
    tasks = [task for task in TASKS if task in random]
    return {**kept, "runs": runs, "random": {task: random[task] for task in tasks}}


def read_kept(file: Path = KEPT) -> dict[str, Any]:
    """What is kept: `runs`, `random` and `costs`."""
    kept: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return {"runs": [], "random": {}, "costs": [], **kept}


def runs_of_cell(kept: dict[str, Any], cell: Cell) -> list[dict[str, Any]]:
    """What is kept of a cell's runs."""
    return [run for run in kept["runs"] if _cell(run) == cell]


def scores(kept: dict[str, Any], cell: Cell) -> Scores:
    """The scores of a cell's training seeds, as `estimates` takes them."""
    return [np.array([run["score"] for run in runs_of_cell(kept, cell)])]


def estimate(kept: dict[str, Any], cell: Cell) -> Estimate | None:
    """The interquartile mean of a cell's training seeds; None if none was trained."""
    found = scores(kept, cell)
    return estimate_mean(found, RESAMPLES) if len(found[0]) else None


def missing(kept: dict[str, Any]) -> Iterator[Cell]:
    """The cells with fewer training seeds than the experiment has."""
    return (cell for cell in CELLS if len(scores(kept, cell)[0]) < SEEDS)


def _cell(run: dict[str, Any]) -> Cell:
    return Cell(run["task"], run["memory"])


def _key(run: dict[str, Any]) -> tuple[Any, ...]:
    return run["task"], run["memory"], run["seed"]


def _summary(cell: Cell, run: FinishedRun) -> dict[str, Any]:
    """What is kept of a run."""
    # The page is read where the packages that training needs are missing.
    from training.runs.progress import read_curve

    if run.recipe != cell.recipe(run.recipe.seed):
        raise ValueError(
            f"Expected a run of `{cell.command}`. Received: {run.folder}, which was "
            "made with another recipe"
        )
    score, evaluation = TASKS[cell.task].score, run.evaluation()
    machine = json.loads((run.folder / "machine.json").read_text())
    return {
        **cell._asdict(),
        "seed": run.recipe.seed,
        "score": evaluation[score],
        "actions": evaluation["actions"],
        "commit": machine["commit"],
        "curve": _thin(read_curve(run.folder / "curve.jsonl"), score),
    }


def _thin(rows: list[dict[str, Any]], score: str) -> list[float | None]:
    """The mean score of the training episodes in each of `POINTS` parts of the run."""
    parts: list[list[tuple[float, float]]] = [[] for _ in range(POINTS)]
    for row in rows:
        if row.get(score) is not None:
            part = min(POINTS * row["step"] // (STEPS + 1), POINTS - 1)
            parts[part].append((row[score], row["episodes"]))
    return [round(_mean(part), 4) if part else None for part in parts]


def _mean(part: list[tuple[float, float]]) -> float:
    values, episodes = np.transpose(part)
    return float(np.average(values, weights=episodes))
