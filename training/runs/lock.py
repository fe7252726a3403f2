"""One process at a time in the folder of a run."""

import fcntl
import os
from pathlib import Path

from training.errors import TrainingError

NAME = "lock"


class FolderLock:
    """A lock on a folder, which ends with this process, however that ends.

    Args:
        folder: The folder of a run, which need not exist yet.

    Raises:
        TrainingError: If another process has the lock.
        OSError: If the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / NAME
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Closed when a process begins another program: no child inherits it.
            self.handle = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        except OSError as error:
            raise OSError(f"Cannot write {self.file}: {error}") from error
        try:
            fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise TrainingError(f"Another process trains in {folder}.") from None
        except OSError:
            pass  # a file system without locks, where nobody can be told apart

    def close(self) -> None:
        """Gives the lock back. The file stays: another process may have opened it."""
        os.close(self.handle)
