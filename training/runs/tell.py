"""What a run says, whether anybody still reads it or not."""

import contextlib
from typing import TextIO


def tell(text: str, file: TextIO | None = None) -> None:
    """Prints; a terminal or a pipe that is gone ends no run.

    Args:
        text: A line.
        file: Where it goes; stdout if None.
    """
    with contextlib.suppress(OSError):
        print(text, file=file, flush=True)
