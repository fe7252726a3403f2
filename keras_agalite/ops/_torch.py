"""A scan over time for torch: a loop over chunks that are recomputed."""

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from keras_agalite.ops._torch_attention import (
    oscillating_attention as oscillating_attention,
)
from keras_agalite.ops._torch_delta_rule import gated_delta_rule as gated_delta_rule
from keras_agalite.ops._torch_recurrence import linear_recurrence as linear_recurrence

# Whether gradients reach what a step reads besides its arguments.
READS_AROUND = True


def scan(step: Any, carry: Any, xs: Any, chunk_size: int) -> tuple[Any, Any]:
    """See `keras_agalite.ops._backend.scan`; here time is the first axis."""

    def run(carry: Any, xs: Any) -> tuple[Any, Any]:
        ys = []
        # unbind, not indexing: the gradient of x[t] is as large as x.
        for x in zip(*(x.unbind(0) for x in xs), strict=True):
            carry, y = step(carry, list(x))
            ys.append(y)
        return torch.stack(ys), carry

    outputs = []
    for chunk in zip(*(x.split(chunk_size) for x in xs), strict=True):
        if torch.is_grad_enabled():
            ys, carry = checkpoint(
                run, carry, list(chunk), use_reentrant=False, preserve_rng_state=False
            )
        else:
            ys, carry = run(carry, chunk)
        outputs.append(ys)
    return torch.cat(outputs), carry


def rows_or_zeros(kept: Any, x: Any) -> Any:
    """See `keras_agalite.ops._backend.rows_or_zeros`; Keras's own `where` takes
    three times as long, and there are two at each step."""
    return torch.where(kept.reshape(-1, *[1] * (x.ndim - 1)), x, 0.0)


def custom_gradient(forward: Any, keep: Any, backward: Any, *inputs: Any) -> Any:
    """See `keras_agalite.ops._backend.custom_gradient`."""
    if not torch.is_grad_enabled():
        return forward(*inputs)
    return _CustomGradient.apply(forward, keep, backward, *inputs)


class _CustomGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, forward: Any, keep: Any, backward: Any, *inputs: Any) -> Any:
        output = forward(*inputs)
        ctx.gradients = backward
        ctx.save_for_backward(*keep(inputs, output))
        return output

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, d_output: Any) -> Any:
        gradients = ctx.gradients(ctx.saved_tensors, d_output)
        return None, None, None, *gradients
