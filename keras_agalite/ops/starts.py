"""How a start empties what is carried."""

from collections.abc import Sequence
from typing import Any

from keras_agalite.ops import _backend


def empty_at_start(carry: Sequence[Any], keep: Any) -> list[Any]:
    """Zeros in the rows of a carry whose episode starts.

    A product with zero would do, were there no NaN and no infinity: what a broken
    sensor left behind would stay for ever, and so would its gradient.

    Args:
        carry: List of tensors of shape `(batch, ...)`.
        keep: Tensor of shape `(batch,)`, zero where an episode starts, else one.
    """
    kept = keep > 0
    return [_backend.rows_or_zeros(kept, x) for x in carry]
