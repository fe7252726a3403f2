"""The gated delta rule over a sequence on torch: a chunk of steps at once, and again
in the backward pass.

Inside a chunk what is written at each step follows from a triangular system (the WY
form): Yang et al., "Parallelizing Linear Transformers with the Delta Rule over
Sequence Length", NeurIPS 2024, arXiv 2406.06484; with decays in "Gated Delta Networks",
arXiv 2412.06464, section 3.3. Products of decays are products, so a decay may be zero.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from keras_agalite.ops._torch_recurrence import all_finite

CHUNK_SIZE = 32


def _run(inputs: Sequence[Any], state: Any) -> tuple[Any, Any]:
    """A chunk; its inputs have the shape `(batch, heads, time, m)`."""
    query, key, value, alpha, beta = inputs
    length = alpha.shape[2]
    later = torch.ones(length, length, dtype=torch.bool, device=alpha.device).tril(-1)
    # What is left at a step (row) of what another one (column) wrote.
    left = torch.where(later, alpha, 1.0).cumprod(2)
    reach = alpha.cumprod(2)
    overlap = (beta * left * (key @ key.mT)).tril(-1)
    error = beta * (value - reach * (key @ state.mT))
    written = torch.linalg.solve_triangular(
        overlap, error, upper=False, unitriangular=True
    )
    read = (left * (query @ key.mT)).tril() @ written
    outputs = read + reach * (query @ state.mT)
    kept = left[:, :, -1, :, None] * key
    return outputs, reach[:, :, -1:] * state + written.mT @ kept


def gated_delta_rule(
    query: Any,
    key: Any,
    value: Any,
    alpha: Any,
    beta: Any,
    state: Any,
    start: Any,
) -> tuple[Any, Any] | None:
    """The gated delta rule over a sequence.

    Args: those of `keras_agalite.ops.gated_delta_rule`; `start` is boolean or None.

    Returns:
        Its outputs and state; None where something is not finite: then a product of
        matrices would carry it to where a zero should keep it out.
    """
    if start is not None:
        start = start[:, :, None]
        alpha = torch.where(start, 0.0, alpha)
        state = torch.where(start[:, 0, :, None, None], 0.0, state)
    inputs = (query, key, value, alpha[..., None], beta[..., None])
    chunks = zip(*(x.transpose(1, 2).split(CHUNK_SIZE, 2) for x in inputs), strict=True)
    outputs = []
    for chunk in chunks:
        if torch.is_grad_enabled():
            y, state = checkpoint(
                _run, chunk, state, use_reentrant=False, preserve_rng_state=False
            )
        else:
            y, state = _run(chunk, state)
        outputs.append(y)
    y = torch.cat(outputs, 2).transpose(1, 2)
    return (y, state) if all_finite(y, state) else None
