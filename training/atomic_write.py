"""Files that are there whole or not at all."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


def write_whole(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Writes a file: killed at any moment, it is the old one or the new one.

    Args:
        path: The file. Its folder is made if there is none.
        write: Writes the content into an open file.

    Raises:
        OSError: If it cannot be written; the message names the file, which stays as
            it was.
    """
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):  # a read-only folder refuses this as well
            part.unlink(missing_ok=True)
        raise OSError(f"Cannot write {path}: {error}") from error


def write_text(path: Path, text: str) -> None:
    """Writes a text as `write_whole` does."""
    write_whole(path, lambda file: file.write(text.encode()))


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
