"""The gated recurrent cache of Cached Transformers, one token at a time.

Zhang et al., "Cached Transformers: Improving Transformers with Differentiable Memory
Cache", AAAI 2024, arXiv 2312.12742.
"""

from typing import Any

from keras import ops

from keras_agalite.ops.checks import check_inputs
from keras_agalite.ops.episodes import memory_scan
from keras_agalite.ops.slot_attention import attend_to_slots


def update_cache(
    cache: Any, gates: Any, candidate: Any, gate_kernel: Any, kernel: Any, norm: Any
) -> Any:
    """A GRU of each slot, whose candidate is layer-normalised.

        r, u = sigmoid(W_r [C, S]), sigmoid(W_u [C, S])
        C' = u LN(gelu(W_c [r C, S])) + (1 - u) C

    Args:
        cache: C of shape `(..., width)`.
        gates: What r and u get from S, of shape `(..., 2 * width)`.
        candidate: What the candidate gets from S, of the shape of `cache`.
        gate_kernel: What r and u get from C, of shape `(width, 2 * width)`.
        kernel: What the candidate gets from r C, of shape `(width, width)`.
        norm: Scale and offset of LN, of shape `(2, width)`.

    Returns:
        Tensor of the shape of `cache`.
    """
    gates = ops.sigmoid(ops.matmul(cache, gate_kernel) + gates)
    r, u = ops.split(gates, 2, axis=-1)
    new = ops.gelu(ops.matmul(r * cache, kernel) + candidate, approximate=False)
    new = new - ops.mean(new, axis=-1, keepdims=True)
    variance = ops.mean(new * new, axis=-1, keepdims=True)
    new = new * ops.rsqrt(variance + 1e-5) * norm[0] + norm[1]
    return u * new + (1.0 - u) * cache


def share_heads(share: Any, own: Any, cached: Any) -> Any:
    """Mixes the cache into the first channels of each head.

    Args:
        share: Tensor of shape `(heads,)`, in (0, 1): how much of the cache.
        own: Tensor of shape `(..., dim)`: what the tokens say.
        cached: Tensor of shape `(..., width)`, width < dim: what the cache says.

    Returns:
        Tensor of the shape of `own`: by head, `share * cached + (1 - share) * own`
        in the channels that `cached` has, in the others `(1 - share) * own`.
    """
    heads = share.shape[0]
    rest = ops.shape(own)[:-1]
    width, dim = cached.shape[-1] // heads, own.shape[-1] // heads
    own = ops.reshape(own, (*rest, heads, dim)) * (1.0 - share)[:, None]
    cached = ops.reshape(cached, (*rest, heads, width)) * share[:, None]
    mixed = ops.concatenate([own[..., :width] + cached, own[..., width:]], axis=-1)
    return ops.reshape(mixed, (*rest, heads * dim))


def cached_memory(
    query: Any,
    gates: Any,
    candidate: Any,
    gate_kernel: Any,
    kernel: Any,
    norm: Any,
    cache: Any,
    *,
    start: Any = None,
    mask: Any = None,
) -> tuple[Any, Any]:
    """Runs a rolling cache over a sequence: each token updates the oldest slot.

    A token updates one slot as in `update_cache`, which then is the newest, and reads
    all of them as in `attend_to_slots`. Of N slots, each is a GRU that ticks at every
    N-th token. The loop keeps no state per time step.

    Args:
        query: Tensor of shape `(batch, time, heads, width)`, from `slot_queries`.
        gates: Tensor of shape `(batch, time, 2 * width)`.
        candidate: Tensor of shape `(batch, time, width)`.
        gate_kernel: Tensor of shape `(width, 2 * width)`.
        kernel: Tensor of shape `(width, width)`.
        norm: Tensor of shape `(2, width)`.
        cache: Tensor of shape `(batch, slots, width)`, the oldest slot first; zeros are
            the empty memory.
        start: Optional boolean tensor `(batch, time)`: empties the memory before
            the token is read.
        mask: Optional boolean tensor `(batch, time)`: where False, the token is
            skipped, its start included.

    Returns:
        A tuple `(read, cache)`: `read` of the shape of `query`, the cache in the shape
        and dtype it came in. Both are computed in float32 at least.

    Raises:
        ValueError: If batch sizes differ, or the shape of `start` or `mask` is
            another.
    """
    check_inputs(cache, start, mask, query=query, gates=gates, candidate=candidate)

    def step(carry: Any, inputs: Any, weights: Any) -> tuple[list[Any], Any]:
        (cache,), (query, *update) = carry, inputs
        new = update_cache(cache[:, 0], *update, *weights)
        cache = ops.concatenate([cache[:, 1:], new[:, None]], axis=1)
        return [cache], attend_to_slots(query, cache)

    read, (cache,) = memory_scan(
        step,
        [cache],
        [query, gates, candidate],
        start,
        mask,
        [gate_kernel, kernel, norm],
    )
    return read, cache
