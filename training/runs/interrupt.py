"""Signals ask a run to save and stop; a Ctrl-C after that stops it at once."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

from training.errors import Interrupted

MESSAGE = b"\nStopping after this iteration; once more stops at once.\n"
SHOW_CURSOR = b"\x1b[?25h"  # a progress bar hides it
SECONDS_BETWEEN_LOOKS = 1.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def signals_to_catch() -> list[signal.Signals]:
    """`SIGNALS`, without SIGHUP under nohup, where it stays ignored."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [x for x in SIGNALS if x != signal.SIGHUP or not ignored]


@contextlib.contextmanager
def signals_passed_on(
    processes: list[Any], but: tuple[int, ...] = ()
) -> Iterator[list[int]]:
    """The list of the signals that come meanwhile, which go to all processes.

    Args:
        processes: As `subprocess.Popen` gives them; the list may change.
        but: Signals that are listed and not passed on.
    """
    asked: list[int] = []

    def pass_on(number: int, frame: Any) -> None:
        asked.append(number)
        for process in processes if number not in but else ():
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in signals_to_catch()}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Interrupt:
    """Remembers SIGINT, SIGTERM and SIGHUP while it is entered, in the main thread.

    After the first, SIGINT has its default effect, which no running computation
    delays. The others may come twice: batch systems send them to a sweep and to its
    run, and the sweep passes them on. SIGHUP stays ignored under nohup.

    Attributes:
        signal_number: The signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in signals_to_catch():
                self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *error: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if self.signal_number is not None:
            return
        self.signal_number = number
        # Not print: the signal may have come in the middle of one. SIGHUP comes when
        # the terminal is gone.
        with contextlib.suppress(OSError):
            os.write(2, (SHOW_CURSOR if os.isatty(2) else b"") + MESSAGE)

    def raise_if_asked(self) -> None:
        """Raises `Interrupted` if a signal came."""
        if self.signal_number is not None:
            raise Interrupted(self.signal_number)


def end_with(parent: int) -> None:
    """Asks this process to save and stop, as SIGTERM does, when its parent is gone.

    Args:
        parent: The parent's process id, as the parent itself told it.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
