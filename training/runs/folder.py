"""The folder of a run."""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

from training.atomic_write import write_text
from training.evaluation.evaluate import evaluate_recipe
from training.evaluation.validation import Validation
from training.recipe import Recipe, load_recipe, to_toml_value

RECIPE = "recipe.toml"
# What may change when a run is continued: it may go on for longer, or otherwise
# without another result.
MAY_CHANGE = {
    "total_steps",
    "checkpoints_kept",
    "evaluation_episodes",
    "vectorization_mode",
    "worker_restarts",
    "worker_timeout",
}


def check_folder(recipe: Recipe, run_dir: Path) -> None:
    """Checks that a folder holds no run, or one with this recipe.

    Raises:
        ValueError: If the folder holds a run with another recipe.
    """
    file = run_dir / RECIPE
    if not file.is_file():
        return
    before, after = dataclasses.asdict(load_recipe(file)), dataclasses.asdict(recipe)
    changed = {
        key
        for key, value in after.items()
        # NaN equals nothing, and is written as it was.
        if before[key] != value and to_toml_value(before[key]) != to_toml_value(value)
    }
    if changed - MAY_CHANGE:
        raise ValueError(
            f"The run {run_dir} was made with another recipe: choose another "
            f"--run-dir, or remove it. Received: changed {sorted(changed - MAY_CHANGE)}"
        )


def check_writable(run_dir: Path) -> None:
    """Checks that the folder of a run can be made and written.

    Raises:
        ValueError: If it would have to be made in what is no folder.
        OSError: If it is read-only.
    """
    folders = [run_dir, *run_dir.absolute().parents]
    nearest = next(path for path in folders if path.exists())
    if not nearest.is_dir():
        raise ValueError(f"Expected a folder for the run. Received: {nearest}")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise OSError(f"Cannot write {run_dir / RECIPE}: {nearest} is read-only")


def open_folder(recipe: Recipe, run_dir: Path) -> None:
    """Makes the folder of a run, with its recipe."""
    write_text(run_dir / RECIPE, recipe.to_toml())


def finished_result(recipe: Recipe, run_dir: Path) -> dict[str, Any] | None:
    """The evaluation of a run that is finished, with nothing changed; else None."""
    file = run_dir / "evaluation.json"
    if not file.is_file() or load_recipe(run_dir / RECIPE) != recipe:
        return None
    result: dict[str, Any] = json.loads(file.read_text("utf-8"))
    # It may be of before: continued for longer, the run has not got there yet.
    done = result["trained_steps"] >= recipe.total_steps
    expected = recipe.evaluation_episodes if recipe.environment else 0
    return result if done and result["episodes"] == expected else None


def runs_of(folder: Path) -> list[Path]:
    """The runs of a sweep, or the run itself if it is one."""
    return sorted(folder.glob("seed_*"), key=lambda path: int(path.name[5:])) or [
        folder
    ]


def write_result(
    policy: Any,
    recipe: Recipe,
    run_dir: Path,
    trained_steps: int,
    validation: Validation | None = None,
) -> dict[str, Any]:
    """Writes the trained policy as a preset, and its evaluation.

    Without an environment no episode is played.

    Args:
        policy: The policy as it is at the end.
        recipe: Its recipe.
        run_dir: Folder of the run.
        trained_steps: Environment steps done.
        validation: What chose the best policy. If it did, `preset` holds that one, and
            `preset_last` the one at the end; how it acts is chosen with it.

    Returns:
        The evaluation.

    Raises:
        OSError: If a file cannot be written.
    """
    preset, chosen = run_dir / "preset", None
    if validation and validation.best:
        _write_preset(policy, run_dir, run_dir / "preset_last")
        chosen = validation.choose(policy)
    _write_preset(policy, run_dir, preset)
    sampled = chosen is not None and chosen["actions"] == "sampled"
    result: dict[str, Any] = {"environment": "", "episodes": 0}
    if recipe.environment:
        result = evaluate_recipe(policy, recipe, sampled=sampled)
    result["trained_steps"] = trained_steps
    if chosen:
        result["validation"] = chosen
    text = json.dumps(result, indent=2) + "\n"
    for folder in (preset, run_dir):  # the last one says that the run is finished
        write_text(folder / "evaluation.json", text)
    return result


def _write_preset(policy: Any, run_dir: Path, preset: Path) -> None:
    try:
        policy.save_to_preset(preset)
        shutil.copy(run_dir / RECIPE, preset / RECIPE)
    except (OSError, RuntimeError) as error:  # HDF5 raises both
        raise OSError(f"Cannot write {preset}: {error}") from error
