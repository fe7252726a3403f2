"""The read-out of Stable Hadamard Memory, and the rows that it draws.

Le et al., "Stable Hadamard Memory: Revitalizing Memory-Augmented Agents for
Reinforcement Learning", ICLR 2025, arXiv 2410.10132.
"""

import hashlib
from typing import Any

import numpy as np
from keras import ops

from keras_agalite.ops.checks import check_inputs
from keras_agalite.ops.linear_scan import linear_scan

_TABLE = 4096


def hashed_rows(clock: Any, num_rows: int, *keys: int) -> Any:
    """Rows in 0..num_rows - 1 that follow from the clock and the keys alone.

    Tabulation hashing: the low 12 bits of the clock and the bits above them each
    choose a number from a table of their own, and the row is the sum modulo
    `num_rows`. It is the same on every backend, machine and version.

    Args:
        clock: Integer tensor from 0 to 2^24 - 1.
        num_rows: Number of rows.
        *keys: Integers that choose the tables: a seed, the number of a block.

    Returns:
        Integer tensor of the clock's shape.
    """
    text = ",".join(str(key) for key in keys)
    numbers = hashlib.shake_128(text.encode()).digest(2 * _TABLE * 4)
    tables = np.frombuffer(numbers, "<u4").reshape(2, _TABLE) % num_rows
    low, high = (
        # A column: torch.export can follow a look-up in a matrix.
        ops.take(ops.convert_to_tensor(table[:, None], "int32"), place, axis=0)
        for table, place in zip(tables, (clock % _TABLE, clock // _TABLE), strict=True)
    )
    return ((low + high) % num_rows)[..., 0]


def hadamard_memory(
    query: Any,
    key: Any,
    value: Any,
    calibration: Any,
    theta: Any,
    state: Any,
    *,
    start: Any = None,
    mask: Any = None,
) -> tuple[Any, Any]:
    """Runs the memory of one block of Stable Hadamard Memory over a sequence.

        M = M * (1 + tanh(theta calibration^T)) + value key^T
        y = M query

    What is carried is read as it goes: see `linear_scan`.

    Args:
        query: Tensor of shape `(batch, time, size)`.
        key: Tensor of the same shape.
        value: Tensor of the same shape, with its gate eta.
        calibration: Tensor of the same shape (v_c in the paper).
        theta: Tensor of the same shape.
        state: Tensor of shape `(batch, size, size)`; zeros are the empty memory.
        start: Optional boolean tensor `(batch, time)`: empties the memory before
            the token is read.
        mask: Optional boolean tensor `(batch, time)`: where False, the token is
            skipped, its start included.

    Returns:
        A tuple `(y, state)`: `y` of shape `(batch, time, size)`, the state with the
        shape and dtype it came in. Both are computed in float32 at least.

    Raises:
        ValueError: If batch sizes differ, or the shape of `start` or `mask` is
            another.
    """
    check_inputs(
        state,
        start,
        mask,
        query=query,
        key=key,
        value=value,
        calibration=calibration,
        theta=theta,
    )

    def gates(inputs: Any) -> tuple[list[Any], list[Any]]:
        _, k, v, c, theta = inputs
        decay = 1.0 + ops.tanh(theta[:, :, None] * c[:, None, :])
        return [decay], [v[:, :, None] * k[:, None, :]]

    def read(carry: Any, inputs: Any) -> Any:
        return ops.sum(carry[0] * inputs[0][:, None, :], axis=-1)

    inputs = [query, key, value, calibration, theta]
    y, (state,) = linear_scan(gates, read, [state], inputs, start, mask)
    return y, state
