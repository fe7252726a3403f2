"""DTMem: a transformer whose layers each read and write a memory through gates."""

from typing import Any, Literal

import gymnasium
import keras
import numpy as np
from keras import ops

from keras_agalite.layers.checks import check_heads, check_sizes
from keras_agalite.layers.counting import count_dense
from keras_agalite.layers.initializers import Constant, Normal, Ones
from keras_agalite.models.encoders import Encoder
from keras_agalite.models.offline.parts import (
    FeedForward,
    Noise,
    Part,
    by_head,
    count_norm,
    joined,
    linear,
    norm,
)
from keras_agalite.models.offline.segments import SegmentPolicy
from keras_agalite.models.offline.transformer import causal
from keras_agalite.ops.segment_attention import segment_attention

# Rounds of a write up to which they are not a loop of the backend: 64 of them, as the
# authors have, take minutes to compile.
_UNROLLED = 4


class GatedMemory(Part):
    """The memory of DT-Mem: slots that attend to tokens, and a gate for each of them.

    A write, from tokens x with x' = W_in x + b and the slots M:

        N = M; `rounds` times with the same weights:
            N = LN_1(N + attention(N to x'));  N = LN_2(N + relu(W_mlp N + b))
        G = W_g mean_tokens(relu(w * x')) + W_m tanh(M) + biases, in halves G_i, G_f
        M' = sigmoid(G_i + b_i) * tanh(N) + sigmoid(G_f + b_f) * M

    A read is the attention of x' to the slots, with the same projections. Kang et al.,
    "Think Before You Act: Decision Transformers with Working Memory", arXiv
    2305.16338, as its released code has it; after Santoro et al., "Relational recurrent
    neural networks", NeurIPS 2018.

    Args:
        hidden_dim: Width of tokens and slots.
        num_heads: Number of heads, which divides the width.
        rounds: Rounds of a write.
        gates: `"unit"` for a gate for each number of a slot, `"slot"` for one a slot.
        top_k: Tokens whose weights count when slots attend; 0 for all of them.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        rounds: int,
        gates: str,
        top_k: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        self.hidden_dim, self.num_heads = hidden_dim, num_heads
        self.rounds, self.top_k = rounds, top_k
        self.num_gates = hidden_dim if gates == "unit" else 1
        self.input_projection, self.query, self.key, self.value, self.mix = (
            linear(hidden_dim, dtype, name)
            for name in ("input_projection", "query", "key", "value", "mix")
        )
        self.input_gate, self.memory_gate = (
            linear(2 * self.num_gates, dtype, name)
            for name in ("input_gate", "memory_gate")
        )
        self.attention_norm, self.mix_norm = (
            norm(dtype, name) for name in ("attention_norm", "mix_norm")
        )

    @staticmethod
    def count_weights(hidden_dim: int, gates: str) -> int:
        num_gates = hidden_dim if gates == "unit" else 1
        return (
            5 * count_dense(hidden_dim, hidden_dim)
            + 2 * count_dense(hidden_dim, 2 * num_gates)
            + 2 * count_norm(hidden_dim)
            + hidden_dim
            + 2
        )

    def build(self, shape: Any = None) -> None:
        projections = (self.input_projection, self.query, self.key, self.value)
        for layer in (*projections, self.mix, self.input_gate, self.memory_gate):
            layer.build((None, self.hidden_dim))
        for layer in (self.attention_norm, self.mix_norm):
            layer.build((None, None, self.hidden_dim))
        self.input_scale = self.add_weight(
            name="input_scale", shape=(self.hidden_dim,), initializer=Ones()
        )
        self.input_bias, self.forget_bias = (
            self.add_weight(name=name, shape=(), initializer=Constant(value))
            for name, value in (("input_bias", 0.0), ("forget_bias", 1.0))
        )

    def project(self, tokens: Any) -> Any:
        """x': what a read and a write take."""
        return self.input_projection(tokens)

    def read(self, inputs: Any, slots: Any) -> Any:
        """What tokens find in the slots, `(batch, tokens, hidden_dim)`."""
        return self.attend(inputs, slots)

    def attend(self, queries: Any, items: Any, drop: Any = None) -> Any:
        """Attention of many heads without a projection of its output."""
        query = by_head(self.query(queries), self.num_heads)
        key, value = (
            by_head(layer(items), self.num_heads) for layer in (self.key, self.value)
        )
        visible = np.ones((1, queries.shape[1], items.shape[1]), bool)
        return joined(segment_attention(query, key, value, 0.0, visible, drop))

    def write(self, inputs: Any, slots: Any) -> Any:
        """The slots after a segment, from its projected tokens."""
        new = self.candidate(inputs, slots)
        input_gate, forget_gate = self.gates(inputs, slots)
        return input_gate * ops.tanh(new) + forget_gate * slots

    def candidate(self, inputs: Any, slots: Any) -> Any:
        """N: what the rounds of attention make of the slots."""
        drop = self._keep_largest if 0 < self.top_k < inputs.shape[1] else None

        def one_round(_: Any, slots: Any) -> Any:
            slots = self.attention_norm(slots + self.attend(slots, inputs, drop))
            return self.mix_norm(slots + self.mixed(slots))

        if self.rounds > _UNROLLED:
            return ops.fori_loop(0, self.rounds, one_round, slots)
        for i in range(self.rounds):
            slots = one_round(i, slots)
        return slots

    def mixed(self, slots: Any) -> Any:
        return ops.relu(self.mix(slots))

    def gates(self, inputs: Any, slots: Any) -> tuple[Any, Any]:
        """The input gate and the forget gate, `(batch, slots, num_gates)`."""
        scale, *biases = (
            ops.cast(x, self.compute_dtype)
            for x in (self.input_scale, self.input_bias, self.forget_bias)
        )
        summary = ops.mean(ops.relu(scale * inputs), axis=1, keepdims=True)
        gates = self.input_gate(summary) + self.memory_gate(ops.tanh(slots))
        input_gate, forget_gate = (
            ops.sigmoid(gate + bias)
            for gate, bias in zip(ops.split(gates, 2, axis=-1), biases, strict=True)
        )
        return input_gate, forget_gate

    def _keep_largest(self, weights: Any) -> Any:
        smallest = ops.min(ops.top_k(weights, self.top_k)[0], axis=-1, keepdims=True)
        return ops.where(weights >= smallest, weights, ops.zeros_like(weights))


class CausalAttention(Part):
    """Attention of tokens to themselves and those before, with biases.

    Args:
        hidden_dim: Width of a token.
        num_heads: Number of heads, which divides the width.

    Call arguments:
        tokens: Tensor of shape `(batch, tokens, hidden_dim)`.
        visible: Boolean tensor of shape `(batch or 1, tokens, tokens)`.
        noise: The call's `Noise`.
    """

    def __init__(self, hidden_dim: int, num_heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden_dim, self.num_heads = hidden_dim, num_heads
        self.query, self.key, self.value, self.output_layer = (
            linear(hidden_dim, self.dtype_policy, name)
            for name in ("query", "key", "value", "output")
        )

    @staticmethod
    def count_weights(hidden_dim: int) -> int:
        return 4 * count_dense(hidden_dim, hidden_dim)

    def build(self, shape: Any = None) -> None:
        for layer in (self.query, self.key, self.value, self.output_layer):
            layer.build((None, self.hidden_dim))

    def call(self, tokens: Any, visible: Any, noise: Noise) -> Any:
        query, key, value = (
            by_head(layer(tokens), self.num_heads)
            for layer in (self.query, self.key, self.value)
        )
        attended = segment_attention(
            query, key, value, 0.0, visible, noise.of_attention
        )
        return noise(self.output_layer(joined(attended)))


class DTMemLayer(Part):
    """x += attention(LN x); x += read(LN x); x += W_2 gelu(W_1 LN x).

    Args:
        hidden_dim: Width of a token and of a slot.
        num_heads: Number of heads.
        intermediate_dim: Width of the feed-forward.
        rounds, gates, top_k: As in `GatedMemory`.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        intermediate_dim: int,
        rounds: int,
        gates: str,
        top_k: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        self.hidden_dim = hidden_dim
        self.attention = CausalAttention(
            hidden_dim, num_heads, dtype=dtype, name="attention"
        )
        self.memory = GatedMemory(
            hidden_dim, num_heads, rounds, gates, top_k, dtype=dtype, name="memory"
        )
        self.feedforward = FeedForward(
            hidden_dim, intermediate_dim, "gelu", dtype=dtype, name="feedforward"
        )
        self.attention_norm, self.memory_norm, self.feedforward_norm = (
            norm(dtype, name)
            for name in ("attention_norm", "memory_norm", "feedforward_norm")
        )

    @staticmethod
    def count_weights(hidden_dim: int, intermediate_dim: int, gates: str) -> int:
        return (
            CausalAttention.count_weights(hidden_dim)
            + GatedMemory.count_weights(hidden_dim, gates)
            + FeedForward.count_weights(hidden_dim, intermediate_dim)
            + 3 * count_norm(hidden_dim)
        )

    def build(self, shape: Any = None) -> None:
        for part in (self.attention, self.memory, self.feedforward):
            part.build()
            part.built = True
        norms = (self.attention_norm, self.memory_norm, self.feedforward_norm)
        for part in norms:
            part.build((None, None, self.hidden_dim))

    def call(
        self, tokens: Any, slots: Any, visible: Any, noise: Noise, write: bool
    ) -> tuple[Any, Any]:
        """The tokens behind this layer, and with `write` the new slots."""
        x = tokens + self.attention(self.attention_norm(tokens), visible, noise=noise)
        inputs = self.memory.project(self.memory_norm(x))
        x = x + noise(self.memory.read(inputs, slots))
        x = x + self.feedforward(self.feedforward_norm(x), noise=noise)
        return x, self.memory.write(inputs, slots) if write else None


@keras.saving.register_keras_serializable(package="keras_agalite")
class DTMem(SegmentPolicy):
    """DT-Mem: a Decision Transformer with a working memory, in a causal form.

    Kang et al., "Think Before You Act: Decision Transformers with Working Memory",
    arXiv 2305.16338. The gates and the attention of the memory are those of the
    released code (`GatedMemory`). There, the memory stands in place of the causal
    attention, so that a token sees later ones; it is drawn anew in each call, with as
    many equal slots as there are tokens; and it ends with the call. Here, each layer
    has causal attention within a segment and `num_slots` slots of its own; the tokens
    of a segment read what the segments before have written. Slots begin as learnt
    vectors.

    Args:
        encoder: An `Encoder` of the environment's own observations.
        action_space: Discrete, MultiDiscrete, MultiBinary or a Box of floats.
        segment_length: Steps of a segment.
        num_layers: Number of layers.
        hidden_dim: Width of a token and of a slot.
        num_heads: Number of attention heads, which divides the width.
        intermediate_dim: Width of the feed-forward.
        num_slots: Slots of a layer.
        rounds: Rounds of attention in a write, with one set of weights.
        gates: `"unit"` for a gate for each number of a slot, `"slot"` for one a slot.
        top_k: Tokens to which a slot attends in a write; 0 for all of them.
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

    >>> policy = DTMem(
    ...     MLPEncoder(env.observation_space), env.action_space, target_return=1.0
    ... )
    """

    short_name = "dt_mem"

    def __init__(
        self,
        encoder: Encoder,
        action_space: gymnasium.Space[Any],
        *,
        segment_length: int = 30,
        num_layers: int = 4,
        hidden_dim: int = 128,
        num_heads: int = 4,
        intermediate_dim: int = 512,
        num_slots: int = 8,
        rounds: int = 2,
        gates: Literal["unit", "slot"] = "unit",
        top_k: int = 0,
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
        check_sizes({**sizes, "rounds": rounds, **({"top_k": top_k} if top_k else {})})
        check_heads({"hidden_dim": hidden_dim, "num_heads": num_heads})
        if gates not in ("unit", "slot"):
            raise ValueError(
                f"`gates` must be 'unit' or 'slot'. Received: gates={gates!r}"
            )
        self.num_layers, self.num_heads, self.intermediate_dim, self.num_slots = (
            sizes.values()
        )
        self.rounds, self.gates, self.top_k = rounds, gates, top_k
        self.blocks = [
            DTMemLayer(
                hidden_dim,
                num_heads,
                intermediate_dim,
                rounds,
                gates,
                top_k,
                dtype=self.dtype_policy,
                name=f"layer_{i}",
            )
            for i in range(num_layers)
        ]
        self.build_tokens()
        for block in self.blocks:
            block.build()
            block.built = True
        shapes = {
            "token_positions": (segment_length * self.tokens_per_step, hidden_dim),
            "initial_slots": (num_layers, num_slots, hidden_dim),
        }
        self.token_positions, self.initial_slots = (
            self.add_weight(name=name, shape=shape, initializer=Normal(0.02))
            for name, shape in shapes.items()
        )

    @classmethod
    def count_weights(
        cls,
        features: int,
        action_space: gymnasium.Space[Any],
        *,
        segment_length: int,
        num_layers: int,
        num_slots: int,
        hidden_dim: int,
        intermediate_dim: int,
        gates: str,
        target_return: float | None,
        action_tokens: bool,
        **config: Any,
    ) -> int:
        tokens = 1 + action_tokens + (target_return is not None)
        layer = DTMemLayer.count_weights(hidden_dim, intermediate_dim, gates)
        return (
            cls.count_tokens(
                features,
                action_space,
                hidden_dim=hidden_dim,
                target_return=target_return,
                action_tokens=action_tokens,
            )
            + num_layers * (layer + num_slots * hidden_dim)
            + segment_length * tokens * hidden_dim
        )

    @property
    def memory_sizes(self) -> list[int]:
        return [self.num_layers * self.num_slots * self.hidden_dim]

    def run_segment(
        self, tokens: Any, memory: list[Any], segments: Any, noise: Noise, write: bool
    ) -> tuple[Any, list[Any]]:
        count = int(tokens.shape[1])
        shape = (-1, self.num_layers, self.num_slots, self.hidden_dim)
        held, first, positions = (
            ops.cast(x, self.compute_dtype)
            for x in (
                ops.reshape(memory[0], shape),
                self.initial_slots,
                self.token_positions,
            )
        )
        is_first = (segments <= 0)[:, None, None, None]
        held = ops.where(is_first, first[None], held)
        x, new = noise(tokens + positions[None, :count]), []
        for i, block in enumerate(self.blocks):
            x, slots = block(x, held[:, i], causal(count), noise=noise, write=write)
            new.append(slots)
        if not write:
            return x, memory
        written = ops.cast(ops.stack(new, axis=1), "float32")
        return x, [ops.reshape(written, ops.shape(memory[0]))]
