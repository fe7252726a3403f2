"""Ctrl-C: the first asks a run to save and stop, the second stops it at once."""

import os
import signal
import threading
from typing import Any

from training.errors import Interrupted

MESSAGE = b"\nStopping after this iteration; once more stops at once.\n"
SHOW_CURSOR = b"\x1b[?25h"  # a progress bar hides it
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Remembers SIGINT and SIGTERM while it is entered, in the main thread.

    A second signal has its default effect, which no running computation delays.

    Attributes:
        signal_number: The signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            self._before = {n: signal.signal(n, self._remember) for n in SIGNALS}
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: Any) -> None:
        self.signal_number = number
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        # Not print: the signal may have come in the middle of one.
        os.write(2, (SHOW_CURSOR if os.isatty(2) else b"") + MESSAGE)

    def raise_if_asked(self) -> None:
        """Raises `Interrupted` if a signal came."""
        if self.signal_number is not None:
            raise Interrupted(self.signal_number)
