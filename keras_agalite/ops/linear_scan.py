"""Linear recurrences over time, with starts and masked steps, by device."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_agalite.ops import _backend
from keras_agalite.ops.episodes import memory_scan
from keras_agalite.ops.precision import at_least_float32


class Product(NamedTuple):
    """How decays act on a carry. All take and return lists of tensors.

    Attributes:
        apply: Function of decays and a carry, or of later and earlier decays, which
            it makes one. Any axes may stand in front.
        adjoint: Function of decays: those that take a gradient one step back.
        one: Function of decays: those that change nothing.
    """

    apply: Callable[[Sequence[Any], Sequence[Any]], list[Any]]
    adjoint: Callable[[Sequence[Any]], list[Any]]
    one: Callable[[Sequence[Any]], list[Any]]


# A decay for each number, or one that is broadcast.
ELEMENTWISE = Product(
    lambda decays, carry: [a * c for a, c in zip(decays, carry, strict=True)],
    list,
    lambda decays: [ops.ones_like(a) for a in decays],
)
# Complex numbers: real parts, imaginary parts.
COMPLEX = Product(
    lambda decays, carry: [
        decays[0] * carry[0] - decays[1] * carry[1],
        decays[1] * carry[0] + decays[0] * carry[1],
    ],
    lambda decays: [decays[0], -decays[1]],
    lambda decays: [ops.ones_like(decays[0]), ops.zeros_like(decays[1])],
)


def linear_scan(
    gates: Callable[[Sequence[Any]], tuple[Sequence[Any], Sequence[Any]]],
    read: Callable[[Sequence[Any], Sequence[Any]], Any],
    carry: Sequence[Any],
    xs: Sequence[Any],
    start: Any = None,
    mask: Any = None,
    *,
    product: Product = ELEMENTWISE,
    step: _backend.Step | None = None,
) -> tuple[Any, list[Any]]:
    """Runs `carry = decay * carry + update; y = read(carry, x)` over time.

    A start empties the carry, a masked step is skipped. It computes in float32 at
    least. Steps run one after the other, or, where `_backend.runs_in_parallel` says
    so, those of a chunk at once, by an associative scan. In both forms the backward
    pass computes the carries again, chunk by chunk, instead of reading what the
    forward pass would have had to keep.

    Args:
        gates: Function of the inputs of a step: the list of decays and that of
            updates, which may be broadcast to the carry.
        read: Function of the carry after a step and of the inputs of the step: one
            tensor.
        carry: List of tensors of shape `(batch, ...)`; zeros are the empty memory.
        xs: List of tensors of shape `(batch, time, ...)` or `(1, time, ...)`.
        start: Optional boolean tensor of shape `(batch, time)`.
        mask: Optional boolean tensor of shape `(batch, time)`.
        product: How decays act.
        step: Function of the carry and the inputs of a step, the new carry and the
            output, where that is less work than by the decays.

    Returns:
        A tuple `(ys, carry)`, the carry in the dtypes that it came in.
    """
    if not _backend.runs_in_parallel(xs[0].shape[1]):
        step = step or _in_turn(gates, read, product)
        return memory_scan(step, carry, xs, start, mask)
    dtype = at_least_float32(xs[0].dtype)
    dtypes = [keras.backend.standardize_dtype(c.dtype) for c in carry]
    carry = [ops.cast(c, dtype) for c in carry]
    xs = [ops.cast(x, dtype) for x in xs]
    if start is not None:
        start = ops.cast(start, "bool")
        if mask is not None:
            start = ops.logical_and(start, mask)
    ys, carry = _backend.parallel_scan(gates, read, product, carry, xs, start, mask)
    return ys, [ops.cast(c, d) for c, d in zip(carry, dtypes, strict=True)]


def _in_turn(gates: Any, read: Any, product: Product) -> _backend.Step:
    def step(carry: Sequence[Any], inputs: Sequence[Any]) -> Any:
        decays, updates = gates(inputs)
        kept = product.apply(decays, carry)
        carry = [c + u for c, u in zip(kept, updates, strict=True)]
        return carry, read(carry, inputs)

    return step
