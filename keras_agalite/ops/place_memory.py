"""A memory of places: what it keeps when it is full, and how it is read.

Cho et al., "Spatially-Aware Transformer for Embodied Agents", ICLR 2024, arXiv
2402.15160.
"""

from typing import Any, Literal, get_args

from keras import ops

from keras_agalite.ops.checks import check_inputs
from keras_agalite.ops.episodes import memory_scan
from keras_agalite.ops.precision import number_like
from keras_agalite.ops.relative_attention import HIDDEN

# What goes when the memory is full: the oldest item; the new one; the oldest one of the
# place with the fewest items; the oldest one of the place with the most.
Strategy = Literal["fifo", "lifo", "lvfo", "mvfo"]
STRATEGIES = get_args(Strategy)
_LARGE = 1e30  # larger than any place


def allocate(
    place: Any,
    state: Any,
    strategy: str,
    *,
    start: Any = None,
    mask: Any = None,
) -> tuple[Any, Any, Any]:
    """Says which items a memory of fixed capacity holds after each step.

    Each step brings one item. Items are in the order of their times. Of places with
    equally many items, the lowest counts.

    Args:
        place: Tensor of shape `(batch, time)`: the place of each new item.
        state: List of tensors, zeros if empty: places and times of the items held, both
            of shape `(batch, capacity)`, their number and the steps since the start,
            both of shape `(batch, 1)`.
        strategy: One of `STRATEGIES`.
        start: Optional boolean tensor `(batch, time)`: empties the memory before the
            item comes.
        mask: Optional boolean tensor `(batch, time)`: where False, no item comes, and
            there is no start.

    Returns:
        A tuple `(held, source, state)`. `held` is a list of tensors for the steps: the
        sources, places and times of the items, all of shape `(batch, time, capacity)`,
        their number and the time of the step, `(batch, time, 1)`. A source counts the
        items of `state`, then those of the steps: `capacity + t` is the item of step t.
        `source`, of shape `(batch, capacity)`, holds those after the last step.

    Raises:
        ValueError: If batch sizes differ, or the shape of `start` or `mask` is another.
    """
    check_inputs(state, start, mask, place=place)
    capacity = state[0].shape[1]
    state = [*state[:2], ops.stop_gradient(state[2]), state[3]]
    steps = ops.cumsum(ops.ones_like(place), axis=1) + (capacity - 1.0)
    slots = ops.arange(capacity, dtype=state[0].dtype)[None, :]

    def oldest(places: Any) -> Any:
        """The item that goes from a full memory, of shape `(batch, 1)`."""
        if strategy == "fifo":
            return ops.zeros_like(places[:, :1])
        same = places[:, :, None] == places[:, None, :]
        number = ops.sum(ops.cast(same, places.dtype), axis=2)
        number = number if strategy == "lvfo" else -number
        chosen = number == ops.amin(number, axis=1, keepdims=True)
        lowest = ops.amin(ops.where(chosen, places, _LARGE), axis=1, keepdims=True)
        chosen = ops.logical_and(chosen, places == lowest)
        none = number_like(slots, capacity)
        return ops.amin(ops.where(chosen, slots, none), axis=1, keepdims=True)

    def step(carry: Any, inputs: Any) -> tuple[list[Any], Any]:
        (source, places, times, count, clock), (place, number) = carry, inputs
        full = count >= capacity
        if strategy == "lifo":
            gone, new = number_like(count, capacity), count
        else:
            gone = ops.where(full, oldest(places), number_like(count, capacity))
            new = ops.minimum(count, number_like(count, capacity - 1))

        def add(items: Any, item: Any) -> Any:
            later = ops.concatenate([items[:, 1:], items[:, :1]], axis=1)
            items = ops.where(slots >= gone, later, items)
            return ops.where(slots == new, item, items)

        carry = [
            add(source, number[:, None]),
            add(places, place[:, None]),
            add(times, clock),
            ops.minimum(count + 1.0, number_like(count, capacity)),
            clock + 1.0,
        ]
        return carry, ops.concatenate([*carry[:4], clock], axis=1)

    source = ops.zeros_like(state[0]) + slots
    held, (source, *state) = memory_scan(
        step, [source, *state], [ops.stop_gradient(place), steps], start, mask
    )
    ends = [capacity, 2 * capacity, 3 * capacity, 3 * capacity + 1]
    held = list(ops.split(held, ends, axis=2))
    return held, source, state


def hierarchical_read(
    query: Any,
    summary_query: Any,
    items: Any,
    places: Any,
    valid: Any,
    *,
    chunk_size: int,
    num_chunks: int,
) -> Any:
    """Attends to the items of the best chunks, each of which holds one place.

    The items of a place are cut into chunks of `chunk_size`, in order. With m the sum
    of a chunk's items over their number + 1e-5:

        score = summary_query . m                    of each chunk
        read = sum softmax(score) attention(query, items of the chunk)

    over the `num_chunks` chunks with the highest scores.

    Args:
        query: Tensor of shape `(n, heads, dim)`, from `slot_queries`.
        summary_query: Tensor of shape `(n, dim)`.
        items: Tensor of shape `(n, items, dim)`, zeros where not valid.
        places: Tensor of shape `(n, items)`.
        valid: Boolean tensor of shape `(n, items)`; at least one is.
        chunk_size: Items of a chunk.
        num_chunks: Chunks that are read.

    Returns:
        Tensor of the shape of `query`: means of items, for `slot_values`.
    """
    dtype = query.dtype
    number = places.shape[1]
    order = ops.arange(number, dtype="int32")
    earlier = order[:, None] > order[None, :]
    same = ops.logical_and(
        places[:, :, None] == places[:, None, :],
        ops.logical_and(valid[:, :, None], valid[:, None, :]),
    )
    rank = ops.sum(ops.cast(ops.logical_and(same, earlier), "int32"), axis=2)
    chunk = rank // chunk_size
    together = ops.logical_and(same, chunk[:, :, None] == chunk[:, None, :])
    size = ops.sum(ops.cast(together, dtype), axis=2)
    score = ops.matmul(items, summary_query[:, :, None])[:, :, 0]
    score = ops.matmul(ops.cast(together, dtype), score[:, :, None])[:, :, 0]
    score = score / (size + 1e-5)

    # The first item of a chunk stands for it; the better ones come first.
    first = ops.logical_and(valid, rank % chunk_size == 0)
    ahead = score[:, None, :] > score[:, :, None]
    tied = ops.logical_and(score[:, None, :] == score[:, :, None], earlier)
    ahead = ops.logical_and(ops.logical_or(ahead, tied), first[:, None, :])
    place = ops.sum(ops.cast(ahead, "int32"), axis=2)
    ranks = ops.arange(min(num_chunks, number), dtype="int32")
    chosen = ops.logical_and(place[:, None] == ranks[:, None], first[:, None])
    picked = ops.cast(chosen, dtype)
    members = ops.matmul(picked, ops.cast(together, dtype)) > 0
    exists = ops.any(chosen, axis=2)
    share = ops.matmul(picked, score[:, :, None])[:, :, 0]
    share = ops.softmax(ops.where(exists, share, HIDDEN), axis=-1)

    by_item = ops.matmul(query, ops.transpose(items, (0, 2, 1)))[:, :, None]
    weights = ops.softmax(ops.where(members[:, None], by_item, HIDDEN), axis=-1)
    weights = ops.sum(weights * share[:, None, :, None], axis=2)
    return ops.matmul(weights, items)
