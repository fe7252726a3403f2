"""The mathematics that differs by backend; `_jax`, `_tensorflow` and `_torch` hold it.

Below the layers, nothing else asks which backend runs. Above them, the compiled
acting step and the export do.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import keras

SUPPORTED = ("jax", "tensorflow", "torch")

# Steps whose states are recomputed together in the backward pass. A chunk keeps
# its own states for a moment, the whole sequence keeps one state a chunk.
CHUNK_SIZE = 16

Step = Callable[..., tuple[list[Any], Any]]

if keras.backend.backend() not in SUPPORTED:
    raise ValueError(
        f"keras_agalite runs on the Keras backends {', '.join(SUPPORTED)}. "
        f"Received: KERAS_BACKEND={keras.backend.backend()!r}"
    )
_implementation = importlib.import_module(
    f"keras_agalite.ops._{keras.backend.backend()}"
)


def scan(
    step: Step, carry: Sequence[Any], xs: Sequence[Any], weights: Sequence[Any] = ()
) -> tuple[Any, list[Any]]:
    """Runs `carry, y = step(carry, x)` over time and keeps few carries.

    The backward pass runs each chunk of steps again instead of reading states
    that the forward pass would have had to keep.

    Args:
        step: Function of a list of carried tensors and a list of inputs of one
            time step, and of the weights if there are any. It returns the new carry
            (same shapes and dtypes) and one output tensor, and uses no other tensors.
        carry: List of tensors.
        xs: List of tensors of shape `(batch, time, ...)`, time at least 1.
        weights: Tensors that every step reads.

    Returns:
        A tuple `(ys, carry)`: outputs of shape `(batch, time, ...)` and the carry
        after the last step.
    """
    number, read = len(carry), tuple(weights)

    def whole_step(carry: Sequence[Any], x: Sequence[Any]) -> tuple[list[Any], Any]:
        if not read:
            return step(carry, x)
        carry, kept = carry[:number], carry[number:]
        new, y = step(carry, x, kept or read)
        return [*new, *kept], y

    if xs[0].shape[1] == 1:
        carry, y = whole_step(carry, [x[:, 0] for x in xs])
        return keras.ops.expand_dims(y, 1), list(carry)
    if not _implementation.READS_AROUND:
        carry = [*carry, *read]
    xs = [keras.ops.swapaxes(x, 0, 1) for x in xs]
    ys, carry = _implementation.scan(whole_step, list(carry), xs, CHUNK_SIZE)
    return keras.ops.swapaxes(ys, 0, 1), list(carry[:number])


def runs_in_parallel(length: Any) -> bool:
    """Whether a linear recurrence over so many steps is best run by `parallel_scan`.

    It is on an accelerator, where each step of a loop waits for its launches.
    """
    if not hasattr(_implementation, "parallel_scan"):
        return False
    # An exporter's symbol is in no chunks.
    return isinstance(length, int) and length > 1 and _implementation.on_accelerator()


def parallel_scan(
    gates: Any,
    read: Any,
    product: Any,
    carry: list[Any],
    xs: list[Any],
    start: Any,
    mask: Any,
) -> tuple[Any, list[Any]]:
    """The associative form of `linear_scan.linear_scan`, which says what each is."""
    xs = [keras.ops.swapaxes(x, 0, 1) for x in xs]
    start, mask = (
        None if flags is None else keras.ops.swapaxes(flags, 0, 1)
        for flags in (start, mask)
    )
    ys, carry = _implementation.parallel_scan(
        gates, read, product, carry, xs, start, mask
    )
    return keras.ops.swapaxes(ys, 0, 1), carry


def own_form(name: str) -> Callable[..., Any] | None:
    """The form that a backend has of its own of an operation over a sequence.

    Args:
        name: `"oscillating_attention"`, `"linear_recurrence"` or
            `"gated_delta_rule"`; the function of that name says what it takes.

    Returns:
        None where the operation is to be scanned.
    """
    return getattr(_implementation, name, None)


def custom_gradient(
    forward: Callable[..., Any],
    keep: Callable[[Any, Any], list[Any]],
    backward: Callable[[Any, Any], list[Any]],
    *inputs: Any,
) -> Any:
    """`forward(*inputs)`, with a backward pass that is given.

    The functions read no tensors but their arguments.

    Args:
        forward: Function of tensors; returns one tensor.
        keep: Function of the list of inputs and the output: all tensors that the
            backward pass reads.
        backward: Function of what `keep` returned and the gradient of the output: the
            gradient of each input.
        *inputs: Tensors of floats.
    """
    inputs = tuple(keras.ops.convert_to_tensor(x) for x in inputs)
    dtypes = [x.dtype for x in inputs]

    def gradients(kept: Any, d_output: Any) -> list[Any]:
        found = backward(kept, d_output)
        return [
            keras.ops.cast(d, dtype) for d, dtype in zip(found, dtypes, strict=True)
        ]

    return _implementation.custom_gradient(forward, keep, gradients, *inputs)


def rows_or_zeros(kept: Any, x: Any) -> Any:
    """The rows of x that are kept, zeros instead of the others.

    Args:
        kept: Boolean tensor of shape `(n,)`.
        x: Tensor of shape `(n, ...)`.
    """
    if hasattr(_implementation, "rows_or_zeros"):
        return _implementation.rows_or_zeros(kept, x)
    kept = keras.ops.reshape(kept, (-1, *[1] * (len(x.shape) - 1)))
    return keras.ops.where(kept, x, 0.0)


def row_bounds(x: Any) -> tuple[Any, Any]:
    """The least and the greatest number of each row.

    Args:
        x: Tensor of shape `(..., n)`, n at least 1.

    Returns:
        Two tensors of shape `(..., 1)`.
    """
    if hasattr(_implementation, "row_bounds"):
        return _implementation.row_bounds(x)
    amin, amax = keras.ops.amin, keras.ops.amax
    return amin(x, axis=-1, keepdims=True), amax(x, axis=-1, keepdims=True)


def convolution(x: Any, kernel: Any, stride: int) -> Any:
    """A convolution without padding.

    Args:
        x: Tensor of shape `(n, height, width, channels)`.
        kernel: Tensor of shape `(size, size, channels, filters)`.
        stride: Stride in both directions.
    """
    if hasattr(_implementation, "convolution"):
        return _implementation.convolution(x, kernel, stride)
    return keras.ops.conv(x, kernel, stride, data_format="channels_last")
