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


def check_bools(flags: dict[str, Any]) -> None:
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


def check_heads(config: dict[str, Any], parts: int = 1) -> None:
    """Checks that each head gets as many channels.

    Args:
        config: Arguments by name, with `hidden_dim` and `num_heads`.
        parts: Parts of the width that are split into heads.

    Raises:
        ValueError: If `hidden_dim` is not a multiple of `parts * num_heads`.
    """
    width, heads = config["hidden_dim"], config["num_heads"]
    if width % (parts * heads):
        times = f"{parts} * " if parts > 1 else ""
        raise ValueError(
            f"`hidden_dim` must be a multiple of {times}num_heads. "
            f"Received: hidden_dim={width}, num_heads={heads}"
        )
