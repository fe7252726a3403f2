"""Training by a recipe, with the engine that it names."""

import contextlib
import importlib
from pathlib import Path
from typing import Any

from training.recipe import Recipe
from training.runs.folder import check_folder, finished_result


def train(
    recipe: Recipe, run_dir: Path, wandb: str | None = None, video: bool = False
) -> dict[str, Any]:
    """Trains, evaluates and writes the run; continues one that exists.

    Of a run that is finished, with nothing changed, nothing is written.

    Args:
        recipe: The recipe.
        run_dir: Folder of the run.
        wandb: Project of Weights & Biases, if metrics go there.
        video: Whether its episodes are to be drawn: checked before the first step.

    Returns:
        The evaluation; in processes other than the first, nothing.

    Raises:
        ValueError: If the recipe cannot be built, evaluated or drawn, or the folder
            holds another run.
        Interrupted: If a signal asked to stop; a checkpoint is written.
        TrainingError: If the run cannot go on.
        OSError: If a file cannot be written; the message names it.
    """
    check_folder(recipe, run_dir)
    if result := finished_result(recipe, run_dir):
        return result
    engine = importlib.import_module(f"training.engines.{recipe.engine}")
    with (
        engine.Run.settings(),
        contextlib.closing(engine.Run(recipe, run_dir, video)) as run,
    ):
        run.train(wandb)
        return run.finish()
