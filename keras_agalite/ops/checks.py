"""What the shapes of a memory's inputs must have in common."""

from typing import Any


def check_batches(**tensors: Any) -> None:
    """Refuses batch sizes that differ, which backends would broadcast in silence.

    Args:
        **tensors: Tensors, or lists of them, by the names that users know. None is
            left out, and so is a size that is not known yet.

    Raises:
        ValueError: If two first axes differ; it names both.
    """
    known: list[tuple[str, int]] = []
    for name, value in tensors.items():
        for shape in _shapes(value):
            if shape and isinstance(shape[0], int):
                known.append((name, shape[0]))
    for name, size in known[1:]:
        first, expected = known[0]
        if size != expected:
            raise ValueError(
                f"`{first}` and `{name}` must have one batch size. Received: a batch "
                f"of {expected} in {first}, of {size} in {name}"
            )


def check_inputs(state: Any, start: Any, mask: Any, **sequences: Any) -> None:
    """Refuses what would be broadcast where a memory runs over sequences.

    Args:
        state: Tensor of shape `(batch, ...)`, or a list of them.
        start: Optional flags of shape `(batch, time)`.
        mask: Optional flags of shape `(batch, time)`.
        **sequences: Tensors of shape `(batch, time, ...)` by name.

    Raises:
        ValueError: If the batch sizes differ, or the shape of a flag is another.
    """
    check_batches(**sequences, state=state)
    name, first = next(iter(sequences.items()))
    check_flags(name, first, start=start, mask=mask)


def check_flags(name: str, sequences: Any, **flags: Any) -> None:
    """Refuses flags without the shape `(batch, time)` of the sequences of a name.

    Raises:
        ValueError: If the shape of a flag is another.
    """
    expected = tuple(sequences.shape[:2])
    for flag, value in flags.items():
        for shape in _shapes(value):
            if len(shape) != 2 or any(
                None not in pair and pair[0] != pair[1]
                for pair in zip(expected, shape, strict=True)
            ):
                raise ValueError(
                    f"`{flag}` must have the shape (batch, time) of the {name}, "
                    f"{expected}. Received: {flag}.shape={shape}"
                )


def _shapes(value: Any) -> list[tuple[Any, ...]]:
    if isinstance(value, list | tuple):
        return [shape for part in value for shape in _shapes(part)]
    return [] if value is None else [tuple(getattr(value, "shape", ()))]
