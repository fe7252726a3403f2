"""Released policies: a folder of zoo/ from a run."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from training.analysis.estimates import mean_interval
from training.atomic_write import write_text
from training.evaluation.evaluate import score
from training.recipe import load_recipe
from training.release.cards import SCORES, read_json, write_cards
from training.runs.folder import runs_of

FILES = ("config.json", "model.weights.h5", "recipe.toml", "evaluation.json")


def release(source: Path, folder: Path) -> None:
    """Makes a folder of zoo/ from a finished run or sweep, and rewrites the table.

    Of a sweep the seed with the median score is released, and all scores are reported.

    Raises:
        ValueError: If a run is not finished.
    """
    runs = runs_of(source)
    for run in runs:
        missing = [name for name in FILES if not (run / "preset" / name).is_file()]
        if missing:
            raise ValueError(
                f"Expected a finished run with preset/{', preset/'.join(FILES)}. "
                f"Received: {run}, without {', '.join(missing)}"
            )
    evaluations = [read_json(run / "evaluation.json") for run in runs]
    order = sorted(range(len(runs)), key=lambda i: score(_choosing(evaluations[i])))
    median = order[(len(order) - 1) // 2]  # the worse one of two in the middle
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copy(runs[median] / "preset" / name, folder / name)
    if len(runs) > 1:
        evaluation = evaluations[median]
        evaluation["training_seeds"] = [
            {
                "seed": load_recipe(run / "recipe.toml").seed,
                **{k: e[k] for k in SCORES if k in e},
            }
            for run, e in zip(runs, evaluations, strict=True)
        ]
        evaluation["intervals"] = _intervals(evaluations)
        text = json.dumps(evaluation, indent=2) + "\n"
        write_text(folder / "evaluation.json", text)
    write_cards(folder.parent)


def _choosing(evaluation: dict[str, Any]) -> dict[str, Any]:
    """The scores that choose a seed: those of the validation, if there was one."""
    chosen: dict[str, Any] = evaluation.get("validation", evaluation)
    return chosen


def _intervals(evaluations: list[dict[str, Any]]) -> dict[str, list[float]]:
    """95% bootstrap intervals of means over training seeds, and episodes of each."""
    keys = {"success_rate": "successes", "mean_return": "returns"}
    return {
        key: mean_interval(np.array([e[values] for e in evaluations], float))
        for key, values in keys.items()
        if values in evaluations[0]
    }
