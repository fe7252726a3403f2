"""AGaLiTe's attention over a sequence on torch, forward and backward in few calls.

A step of the recurrence is one call, in place; all else is done for a chunk of steps
at once. The backward pass computes the states of a chunk again.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from keras_agalite.ops._torch_recurrence import (
    all_finite,
    fill_gradients,
    fill_states,
    multiply_by_states_before,
)

# Steps of a chunk. On a CPU its states stay in the cache; on a GPU few and large
# calls count.
CHUNK_SIZES = {"cpu": 32}
CHUNK_SIZE_ELSEWHERE = 128


class Options(NamedTuple):
    """What the read-out is made of besides tensors that have gradients.

    Attributes:
        weights: How often each oscillator counts, of shape `(oscillators,)`.
        scale: The divisor is `scale * normaliser + epsilon`.
        epsilon: See `scale`.
    """

    weights: Any
    scale: float
    epsilon: float


class Inputs(NamedTuple):
    """A chunk of a sequence; n is time * batch * heads, in this order.

    Attributes:
        query, key, value, beta, gamma: Shape `(n, 1, head_dim)`.
        p_query, p_key, p_gamma: Shape `(n, 1, eta)`.
        phases: Shape `(n, 1, oscillators + 1)`, the normaliser's last.
        keep: Shape `(n, 1, 1)`, zero where a start empties what is carried, else one.
    """

    query: Any
    key: Any
    value: Any
    beta: Any
    gamma: Any
    p_query: Any
    p_key: Any
    p_gamma: Any
    phases: Any
    keep: Any


class Chunk(NamedTuple):
    """What is computed from a chunk.

    Attributes:
        states: Shape `(n, rows, head_dim)`. Each oscillator and the normaliser have
            eta rows of keys, then each oscillator has one row of values.
        decay: The same shape.
        kept: None, or a boolean tensor of shape `(time, batch * heads, 1, 1)`.
        written: Shape `(n, 1, rows of keys)`: what `gamma * key` is multiplied by.
        closing: The same shape: what gamma is multiplied by to close the keys.
        asked: Shape `(n, oscillators + 1, eta)`: the keys times the query.
        weights: Shape `(n, 1, oscillators)`: what the values are multiplied by.
        divisor: Shape `(n, 1, 1)`.
        outputs: Shape `(n, 1, head_dim)`.
    """

    states: Any
    decay: Any
    kept: Any
    written: Any
    closing: Any
    asked: Any
    weights: Any
    divisor: Any
    outputs: Any


def _run(x: Inputs, carry: Any, options: Options, guarded: bool) -> Chunk:
    """Forward through a chunk; carry has the shape `(batch * heads, rows, head_dim)`.

    Args:
        guarded: NaN or infinity may be carried up to a start.
    """
    number, eta = len(x.query), x.p_query.shape[-1]
    oscillators = len(options.weights)
    keys = (oscillators + 1) * eta
    written = (x.phases.mT * (x.p_gamma * x.p_key)).reshape(number, 1, keys)
    closing = (-x.keep * x.p_gamma).repeat(1, 1, oscillators + 1)
    states = torch.empty_like(carry[:1].expand(number, -1, -1))
    torch.mul(written.mT, x.gamma * x.key, out=states[:, :keys])
    torch.mul(x.phases[..., :-1].mT, x.beta * x.value, out=states[:, keys:])
    decay = torch.empty_like(states)
    torch.mul(closing.mT, x.gamma, out=decay[:, :keys])
    torch.mul(-x.keep.expand(-1, oscillators, 1), x.beta, out=decay[:, keys:])
    decay.add_(x.keep)
    kept = None
    if guarded:
        kept = x.keep > 0
        decay.masked_fill_(~kept, 0.0)
        kept = kept.unflatten(0, (-1, len(carry)))
    in_time = (-1, len(carry))
    fill_states(decay.unflatten(0, in_time), states.unflatten(0, in_time), carry, kept)
    asked = torch.bmm(x.query, states[:, :keys].mT)
    asked = asked.reshape(number, oscillators + 1, eta)
    read = (asked * x.p_query).sum(-1)[:, None]
    weights = read[..., :-1] * options.weights
    divisor = options.scale * read[..., -1:] + options.epsilon
    outputs = torch.bmm(weights, states[:, keys:]) / divisor
    return Chunk(
        states, decay, kept, written, closing, asked, weights, divisor, outputs
    )


def _differentiate(
    x: Inputs, carry: Any, chunk: Chunk, options: Options, d_outputs: Any, d_carry: Any
) -> tuple[list[Any], Any]:
    """The gradients of the first eight inputs of a chunk, and of its carry."""
    number, eta = len(x.query), x.p_query.shape[-1]
    keys = chunk.written.shape[-1]
    by_row = (number, -1, eta)
    d_read = d_outputs / chunk.divisor
    d_divisor = -(d_read * chunk.outputs).sum(-1, keepdim=True)
    d_asked = torch.bmm(d_read, chunk.states[:, keys:].mT) * options.weights
    d_asked = torch.cat([d_asked, options.scale * d_divisor], -1).mT
    d_p_query = (d_asked * chunk.asked).sum(1, keepdim=True)
    d_asked = (d_asked * x.p_query).reshape(number, 1, keys)
    d_query = torch.bmm(d_asked, chunk.states[:, :keys])

    d_states = torch.empty_like(chunk.states)
    d_keys, d_values = d_states[:, :keys], d_states[:, keys:]
    torch.mul(d_asked.mT, x.query, out=d_keys)
    torch.mul(chunk.weights.mT, d_read, out=d_values)
    decay, states, in_time = (
        rows.unflatten(0, (-1, len(carry)))
        for rows in (chunk.decay, chunk.states, d_states)
    )
    in_time[-1].add_(d_carry)
    d_carry = fill_gradients(decay, in_time, chunk.kept)

    d_new_key = torch.bmm(chunk.written, d_keys)
    d_written = torch.bmm(x.gamma * x.key, d_keys.mT).reshape(by_row)
    d_written = (d_written * x.phases.mT).sum(1, keepdim=True)
    d_new_value = torch.bmm(x.phases[..., :-1], d_values)

    multiply_by_states_before(in_time, states, carry, chunk.kept)
    d_closing = torch.bmm(x.gamma, d_keys.mT).reshape(by_row).sum(1, keepdim=True)
    d_gamma = torch.bmm(chunk.closing, d_keys)
    d_beta = -x.keep * d_values.sum(1, keepdim=True)
    gradients = [
        d_query,
        d_new_key * x.gamma,
        d_new_value * x.beta,
        d_new_value * x.value + d_beta,
        d_new_key * x.key + d_gamma,
        d_p_query,
        d_written * x.p_gamma,
        d_written * x.p_key - x.keep * d_closing,
    ]
    return gradients, d_carry


def _chunks(tensors: Sequence[Any]) -> Iterator[list[Any]]:
    """Splits tensors of shape `(batch, time, heads, m)` into chunks `(n, 1, m)`."""
    size = CHUNK_SIZES.get(tensors[0].device.type, CHUNK_SIZE_ELSEWHERE)
    for parts in zip(*(x.split(size, 1) for x in tensors), strict=True):
        yield [x.transpose(0, 1).reshape(-1, 1, x.shape[-1]) for x in parts]


def _whole(chunks: Sequence[Any], like: Any) -> Any:
    """The inverse of `_chunks`, for one tensor."""
    batch, time, heads, _ = like.shape
    whole = torch.cat(list(chunks)).reshape(time, batch, heads, -1)
    return whole.transpose(0, 1)


class _Attention(torch.autograd.Function):
    """See `oscillating_attention`; carry has the shape `(batch * heads, rows, d)`."""

    @staticmethod
    def forward(ctx: Any, options: Options, starts: bool, carry: Any, *x: Any) -> Any:
        for guarded in (False, True):
            carries, outputs = [carry], []
            for inputs in _chunks(x):
                chunk = _run(Inputs(*inputs), carries[-1], options, guarded)
                carries.append(chunk.states[-len(carry) :].clone())
                outputs.append(chunk.outputs)
            y, last = _whole(outputs, x[0]), carries.pop()
            if not starts or all_finite(y, last):
                break
        ctx.options, ctx.starts, ctx.guarded = options, starts, guarded
        ctx.save_for_backward(torch.stack(carries), *x)
        return y, last

    @staticmethod
    @torch.autograd.function.once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, d_y: Any, d_carry: Any) -> Any:
        carries, *x = ctx.saved_tensors
        guarded = ctx.guarded or (ctx.starts and not all_finite(d_y, d_carry))
        gradients = []
        for carry, (*inputs, d_outputs) in reversed(
            list(zip(carries, _chunks([*x, d_y]), strict=True))
        ):
            arguments = Inputs(*inputs), carry
            chunk = _run(*arguments, ctx.options, guarded)
            d_inputs, d_carry = _differentiate(
                *arguments, chunk, ctx.options, d_outputs, d_carry
            )
            gradients.append(d_inputs)
        d_x = [_whole(d[::-1], x[0]) for d in zip(*gradients, strict=True)]
        return None, None, d_carry, *d_x, None, None


def oscillating_attention(
    inputs: Sequence[Any],
    keys: Any,
    values: Any,
    start: Any,
    weights: Any,
    scale: float,
    epsilon: float,
) -> tuple[Any, Any, Any]:
    """AGaLiTe's attention over a sequence.

    Args:
        inputs: query, key, value, beta, gamma, the three expansions, each of shape
            `(batch, time, heads, m)`, and the phases, `(batch, time, oscillators + 1)`.
        keys: State of shape `(batch, oscillators + 1, heads, eta, head_dim)`.
        values: State of shape `(batch, oscillators, heads, head_dim)`.
        start: None, or a boolean tensor of shape `(batch, time)`.
        weights: How often each oscillator counts, `(oscillators,)`.
        scale: The divisor is `scale * normaliser + epsilon`.
        epsilon: See `scale`.

    Returns:
        Outputs of shape `(batch, time, heads, head_dim)`, new keys, new values.
    """
    batch, _, heads, eta, _ = keys.shape
    rows = torch.cat([keys.transpose(1, 2).flatten(2, 3), values.transpose(1, 2)], 2)
    rows = rows.flatten(0, 1)
    *inputs, phases = inputs
    keep = phases.new_ones(()).expand(phases.shape[:2])
    if start is not None:
        keep = keep.masked_fill(start, 0.0)
        # What was carried before is not even read.
        first = start[:, :1].expand(-1, heads).reshape(-1, 1, 1)
        rows = torch.where(first, 0.0, rows)
    phases = phases[:, :, None].expand(-1, -1, heads, -1)
    keep = keep[:, :, None, None].expand(-1, -1, heads, 1)
    options = Options(weights, scale, epsilon)
    y, rows = _Attention.apply(options, start is not None, rows, *inputs, phases, keep)
    rows = rows.unflatten(0, (batch, heads))
    split = keys.shape[1] * eta
    keys = rows[:, :, :split].unflatten(2, (-1, eta)).transpose(1, 2)
    return y, keys, rows[:, :, split:].transpose(1, 2)
