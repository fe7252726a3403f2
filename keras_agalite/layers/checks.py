"""Checks of constructor arguments."""

from typing import Any


def check_sizes(sizes: dict[str, Any]) -> None:
    """Checks that all are positive integers.

    Args:
        sizes: Arguments by name.

    Raises:
        ValueError: If one is not a positive integer.
    """
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(
                f"`{name}` must be a positive integer. Received: {name}={value!r}"
            )


def check_flags(flags: dict[str, Any]) -> None:
    """Checks that all are booleans.

    Args:
        flags: Arguments by name.

    Raises:
        ValueError: If one is not True or False.
    """
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise ValueError(
                f"`{name}` must be True or False. Received: {name}={value!r}"
            )
