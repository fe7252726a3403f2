"""The folder of a run."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

from training.atomic_write import write_text
from training.evaluation.evaluate import evaluate_recipe
from training.recipe import Recipe, load_recipe

RECIPE = "recipe.toml"
# What may change when a run is continued: it may go on for longer, or otherwise
# without another result.
MAY_CHANGE = {
    "total_steps",
    "checkpoints_kept",
    "evaluation_episodes",
    "vectorization_mode",
    "worker_restarts",
}


def check_folder(recipe: Recipe, run_dir: Path) -> None:
    """Checks that a folder holds no run, or one with this recipe.

    Raises:
        ValueError: If the folder holds a run with another recipe.
    """
    file = run_dir / RECIPE
    if file.is_file():
        before = dataclasses.asdict(load_recipe(file))
        after = dataclasses.asdict(recipe)
        changed = {key for key in after if before[key] != after[key]} - MAY_CHANGE
        if changed:
            raise ValueError(
                f"The run {run_dir} was made with another recipe: choose another "
                f"--run-dir, or remove it. Received: changed {sorted(changed)}"
            )


def open_folder(recipe: Recipe, run_dir: Path) -> None:
    """Makes the folder of a run, with its recipe."""
    run_dir.mkdir(parents=True, exist_ok=True)
    write_text(run_dir / RECIPE, recipe.to_toml())


def runs_of(folder: Path) -> list[Path]:
    """The runs of a sweep, or the run itself if it is one."""
    return sorted(folder.glob("seed_*"), key=lambda path: int(path.name[5:])) or [
        folder
    ]


def write_result(
    policy: Any, recipe: Recipe, run_dir: Path, trained_steps: int
) -> dict[str, Any]:
    """Writes the trained policy as a preset, and its evaluation, which it returns."""
    preset = run_dir / "preset"
    policy.save_to_preset(preset)
    shutil.copy(run_dir / RECIPE, preset / RECIPE)
    result = evaluate_recipe(policy, recipe)
    result["trained_steps"] = trained_steps
    text = json.dumps(result, indent=2) + "\n"
    for folder in (run_dir, preset):
        write_text(folder / "evaluation.json", text)
    return result
