"""SpatialMemory: the block, the cell that takes one step, the layer that takes many."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_agalite.layers.block_cell import Block, BlockCell
from keras_agalite.layers.checks import check_heads
from keras_agalite.layers.counting import count_dense
from keras_agalite.layers.initializers import LecunNormal
from keras_agalite.layers.sequence_memory import SequenceMemory
from keras_agalite.ops.place_memory import (
    STRATEGIES,
    Strategy,
    allocate,
    hierarchical_read,
)
from keras_agalite.ops.precision import at_least_float32
from keras_agalite.ops.sinusoids import sinusoids
from keras_agalite.ops.slot_attention import slot_queries, slot_values

_SQUARES = ("summary_key", "query", "key", "value")


@keras.saving.register_keras_serializable(package="keras_agalite")
class SpatialMemoryBlock(Block):
    """The items of a memory of places, and all layers that read them.

    Call arguments and returns: as in `Block`; the last input is the place. The state
    holds the items, the oldest first, then their places, their times, the steps since
    the start, and the number of items.
    """

    def __init__(
        self,
        num_layers: int,
        hidden_dim: int,
        num_heads: int,
        capacity: int,
        strategy: str,
        chunk_size: int,
        num_chunks: int,
        intermediate_dim: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.capacity = capacity
        self.strategy = strategy
        self.chunk_size = chunk_size
        self.num_chunks = num_chunks
        self.intermediate_dim = intermediate_dim
        self.state_size = capacity * (hidden_dim + 2) + 2
        self.embedding = self.dense(hidden_dim, "embedding")

        def each(make: Any) -> list[Any]:
            return [make(i) for i in range(num_layers)]

        def dense(name: str, activation: Any = None, **kwargs: Any) -> Any:
            kwargs = {"units": hidden_dim, "activation": activation, **kwargs}
            return each(lambda i: self.dense(name=f"{name}_{i}", **kwargs))

        def norm(name: str) -> Any:
            return each(lambda i: self.norm(f"{name}_{i}"))

        self.own_norm = norm("own_norm")
        self.own_value = dense("own_value", use_bias=False)
        self.own_output = dense("own_output")
        self.read_norm = norm("read_norm")
        self.summary_query = dense("summary_query")
        self.read_output = dense("read_output")
        self.feedforward_norm = norm("feedforward_norm")
        self.feedforward_intermediate = dense(
            "feedforward_intermediate", "relu", units=intermediate_dim
        )
        self.feedforward_output = dense("feedforward_output")

    def build(
        self, inputs_shape: Any, state_shape: Any = None, start_shape: Any = None
    ) -> None:
        hidden = (None, None, self.hidden_dim)
        if inputs_shape[-1] < 2:
            raise ValueError(
                "SpatialMemory expects inputs of at least two numbers, of which the "
                f"last is a place. Received: features={inputs_shape[-1]}"
            )
        self.embedding.build((*inputs_shape[:-1], inputs_shape[-1] - 1))
        self.squares = [
            [
                self.add_weight(
                    name=f"{name}_{i}",
                    shape=(self.hidden_dim, self.hidden_dim),
                    initializer=LecunNormal(),
                )
                for name in _SQUARES
            ]
            for i in range(len(self.own_norm))
        ]
        for layers in (
            self.own_norm,
            self.own_value,
            self.own_output,
            self.read_norm,
            self.summary_query,
            self.read_output,
            self.feedforward_norm,
            self.feedforward_intermediate,
        ):
            for layer in layers:
                layer.build(hidden)
        for layer in self.feedforward_output:
            layer.build((None, None, self.intermediate_dim))

    @classmethod
    def count_weights(cls, features: int, **config: Any) -> int:
        dim, wide = config["hidden_dim"], config["intermediate_dim"]
        layer = 3 * cls.count_norm(dim) + 3 * count_dense(dim, dim)
        layer += (1 + len(_SQUARES)) * count_dense(dim, dim, use_bias=False)
        layer += count_dense(dim, wide) + count_dense(wide, dim)
        return count_dense(features - 1, dim) + config["num_layers"] * layer

    def call(self, inputs: Any, state: Any, start: Any = None, mask: Any = None) -> Any:
        dtype = at_least_float32(self.compute_dtype)
        batch, length = ops.shape(inputs)[:2]
        dim, capacity = self.hidden_dim, self.capacity
        new = ops.cast(self.embedding(inputs[..., :-1]), state.dtype)
        ends = np.cumsum([capacity * dim, capacity, capacity, 1]).tolist()
        features, places, times, clock, count = ops.split(state, ends, axis=1)
        place = ops.stop_gradient(ops.round(ops.cast(inputs[..., -1], dtype)))
        held, source, (places, times, count, clock) = allocate(
            place,
            [places, times, count, clock],
            self.strategy,
            start=start,
            mask=mask,
        )
        features = ops.reshape(features, (-1, capacity, dim))
        features = ops.concatenate([features, new], axis=1)

        def take(sources: Any) -> Any:
            sources = ops.cast(sources, "int32")[:, :, None]
            return ops.take_along_axis(features, sources, axis=1)

        sources, places_held, times_held, number, time = held
        valid = ops.arange(capacity, dtype=number.dtype) < number
        sources = ops.reshape(sources, (batch, length * capacity))
        items = ops.cast(
            ops.reshape(take(sources), (batch, length, capacity, dim)), dtype
        )
        items = items + sinusoids(places_held, dim) + sinusoids(times_held, dim)
        items = ops.where(valid[..., None], items, 0.0)
        x = ops.cast(new, dtype) + sinusoids(place, dim) + sinusoids(time[..., 0], dim)
        x = self.read(x, items, places_held, valid)

        kept = ops.arange(capacity, dtype=count.dtype)[None, :] < count
        features = ops.where(kept[:, :, None], take(source), 0.0)
        parts = [
            ops.reshape(features, (-1, capacity * dim)),
            places,
            times,
            clock,
            count,
        ]
        parts = [ops.cast(part, state.dtype) for part in parts]
        return x, ops.concatenate(parts, axis=1)

    def read(self, x: Any, items: Any, places: Any, valid: Any) -> Any:
        """All layers: each token reads the items of its step.

        Args:
            x: Tensor of shape `(batch, time, hidden_dim)`.
            items: Tensor of shape `(batch, time, capacity, hidden_dim)`.
            places: Tensor of shape `(batch, time, capacity)`.
            valid: Boolean tensor of that shape.

        Returns:
            Tensor of the shape of `x`.
        """
        dim, shape = self.hidden_dim, ops.shape(x)
        items = ops.reshape(items, (-1, self.capacity, dim))
        places, valid = (ops.reshape(y, (-1, self.capacity)) for y in (places, valid))
        x = ops.cast(x, self.compute_dtype)
        for i, squares in enumerate(self.squares):
            summary_key, query, key, value = (ops.cast(w, items.dtype) for w in squares)
            x = x + self.own_output[i](self.own_value[i](self.own_norm[i](x)))
            n = self.read_norm[i](x)
            summary = ops.cast(self.summary_query[i](n), items.dtype)
            summary = ops.matmul(summary, ops.transpose(summary_key)) / math.sqrt(dim)
            n = ops.cast(n, items.dtype)
            read = hierarchical_read(
                ops.reshape(
                    slot_queries(n, query, key, self.num_heads),
                    (-1, self.num_heads, dim),
                ),
                ops.reshape(summary, (-1, dim)),
                items,
                places,
                valid,
                chunk_size=self.chunk_size,
                num_chunks=self.num_chunks,
            )
            x = x + self.read_output[i](ops.reshape(slot_values(read, value), shape))
            n = self.feedforward_norm[i](x)
            update = self.feedforward_intermediate[i](n)
            x = x + self.feedforward_output[i](update)
        return x


@keras.saving.register_keras_serializable(package="keras_agalite")
class SpatialMemoryCell(BlockCell):
    """One step of SpatialMemory, as a Keras RNN cell.

    It runs in a stock `keras.layers.RNN` and, with episode starts, in `MemoryRNN`;
    `SpatialMemory` holds the same weights and runs whole sequences at once. Inside a
    stock `keras.layers.RNN` the state takes the dtype that the RNN gives it, so use a
    float32 policy there.

    Args: those of `SpatialMemory`, with the same defaults.

    Call arguments, returns and errors: as in `SequenceCell`.
    """

    block_class = SpatialMemoryBlock

    @classmethod
    def check_config(cls, config: dict[str, Any]) -> None:
        super().check_config({k: v for k, v in config.items() if k != "strategy"})
        check_heads(config)
        if config["hidden_dim"] % 2:
            raise ValueError(
                "`hidden_dim` must be even: sines and cosines. "
                f"Received: hidden_dim={config['hidden_dim']}"
            )
        if config["strategy"] not in STRATEGIES:
            raise ValueError(
                f"`strategy` must be one of {', '.join(STRATEGIES)}. "
                f"Received: strategy={config['strategy']!r}"
            )

    @classmethod
    def num_blocks(cls, config: dict[str, Any]) -> int:
        return 1  # all layers read one memory

    @classmethod
    def block_config(cls, index: int, num_layers: int, **sizes: Any) -> dict[str, Any]:
        return {"num_layers": num_layers, **sizes}


@keras.saving.register_keras_serializable(package="keras_agalite")
class SpatialMemory(SequenceMemory):
    """Spatially-Aware Transformer: a memory of places, read place by place.

    `return_sequences` is True unless told otherwise.

    The last number of the input is the number of a place; the others are embedded to
    f_t. Each step stores f_t with its place and its time, the steps since the start.
    With `capacity` items stored, one goes first:

    - `"fifo"`: the oldest;
    - `"lifo"`: the new one, which is not stored;
    - `"lvfo"`: the oldest of the place with the fewest items;
    - `"mvfo"`: the oldest of the place with the most items.

    Then the step reads. With E the sines and cosines of a number, items are
    m_i = f_i + E(time) + E(place), and x = f_t + E(time) + E(place) goes through
    `num_layers` layers:

        x = x + W_o W_v LN(x)
        x = x + P read(LN(x))
        x = x + W_2 relu(W_1 LN(x))

    To read, the items of each place are cut into chunks of `chunk_size`, in the order
    of time. The mean of a chunk is scored, and the `num_chunks` best are attended to,
    each for itself; the softmax of their scores says how much each counts.

    Cho et al., "Spatially-Aware Transformer for Embodied Agents", ICLR 2024, arXiv
    2402.15160: its place memory and hierarchical read. Its Adaptive Memory Allocator
    chooses one of the strategies for a task; that is outside of a layer. In the
    authors' code a query is a set of tokens, whose self-attention is W_o W_v for one
    token; the time of an item is its slot there, which is wrong after an item has
    gone. Items of an earlier call carry gradients here.

    Args:
        num_layers: Number of layers that read the memory.
        hidden_dim: Width of the items and of the output; even, and a multiple of
            `num_heads`.
        num_heads: Number of attention heads.
        capacity: Number of items.
        strategy: `"fifo"`, `"lifo"`, `"lvfo"` or `"mvfo"`.
        chunk_size: Items of a chunk.
        num_chunks: Chunks that a step reads.
        intermediate_dim: Width of the feed-forward.
        **kwargs: Arguments of `MemoryRNN`.

    Call arguments, returns and errors: as in `MemoryRNN`. The state is a list of one
    tensor of shape `(batch, capacity * (hidden_dim + 2) + 2)`. Under a half-precision
    policy places above 256 (float16: 2,048) are rounded.

    Example:

    >>> memory = SpatialMemory(num_layers=2, capacity=16, return_state=True)
    >>> outputs, *state = memory(np.random.normal(size=(8, 32, 16)))
    >>> outputs, *state = memory(next_inputs, initial_state=state, start=start)
    """

    short_name = "spatial"
    cell_class = SpatialMemoryCell

    def __init__(
        self,
        num_layers: int = 4,
        *,
        hidden_dim: int = 128,
        num_heads: int = 4,
        capacity: int = 64,
        strategy: Strategy = "fifo",
        chunk_size: int = 8,
        num_chunks: int = 4,
        intermediate_dim: int = 256,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_layers=num_layers,
            hidden_dim=hidden_dim,
            num_heads=num_heads,
            capacity=capacity,
            strategy=strategy,
            chunk_size=chunk_size,
            num_chunks=num_chunks,
            intermediate_dim=intermediate_dim,
            **kwargs,
        )

    @classmethod
    def zoo_config(
        cls,
        hidden_dim: int,
        *,
        num_layers: int,
        num_heads: int,
        head_dim: int,
        eta: int,
    ) -> dict[str, Any]:
        return {
            "num_layers": num_layers,
            "hidden_dim": hidden_dim,
            "num_heads": num_heads,
            "capacity": 64,
            "strategy": "fifo",
            "chunk_size": 8,
            "num_chunks": 4,
            "intermediate_dim": hidden_dim,
        }
