"""Training by a recipe, with the engine that it names."""

import contextlib
import importlib
from pathlib import Path
from typing import Any

from training.recipe import Recipe


def train(recipe: Recipe, run_dir: Path, wandb: str | None = None) -> dict[str, Any]:
    """Trains, evaluates and writes the run; continues one that exists.

    Args:
        recipe: The recipe.
        run_dir: Folder of the run.
        wandb: Project of Weights & Biases, if metrics go there.

    Returns:
        The evaluation; in processes other than the first, nothing.

    Raises:
        ValueError: If the recipe cannot be built, or the folder holds another run.
        Interrupted: If a signal asked to stop; a checkpoint is written.
        TrainingError: If the run cannot go on.
        OSError: If a file cannot be written; the message names it.
    """
    engine = importlib.import_module(f"training.engines.{recipe.engine}")
    with contextlib.closing(engine.Run(recipe, run_dir)) as run:
        run.train(wandb)
        return run.finish()
