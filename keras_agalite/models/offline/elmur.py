"""ELMUR: a transformer whose layers each have slots that segments overwrite in turn."""

from typing import Any

import gymnasium
import keras
import numpy as np
from keras import ops

from keras_agalite.layers.checks import check_bools, check_heads, check_sizes
from keras_agalite.layers.initializers import GlorotUniform, Normal
from keras_agalite.models.encoders import Encoder
from keras_agalite.models.offline.parts import (
    FeedForward,
    Noise,
    Part,
    RelativeAttention,
    by_head,
    count_norm,
    joined,
    linear,
    norm,
)
from keras_agalite.models.offline.segments import SegmentPolicy
from keras_agalite.models.offline.transformer import causal
from keras_agalite.ops.relative_attention import distance_encoding
from keras_agalite.ops.segment_attention import segment_attention

_EPSILON = 1e-8


class CrossAttention(Part):
    """Attention from queries to items, with a bias for each head and pair.

    Args:
        hidden_dim: Width of queries, items and outputs.
        num_heads: Number of heads, which divides the width.

    Call arguments:
        queries: Tensor of shape `(batch, queries, hidden_dim)`.
        items: Tensor of shape `(batch, items, hidden_dim)`.
        bias: Tensor of shape `(batch, heads, queries, items)`, added to the scores
            behind their division by the root of the head's width.
        noise: The call's `Noise`.
    """

    def __init__(self, hidden_dim: int, num_heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        self.hidden_dim, self.num_heads = hidden_dim, num_heads
        self.query, self.key, self.value = (
            linear(hidden_dim, dtype, name, use_bias=False)
            for name in ("query", "key", "value")
        )
        self.output_layer = linear(hidden_dim, dtype, "output")

    @staticmethod
    def count_weights(hidden_dim: int) -> int:
        return 4 * hidden_dim**2 + hidden_dim

    def build(self, shape: Any = None) -> None:
        for layer in (self.query, self.key, self.value, self.output_layer):
            layer.build((None, self.hidden_dim))

    def call(self, queries: Any, items: Any, bias: Any, noise: Noise) -> Any:
        query = by_head(self.query(queries), self.num_heads)
        key, value = (
            by_head(layer(items), self.num_heads) for layer in (self.key, self.value)
        )
        visible = np.ones((1, queries.shape[1], items.shape[1]), bool)
        scale = (self.hidden_dim // self.num_heads) ** 0.5  # the op divides by it
        attended = segment_attention(
            query, key, value, bias * scale, visible, noise.of_attention
        )
        return noise(self.output_layer(joined(attended)))


class ELMURLayer(Part):
    """One layer: tokens read its slots, and slots read the tokens.

    With AN(x, f) = LN(x + f(x)), or x + f(LN x) with `normalize_first`:

        x = AN(x, self attention)
        x = AN(x, attention to the slots + E[t_i - p_j])
        y = AN(x, feed-forward)
        u = AN(slots, attention to y + E[p_j - t_i])
        u = AN(u, feed-forward)

    Args:
        hidden_dim: Width of a token and of a slot.
        num_heads: Number of heads.
        intermediate_dim: Width of the feed-forwards.
        max_distance: Distances from this one on are one.
        normalize_first: Whether the normalisation is in front.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        intermediate_dim: int,
        max_distance: int,
        normalize_first: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        self.hidden_dim, self.num_heads = hidden_dim, num_heads
        self.max_distance, self.normalize_first = max_distance, normalize_first
        self.attention = RelativeAttention(
            hidden_dim,
            num_heads,
            hidden_dim // num_heads,
            dtype=dtype,
            name="attention",
        )
        self.read, self.write = (
            CrossAttention(hidden_dim, num_heads, dtype=dtype, name=name)
            for name in ("read", "write")
        )
        self.token_feedforward, self.slot_feedforward = (
            FeedForward(hidden_dim, intermediate_dim, "gelu", dtype=dtype, name=name)
            for name in ("token_feedforward", "slot_feedforward")
        )
        self.attention_norm, self.read_norm, self.token_norm = (
            norm(dtype, name, _EPSILON)
            for name in ("attention_norm", "read_norm", "token_norm")
        )
        self.write_norm, self.slot_norm = (
            norm(dtype, name, _EPSILON) for name in ("write_norm", "slot_norm")
        )

    @staticmethod
    def count_weights(
        hidden_dim: int, num_heads: int, intermediate_dim: int, max_distance: int
    ) -> int:
        head_dim = hidden_dim // num_heads
        return (
            RelativeAttention.count_weights(hidden_dim, num_heads, head_dim)
            + 2 * CrossAttention.count_weights(hidden_dim)
            + 2 * FeedForward.count_weights(hidden_dim, intermediate_dim)
            + 5 * count_norm(hidden_dim)
            + (2 * max_distance - 1) * num_heads
        )

    def build(self, shape: Any = None) -> None:
        parts = (self.attention, self.read, self.write)
        for part in (*parts, self.token_feedforward, self.slot_feedforward):
            part.build()
            part.built = True
        norms = (self.attention_norm, self.read_norm, self.token_norm)
        for part in (*norms, self.write_norm, self.slot_norm):
            part.build((None, None, self.hidden_dim))
        self.distance_bias = self.add_weight(
            name="distance_bias",
            shape=(2 * self.max_distance - 1, self.num_heads),
            initializer=Normal(0.02),
        )

    def add(self, layer_norm: Any, part: Any, x: Any, *inputs: Any, **more: Any) -> Any:
        """AN(x, f), f being a part of the layer and what it takes besides."""
        if self.normalize_first:
            return x + part(layer_norm(x), *inputs, **more)
        return layer_norm(x + part(x, *inputs, **more))

    def bias(self, distance: Any) -> Any:
        """E of distances `(batch, queries, items)`, as `(batch, heads, ...)`."""
        limit = self.max_distance - 1
        index = ops.cast(ops.clip(distance, -limit, limit), "int32") + limit
        rows = ops.take(ops.convert_to_tensor(self.distance_bias), index, axis=0)
        return ops.transpose(ops.cast(rows, self.compute_dtype), (0, 3, 1, 2))

    def call(
        self, tokens: Any, slots: Any, distance: Any, noise: Noise, **context: Any
    ) -> Any:
        """The tokens behind this layer.

        Args:
            tokens: Tensor of shape `(batch, tokens, hidden_dim)`.
            slots: Tensor of shape `(batch, slots, hidden_dim)`.
            distance: Time of each token less that of each slot, float tensor `(batch,
                tokens, slots)`.
            noise: The call's `Noise`.
            **context: Arguments of `RelativeAttention`.
        """
        x = self.add(
            self.attention_norm, self.attention, tokens, None, noise=noise, **context
        )
        bias = self.bias(distance)
        x = self.add(self.read_norm, self.read, x, slots, bias, noise=noise)
        return self.add(self.token_norm, self.token_feedforward, x, noise=noise)

    def update(self, slots: Any, tokens: Any, distance: Any, noise: Noise) -> Any:
        """What the slots would become, from the tokens behind this layer."""
        bias = self.bias(-ops.swapaxes(distance, 1, 2))
        u = self.add(self.write_norm, self.write, slots, tokens, bias, noise=noise)
        return self.add(self.slot_norm, self.slot_feedforward, u, noise=noise)


@keras.saving.register_keras_serializable(package="keras_agalite")
class ELMUR(SegmentPolicy):
    """ELMUR: External Layer Memory with Update/Rewrite.

    Cherepanov et al., arXiv 2510.07151. Each layer has `num_slots` vectors with the
    time of their last change. The tokens of a segment read them all. When the segment
    is over, the slot that was changed longest ago takes what was written: an empty
    slot all of it, another one `blend` times that and (1 - `blend`) times what it held.

    Slots begin as learnt vectors, drawn from N(0, `slot_stddev`^2). Gradients flow
    through the slots from segment to segment; `detach_memory=True` stops them, as the
    authors do.

    Args:
        encoder: An `Encoder` of the environment's own observations.
        action_space: Discrete, MultiDiscrete, MultiBinary or a Box of floats.
        segment_length: Steps of a segment.
        num_layers: Number of layers.
        hidden_dim: Width of a token and of a slot.
        num_heads: Number of attention heads, which divides the width.
        intermediate_dim: Width of the feed-forwards.
        num_slots: Slots of a layer.
        blend: How much of a slot that is not empty is replaced, lambda in the paper.
        slot_stddev: Standard deviation of the slots at first.
        max_distance: Distances between tokens and slots from this one on are one.
        normalize_first: Whether the normalisation is in front of each part.
        target_return: The return to reach, unless a call says another; None leaves
            returns out (behaviour cloning).
        return_scale: What returns are divided by.
        action_tokens: Whether actions are tokens.
        action_activation: Activation of their embedding.
        dropout: Rate of the dropout of tokens.
        attention_dropout: Rate of the dropout of attention weights.
        detach_memory: Whether gradients stop between segments.
        **kwargs: `dtype` and `name`.

    Call arguments and returns: as in `SegmentPolicy`.

    Raises:
        ValueError: If an argument is of the wrong kind or out of its range, or a space
            is not supported.

    Example:

    >>> policy = ELMUR(
    ...     MLPEncoder(env.observation_space), env.action_space, action_tokens=False
    ... )
    """

    short_name = "elmur"

    def __init__(
        self,
        encoder: Encoder,
        action_space: gymnasium.Space[Any],
        *,
        segment_length: int = 10,
        num_layers: int = 2,
        hidden_dim: int = 128,
        num_heads: int = 2,
        intermediate_dim: int = 128,
        num_slots: int = 2,
        blend: float = 0.8,
        slot_stddev: float = 0.1,
        max_distance: int = 256,
        normalize_first: bool = False,
        target_return: float | None = None,
        return_scale: float = 1.0,
        action_tokens: bool = True,
        action_activation: str = "tanh",
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        detach_memory: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            encoder,
            action_space,
            hidden_dim=hidden_dim,
            segment_length=segment_length,
            target_return=target_return,
            return_scale=return_scale,
            action_tokens=action_tokens,
            action_activation=action_activation,
            dropout=dropout,
            attention_dropout=attention_dropout,
            detach_memory=detach_memory,
            **kwargs,
        )
        sizes = {"num_layers": num_layers, "num_heads": num_heads}
        sizes |= {"intermediate_dim": intermediate_dim, "num_slots": num_slots}
        check_sizes({**sizes, "max_distance": max_distance})
        check_bools({"normalize_first": normalize_first})
        check_heads({"hidden_dim": hidden_dim, "num_heads": num_heads})
        if not 0.0 <= blend <= 1.0 or not slot_stddev >= 0.0:
            raise ValueError(
                "`blend` must be from 0 to 1 and `slot_stddev` at least 0. Received: "
                f"blend={blend!r}, slot_stddev={slot_stddev!r}"
            )
        self.num_layers, self.num_heads, self.intermediate_dim, self.num_slots = (
            sizes.values()
        )
        self.blend, self.slot_stddev = blend, slot_stddev
        self.max_distance, self.normalize_first = max_distance, normalize_first
        self.blocks = [
            ELMURLayer(
                hidden_dim,
                num_heads,
                intermediate_dim,
                max_distance,
                normalize_first,
                dtype=self.dtype_policy,
                name=f"layer_{i}",
            )
            for i in range(num_layers)
        ]
        self.build_tokens()
        for block in self.blocks:
            block.build()
            block.built = True
        shape = (num_heads, hidden_dim // num_heads)
        self.content_bias, self.position_bias = (
            self.add_weight(name=name, shape=shape, initializer=GlorotUniform())
            for name in ("content_bias", "position_bias")
        )
        self.initial_slots = self.add_weight(
            name="initial_slots",
            shape=(num_layers, num_slots, hidden_dim),
            initializer=Normal(slot_stddev),
        )

    @classmethod
    def count_weights(
        cls,
        features: int,
        action_space: gymnasium.Space[Any],
        *,
        num_layers: int,
        num_slots: int,
        hidden_dim: int,
        num_heads: int,
        intermediate_dim: int,
        max_distance: int,
        **config: Any,
    ) -> int:
        layer = ELMURLayer.count_weights(
            hidden_dim, num_heads, intermediate_dim, max_distance
        )
        return (
            cls.count_tokens(features, action_space, hidden_dim=hidden_dim, **config)
            + num_layers * (layer + num_slots * hidden_dim)
            + 2 * hidden_dim
        )

    @property
    def memory_sizes(self) -> list[int]:
        return [self.num_layers * self.num_slots * self.hidden_dim]

    def run_segment(
        self, tokens: Any, memory: list[Any], segments: Any, noise: Noise, write: bool
    ) -> tuple[Any, list[Any]]:
        count = int(tokens.shape[1])
        changed = self.changed(segments)
        held = self.held_slots(memory[0], changed)
        distance = self.times(count, segments)[:, :, None] - changed[:, None, :]
        context = {
            "encoding": ops.cast(noise(self.encoding(count)), self.compute_dtype),
            "biases": (self.content_bias, self.position_bias),
            "visible": causal(count),
        }
        x, new = noise(tokens), []
        for i, block in enumerate(self.blocks):
            slots = ops.cast(held[:, i], self.compute_dtype)
            x = block(x, slots, distance, noise=noise, **context)
            if write:
                update = ops.cast(block.update(slots, x, distance, noise), "float32")
                new.append(self.replaced(held[:, i], update, changed, segments))
        if not write:
            return x, memory
        return x, [ops.reshape(ops.stack(new, axis=1), ops.shape(memory[0]))]

    def encoding(self, count: int) -> Any:
        """The distances between tokens, as `RelativeAttention` takes them."""
        return distance_encoding(count - 1, self.hidden_dim, 1 - count)

    def changed(self, segments: Any) -> Any:
        """When each slot was changed, `(batch, slots)`: -1 of an empty one.

        Slots are changed in turn, so the number of segments says it. The time of the
        last token of a segment counts.
        """
        slot = ops.arange(self.num_slots, dtype="float32")[None, :]
        last = segments[:, None] - 1.0
        # The last segment whose number is the slot's, modulo the number of slots.
        turn = last - ops.mod(last - slot, float(self.num_slots))
        length = float(self.segment_length * self.tokens_per_step)
        return ops.where(turn < 0, -1.0, (turn + 1.0) * length - 1.0)

    def held_slots(self, memory: Any, changed: Any) -> Any:
        """The slots `(batch, layers, slots, hidden_dim)`, as they begin where empty."""
        shape = (-1, self.num_layers, self.num_slots, self.hidden_dim)
        first = ops.cast(self.initial_slots, "float32")[None]
        is_empty = (changed < 0)[:, None, :, None]
        return ops.where(is_empty, first, ops.reshape(memory, shape))

    def times(self, count: int, segments: Any) -> Any:
        """The time of each token, `(batch, tokens)`."""
        length = float(self.segment_length * self.tokens_per_step)
        return segments[:, None] * length + ops.arange(count, dtype="float32")[None, :]

    def replaced(self, held: Any, update: Any, changed: Any, segments: Any) -> Any:
        """The slots of a layer, of which the one of smallest time takes its update."""
        slot = ops.arange(self.num_slots, dtype="float32")[None, :]
        is_next = slot == ops.mod(segments[:, None], float(self.num_slots))
        blended = self.blended(held, update, (changed < 0)[:, :, None])
        return ops.where(is_next[:, :, None], blended, held)

    def blended(self, held: Any, update: Any, is_empty: Any) -> Any:
        """An update in place of an empty slot, or blended with what a slot holds."""
        blended = self.blend * update + (1.0 - self.blend) * held
        return ops.where(is_empty, update, blended)
