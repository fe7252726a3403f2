"""What surrounds the iterations of a run, whichever engine does them."""

import contextlib
import math
from pathlib import Path
from typing import Any

import numpy as np

from training.recipe import Recipe
from training.runs.checkpoints import Checkpoints
from training.runs.finite import check_learner, check_metrics
from training.runs.interrupt import Interrupt
from training.runs.loggers import TensorBoard, WeightsAndBiases
from training.runs.progress import Curve, Display, summarize
from training.runs.provenance import write_machine


class Session:
    """Shows, records, checks and saves; stops for Ctrl-C after an iteration.

    Args:
        recipe: The recipe.
        run_dir: Folder of the run.
        step: Step that the run continues from.
        checkpoints: Its checkpoints.
        chief: False in processes that only help: they show and write nothing.
        wandb: Project of Weights & Biases, if metrics go there.
    """

    def __init__(
        self,
        recipe: Recipe,
        run_dir: Path,
        step: int,
        checkpoints: Checkpoints,
        chief: bool = True,
        wandb: str | None = None,
    ) -> None:
        self.recipe = recipe
        self.run_dir = run_dir
        self.checkpoints = checkpoints
        self.chief = chief
        self.wandb = wandb
        self.start = step
        self.curve = Curve(run_dir / "curve.jsonl", step) if chief else None
        self.interrupt = Interrupt()
        self.writers: list[Any] = []

    def __enter__(self) -> "Session":
        if self.chief:
            write_machine(self.run_dir)
            self.writers.append(TensorBoard(self.run_dir / "tensorboard"))
            if self.wandb:
                writer = WeightsAndBiases(self.wandb, self.recipe, self.run_dir)
                self.writers.append(writer)
        self.display = Display(self.recipe.total_steps, self.start, self.chief)
        self.display.__enter__()
        self.interrupt.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.interrupt.__exit__(*error)
        self.display.__exit__(*error)
        # What could not be written ends a run once; it hides no other error.
        with contextlib.ExitStack() as stack:
            if error[0]:
                stack.enter_context(contextlib.suppress(OSError))
            for writer in self.writers:
                stack.callback(writer.close)

    def check(self, step: int, metrics: dict[str, float]) -> None:
        """Raises a TrainingError if a loss or the gradient is not finite."""
        check_metrics(step, metrics, self.checkpoints)

    def log(
        self,
        step: int,
        speed: dict[str, float],
        metrics: dict[str, float],
        episodes: list[dict[str, Any]],
    ) -> None:
        """Records an iteration.

        Args:
            step: Steps done with it.
            speed: `steps_per_second`, and where the engine times them apart,
                `collect_...` and `learn_steps_per_second`.
            metrics: Of the learner, means over minibatches; of a validation.
            episodes: Those that ended.
        """
        if self.curve is None:
            return
        # JSON has no NaN, which explained_variance is where all returns are equal.
        known = {k: x if math.isfinite(x) else None for k, x in metrics.items()}
        row = {"step": step, **speed, **summarize(episodes), **known}
        self.curve.add(row)
        for writer in self.writers:
            writer.add(row)
        self.display.update(step, speed, episodes)

    def save(self, step: int, arrays: dict[str, np.ndarray]) -> None:
        """Writes a checkpoint.

        Raises:
            TrainingError: If what was learnt is not finite: nothing is written.
            OSError: If it cannot be written.
        """
        check_learner(step, arrays, self.checkpoints)
        if self.chief:
            self.checkpoints.save(step, arrays)
