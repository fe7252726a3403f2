"""What stops a run before a number that is not one spoils its checkpoints."""

import math
from typing import Any

import numpy as np

from training.errors import TrainingError
from training.runs.checkpoints import Checkpoints

# Without these no step of learning is sound; the others are for looking at.
GUARDED = (
    "policy_gradient_loss",
    "value_estimation_loss",
    "entropy_regularization_loss",
    "loss",
    "gradient_norm",
)
HINT = (
    "Often a smaller learning_rate or max_gradient_norm helps; "
    "docs/troubleshooting.md says more."
)


def check_metrics(step: int, metrics: dict[str, Any], checkpoints: Checkpoints) -> None:
    """Raises a TrainingError if a loss or the gradient is NaN or infinite."""
    bad = [
        f"{name}={metrics[name]}"
        for name in GUARDED
        if name in metrics and not math.isfinite(metrics[name])
    ]
    if bad:
        raise TrainingError(
            f"At step {step:,} a term of the loss is not finite: {', '.join(bad)}. "
            f"{where_it_stands(checkpoints)} {HINT}"
        )


def check_learner(
    step: int, arrays: dict[str, np.ndarray], checkpoints: Checkpoints
) -> None:
    """Raises a TrainingError if what is learnt or counted is not finite.

    Args:
        step: Steps done.
        arrays: What is about to be saved; names say what is the learner's.
        checkpoints: Those there are.
    """
    for name, array in arrays.items():
        learnt = any(part in name for part in ("weights", "optimizer", "statistics"))
        if learnt and array.dtype.kind == "f" and not np.isfinite(array).all():
            raise TrainingError(
                f"At step {step:,} the array {name} is not finite; it is not saved. "
                f"{where_it_stands(checkpoints)} {HINT}"
            )


def where_it_stands(checkpoints: Checkpoints) -> str:
    last = checkpoints.last()
    if last is None:
        return "The run stopped; it had no checkpoint yet."
    return f"The run stopped; its last good checkpoint is {last}."
