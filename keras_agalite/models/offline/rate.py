"""RATE: a transformer over segments with memory tokens and a valve between them."""

from typing import Any, Literal

import gymnasium
import keras
import numpy as np
from keras import ops

from keras_agalite.layers.initializers import Normal
from keras_agalite.models.encoders import Encoder
from keras_agalite.models.offline.parts import Noise
from keras_agalite.models.offline.transformer import TransformerPolicy
from keras_agalite.models.offline.valves import VALVES


@keras.saving.register_keras_serializable(package="keras_agalite")
class RATE(TransformerPolicy):
    """Recurrent Action Transformer with Memory.

    Cherepanov et al., arXiv 2306.09459. Memory tokens M stand before and behind the
    tokens X of a segment, Z = [M; X; M]. The first ones are read: they see each other.
    The last ones write: they see each other and all of Z. With W the outputs there:

        M' = valve(M, W)

    | valve | M' |
    |---|---|
    | `"ca2"` | attention of M to W, the paper's choice |
    | `"ca1"` | attention of W to M |
    | `"gate"` | the gate of GTrXL, with M as its stream |
    | `"gru"`, `"lstm"` | a cell with the state M and the input W |
    | `"none"` | W: the Recurrent Memory Transformer |

    With `cache_length` each layer's last inputs are kept and seen by X as well, without
    gradient; with `memory_tokens=0` that is Transformer-XL. The first M is learnt.

    Gradients flow through the memory from segment to segment: the authors' code stops
    them, which leaves the valve at its random start. `detach_memory=True` does so.

    Args:
        encoder: An `Encoder` of the environment's own observations.
        action_space: Discrete, MultiDiscrete, MultiBinary or a Box of floats.
        segment_length: Steps of a segment, K in the paper.
        num_layers: Number of layers.
        hidden_dim: Width of a token.
        num_heads: Number of attention heads.
        head_dim: Width of one head.
        intermediate_dim: Width of the feed-forward; 0 leaves it out.
        memory_tokens: Number of memory tokens.
        valve: One of the names above.
        valve_heads: Heads of `"ca2"` and `"ca1"`.
        valve_activation: Activation of W in `"ca2"` and `"ca1"`.
        cache_length: Tokens that each layer keeps; memory tokens count.
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
        ValueError: If an argument is of the wrong kind or out of its range, a space is
            not supported, or there are neither memory tokens nor a cache.

    Example:

    >>> policy = RATE(
    ...     MLPEncoder(env.observation_space), env.action_space, target_return=1.0
    ... )
    >>> out, _ = policy(observations, target_return=returns)  # segments in a row
    """

    short_name = "rate"

    def __init__(
        self,
        encoder: Encoder,
        action_space: gymnasium.Space[Any],
        *,
        segment_length: int = 30,
        num_layers: int = 4,
        hidden_dim: int = 128,
        num_heads: int = 4,
        head_dim: int = 32,
        intermediate_dim: int = 128,
        memory_tokens: int = 10,
        valve: Literal["ca2", "ca1", "gate", "gru", "lstm", "none"] = "ca2",
        valve_heads: int = 2,
        valve_activation: str = "relu",
        cache_length: int = 0,
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
            segment_length=segment_length,
            num_layers=num_layers,
            hidden_dim=hidden_dim,
            num_heads=num_heads,
            head_dim=head_dim,
            intermediate_dim=intermediate_dim,
            target_return=target_return,
            return_scale=return_scale,
            action_tokens=action_tokens,
            action_activation=action_activation,
            dropout=dropout,
            attention_dropout=attention_dropout,
            detach_memory=detach_memory,
            **kwargs,
        )
        _check_memory(memory_tokens=memory_tokens, cache_length=cache_length)
        if valve not in VALVES:
            raise ValueError(
                f"`valve` must be one of {', '.join(VALVES)}. Received: valve={valve!r}"
            )
        self.memory_tokens, self.cache_length = memory_tokens, cache_length
        self.valve, self.valve_heads = valve, valve_heads
        self.valve_activation = valve_activation
        self.build_transformer()
        if memory_tokens:
            self.memory_valve = VALVES[valve](
                hidden_dim,
                valve_heads,
                valve_activation,
                dtype=self.dtype_policy,
                name="memory_valve",
            )
            self.memory_valve.build()
            self.memory_valve.built = True
            self.initial_memory = self.add_weight(
                name="initial_memory",
                shape=(memory_tokens, hidden_dim),
                initializer=Normal(),
            )

    @classmethod
    def count_weights(
        cls,
        features: int,
        action_space: gymnasium.Space[Any],
        *,
        memory_tokens: int,
        valve: str,
        **config: Any,
    ) -> int:
        total = cls.count_tokens(features, action_space, **config)
        total += cls.count_transformer(**config)
        if memory_tokens:
            width = config["hidden_dim"]
            total += VALVES[valve].count_weights(width) + memory_tokens * width
        return total

    @property
    def memory_sizes(self) -> list[int]:
        sizes = []
        if self.memory_tokens:
            copies = 2 if self.memory_valve.has_cell else 1
            sizes += copies * [self.memory_tokens * self.hidden_dim]
        if self.cache_length:
            sizes.append(self.num_layers * self.cache_length * self.hidden_dim)
        return sizes

    def run_segment(
        self, tokens: Any, memory: list[Any], segments: Any, noise: Noise, write: bool
    ) -> tuple[Any, list[Any]]:
        number, count = self.memory_tokens, int(tokens.shape[1])
        caches, visible = self._caches(memory), self._visible(count, segments)
        held = cell = None
        if number:
            held, cell = self._held(memory, segments)
            last = [held] if write else []
            tokens = ops.concatenate([held, tokens, *last], axis=1)
        outputs, inputs = self.run_layers(
            tokens,
            caches,
            visible[:, : tokens.shape[1], : self.cache_length + tokens.shape[1]],
            noise,
        )
        new = memory
        if write:
            new = self._write(held, cell, outputs[:, number + count :], caches, inputs)
        return outputs[:, number : number + count], new

    def _held(self, memory: list[Any], segments: Any) -> tuple[Any, Any]:
        """The memory tokens, and the state of the valve if it has one."""
        shape = (-1, self.memory_tokens, self.hidden_dim)
        first = ops.cast(self.initial_memory, "float32")[None]
        held = ops.reshape(memory[0], shape)
        held = ops.where(segments[:, None, None] > 0, held, first)
        held = ops.cast(held, self.compute_dtype)
        if not self.memory_valve.has_cell:
            return held, None
        return held, ops.cast(ops.reshape(memory[1], shape), self.compute_dtype)

    def _caches(self, memory: list[Any]) -> list[Any]:
        """What each layer keeps, `(batch, cache_length, hidden_dim)`, oldest first."""
        if not self.cache_length:
            return [None] * self.num_layers
        shape = (-1, self.num_layers, self.cache_length, self.hidden_dim)
        kept = ops.cast(ops.reshape(memory[-1], shape), self.compute_dtype)
        return [ops.stop_gradient(kept[:, i]) for i in range(self.num_layers)]

    def _visible(self, count: int, segments: Any) -> Any:
        """Who sees whom, `(batch or 1, tokens, cache_length + tokens)`."""
        first, cached = self.memory_tokens, self.cache_length
        last = first + count
        total = last + first
        own = np.tril(np.ones((total, total), bool))
        own[:first, :first] = True
        own[last:, last:] = True
        if not cached:
            return own[None]
        sees_cache = np.zeros((total, cached), bool)
        sees_cache[first:last] = True
        # A whole segment has the same number of tokens each time.
        whole = 2 * first + self.segment_length * self.tokens_per_step
        age = ops.arange(cached, 0, -1, dtype="float32")
        kept = age[None, :] <= segments[:, None] * float(whole)
        kept = ops.logical_and(sees_cache[None], kept[:, None, :])
        own = ops.logical_or(own[None], ops.zeros_like(kept[:, :, :1]))
        return ops.concatenate([kept, own], axis=2)

    def _write(
        self, held: Any, cell: Any, written: Any, caches: list[Any], inputs: list[Any]
    ) -> list[Any]:
        new = []
        if held is not None:
            held, cell = self.memory_valve(held, written, cell)
            new += [held] if cell is None else [held, cell]
        if self.cache_length:
            kept = [
                ops.concatenate([old, x], axis=1)[:, -self.cache_length :]
                for old, x in zip(caches, inputs, strict=True)
            ]
            new.append(ops.stop_gradient(ops.stack(kept, axis=1)))
        batch = ops.shape(inputs[0])[0]
        return [
            ops.reshape(ops.cast(x, "float32"), (batch, size))
            for x, size in zip(new, self.memory_sizes, strict=True)
        ]


def _check_memory(**sizes: Any) -> None:
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ValueError(
                f"`{name}` must be an integer of at least 0. Received: {name}={value!r}"
            )
    if not any(sizes.values()):
        raise ValueError(
            "Expected memory tokens, a cache or both; a DecisionTransformer has none. "
            f"Received: {', '.join(f'{name}={value}' for name, value in sizes.items())}"
        )
