"""Checkpoints of named arrays: written whole or not at all, the last ones kept."""

import os
import re
import warnings
import zipfile
from pathlib import Path

import numpy as np

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

    def save(self, step: int, arrays: dict[str, np.ndarray]) -> None:
        """Writes a checkpoint: killed at any moment, it is there whole or not at all.

        Raises:
            OSError: If it cannot be written; the message names the file. The
                checkpoints before it stay as they are.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(step)
        part = path.with_suffix(".part")
        try:
            with part.open("wb") as file:
                np.savez(file, **arrays)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            self._sync_folder()
        except OSError as error:
            part.unlink(missing_ok=True)
            raise OSError(f"Cannot write the checkpoint {path}: {error}") from error
        for old in self.steps()[: -self.kept]:
            self._path(old).unlink()

    def restore(self) -> tuple[int, dict[str, np.ndarray]] | None:
        """The newest checkpoint that is whole, as `(step, arrays)`, if there is one."""
        for step in reversed(self.steps()):
            try:
                # Reading all of it checks the sums that the file holds.
                with np.load(self._path(step), allow_pickle=False) as file:
                    return step, {name: file[name] for name in file.files}
            except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
                warnings.warn(
                    f"The checkpoint {self._path(step)} is damaged and is skipped: "
                    f"{error}",
                    stacklevel=2,
                )
        return None

    def _path(self, step: int) -> Path:
        return self.folder / f"step_{step:012}.npz"

    def _sync_folder(self) -> None:
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
