"""Where metrics go besides the terminal and the curve: TensorBoard, Weights & Biases.

All names are those of curve.jsonl, behind one of the prefixes of `GROUPS`.
"""

import contextlib
import importlib.util
import os
import socket
import time
import uuid
from pathlib import Path
from typing import Any

from training.evaluation.validation import SCORES
from training.recipe import Recipe

# Prefix -> the metrics under it; all others are `Losses/`.
GROUPS = {
    "speed": (
        "steps_per_second",
        "collect_steps_per_second",
        "learn_steps_per_second",
    ),
    "episodes": ("episodes", "mean_return", "mean_length", "success_rate"),
    "validation": tuple(f"validation_{name}" for name in SCORES),
}
MISSING_WANDB = (
    "`--wandb` needs Weights & Biases, which is not installed. Install it with: "
    "pip install wandb"
)


def grouped(row: dict[str, Any]) -> dict[str, float]:
    """The metrics of a row that have a value, under their prefixes."""
    prefixes = {name: prefix for prefix, names in GROUPS.items() for name in names}
    return {
        f"{prefixes.get(name, 'Losses')}/{name}": value
        for name, value in row.items()
        if value is not None and name != "step"
    }


class TensorBoard:
    """Scalars for TensorBoard, without TensorFlow; nothing where it is not installed.

    Args:
        folder: Where the events go.

    Raises:
        OSError: If they cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.writer: Any = None
        if importlib.util.find_spec("tensorboard"):
            # Its `SummaryWriter` imports TensorFlow where that is installed.
            from tensorboard.summary.writer.record_writer import RecordWriter

            now = f"{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
            with self._named():
                folder.mkdir(parents=True, exist_ok=True)
                file = (folder / f"events.out.tfevents.{now}").open("xb")
                self.writer = RecordWriter(file)
            self._write(file_version="brain.Event:2")

    def add(self, row: dict[str, Any]) -> None:
        if self.writer:
            values = [
                {"tag": name, "simple_value": value}
                for name, value in grouped(row).items()
            ]
            self._write(step=row["step"], summary={"value": values})

    def close(self) -> None:
        if self.writer:
            with self._named():
                self.writer.close()

    def _write(self, **event: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        with self._named():
            record = Event(wall_time=time.time(), **event).SerializeToString()
            self.writer.write(record)
            self.writer.flush()

    @contextlib.contextmanager
    def _named(self) -> Any:
        try:
            yield
        except OSError as error:
            raise OSError(f"Cannot write {self.folder}: {error}") from error


class WeightsAndBiases:
    """Metrics for Weights & Biases; a run that is continued goes on there too.

    Args:
        project: The project's name.
        recipe: What the run is made from.
        run_dir: Folder of the run.

    Raises:
        ImportError: If wandb is not installed; the message says how to install it.
    """

    def __init__(self, project: str, recipe: Recipe, run_dir: Path) -> None:
        check_wandb()
        import wandb

        identity = run_dir / "wandb_id"
        if not identity.is_file():
            identity.write_text(uuid.uuid4().hex)
        self.run = wandb.init(
            project=project,
            name=recipe.name,
            id=identity.read_text(),
            resume="allow",
            dir=str(run_dir),
            config=vars(recipe),
        )

    def add(self, row: dict[str, Any]) -> None:
        self.run.log(grouped(row), step=row["step"])

    def close(self) -> None:
        self.run.finish()


def check_wandb() -> None:
    """Raises an ImportError that says how to install wandb, if it is missing."""
    if importlib.util.find_spec("wandb") is None:
        raise ImportError(MISSING_WANDB, name="wandb")
