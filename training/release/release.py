"""Released policies: a folder of zoo/ from a run."""

import json
import shutil
from pathlib import Path
from typing import Any

from training.analysis.results import finished_runs
from training.atomic_write import write_text
from training.evaluation.evaluate import score
from training.recipe import load_recipe
from training.release.baselines import baselines, intervals, not_beaten
from training.release.cards import SCORES, read_json, write_cards
from training.runs.folder import runs_of

WEIGHTS = ("config.json", "model.weights.h5")
FILES = (*WEIGHTS, "recipe.toml", "evaluation.json")


def release(source: Path, folder: Path, memoryless: Path | None = None) -> None:
    """Makes a folder of zoo/ from a finished run or sweep, and rewrites the table.

    Of a sweep the seed with the median score is released, and all scores are reported.
    With baselines, a policy that is not better leaves its cage empty: the folder has
    its card, recipe and evaluation, but no weights.

    Args:
        source: The run or the sweep.
        folder: A folder of zoo/.
        memoryless: The run or the sweep of the same recipe without a memory; if it is
            given, the evaluation and the card have `baselines`.

    Raises:
        ValueError: If a run is not finished, or `memoryless` is not of the same recipe.
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
    scores = [score(_choosing(evaluation)) for evaluation in evaluations]
    # The worse one of two in the middle; of equal ones the first.
    median = scores.index(sorted(scores)[(len(scores) - 1) // 2])
    evaluation, measured = evaluations[median], {}
    if memoryless:
        measured = baselines(finished_runs([runs[median]])[0], memoryless)
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copy(runs[median] / "preset" / name, folder / name)
    if len(runs) > 1:
        evaluation["training_seeds"] = [
            {
                "seed": load_recipe(run / "recipe.toml").seed,
                **{k: e[k] for k in SCORES if k in e},
            }
            for run, e in zip(runs, evaluations, strict=True)
        ]
    if measured:
        evaluation["baselines"] = measured
    if len(runs) > 1 or measured:
        evaluation["intervals"] = intervals(evaluations)
        text = json.dumps(evaluation, indent=2) + "\n"
        write_text(folder / "evaluation.json", text)
    if measured and not_beaten(evaluation):
        for name in WEIGHTS:
            (folder / name).unlink()
    write_cards(folder.parent)


def _choosing(evaluation: dict[str, Any]) -> dict[str, Any]:
    """The scores that choose a seed: those of the validation, if there was one."""
    chosen: dict[str, Any] = evaluation.get("validation", evaluation)
    return chosen
