"""Checkpoints of named arrays: written whole or not at all, the last ones kept."""

import re
import warnings
import zipfile
from pathlib import Path

import numpy as np

from training.atomic_write import write_whole

NAME = re.compile(r"step_(\d+)\.npz")


class Checkpoints:
    """The checkpoints of a run.

    Args:
        folder: Where they lie, one file each.
        kept: How many of the last are kept.
    """

    def __init__(self, folder: Path, kept: int) -> None:
        self.folder = folder
        self.kept = kept

    def steps(self) -> list[int]:
        """Steps of which there is a checkpoint, oldest first."""
        names = (NAME.fullmatch(path.name) for path in self.folder.glob("step_*"))
        return sorted(int(name[1]) for name in names if name)

    def last(self) -> Path | None:
        """The newest checkpoint."""
        steps = self.steps()
        return self._path(steps[-1]) if steps else None

    def save(self, step: int, arrays: dict[str, np.ndarray]) -> None:
        """Writes a checkpoint: killed at any moment, it is there whole or not at all.

        Raises:
            OSError: If it cannot be written; the message names the file. The
                checkpoints before it stay as they are.
        """
        write_whole(self._path(step), lambda file: np.savez(file, **arrays))
        for old in self.steps()[: -self.kept]:
            self._path(old).unlink()

    def restore(self) -> tuple[int, dict[str, np.ndarray]] | None:
        """The newest checkpoint that is whole, as `(step, arrays)`, if there is one."""
        for step in reversed(self.steps()):
            try:
                # Reading all of it checks the sums that the file holds.
                with (
                    self._path(step).open("rb") as file,
                    np.load(file, allow_pickle=False) as arrays,
                ):
                    return step, {name: arrays[name] for name in arrays.files}
            except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
                warnings.warn(
                    f"The checkpoint {self._path(step)} is damaged and is skipped: "
                    f"{error}",
                    stacklevel=2,
                )
        return None

    def _path(self, step: int) -> Path:
        return self.folder / f"step_{step:012}.npz"
