"""Checks of constructor arguments."""

from collections.abc import Iterable, Mapping
from typing import Any

# Of any one size, and of layers on top of each other, which are made one by one.
MAX_SIZE = 2**20
MAX_LAYERS = 2**10


def check_sizes(sizes: dict[str, Any]) -> None:
    """Checks that all are positive integers, and none is beyond all use.

    Args:
        sizes: Arguments by name.

    Raises:
        ValueError: If one is not an integer from 1 to `MAX_SIZE`, or `num_layers` not
            one from 1 to `MAX_LAYERS`.
    """
    for name, value in sizes.items():
        limit = MAX_LAYERS if name == "num_layers" else MAX_SIZE
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        if not is_integer or not 1 <= value <= limit:
            raise ValueError(
                f"`{name}` must be a positive integer, at most {limit:,}. Received: "
                f"{name}={value!r}"
            )


def check_widths(name: str, widths: Iterable[Any]) -> tuple[int, ...]:
    """The widths of layers on top of each other, as a tuple.

    Args:
        name: The argument's name.
        widths: Its value.

    Raises:
        ValueError: If it does not hold at most `MAX_LAYERS` integers from 1 to
            `MAX_SIZE`.
    """
    try:
        found = tuple(widths)
    except TypeError:
        raise ValueError(
            f"`{name}` must be a list of positive integers. Received: {name}={widths!r}"
        ) from None
    if len(found) > MAX_LAYERS:
        raise ValueError(
            f"`{name}` must hold at most {MAX_LAYERS:,} numbers. "
            f"Received: {len(found):,}"
        )
    for i, width in enumerate(found):
        check_sizes({f"{name}[{i}]": width})
    return found


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


def check_names(cls: Any, taken: Mapping[str, type[Any]]) -> None:
    """Checks the names of a class that joins a catalog.

    Args:
        cls: The class, with `short_name`.
        taken: The catalog: classes by short name.

    Raises:
        ValueError: If its short name is no lower-case identifier, or it has a name of
            another class there.
    """
    name = cls.short_name
    if not isinstance(name, str) or not name.isidentifier() or name != name.lower():
        raise ValueError(
            "Expected a short name of lower-case letters, digits and underscores. "
            f"Received: {cls.__name__}.short_name={name!r}"
        )
    for short_name, other in taken.items():
        same = short_name == name, other.__name__ == cls.__name__
        if any(same) and other is not cls:
            raise ValueError(
                "Expected names that no class of the catalog has yet. Received: "
                f"{cls.__name__}.short_name={name!r}, where {short_name!r} is "
                f"{other.__module__}.{other.__name__}"
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
