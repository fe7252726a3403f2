"""SegmentPolicy: transformers that read recordings, and act, segment by segment."""

import abc
import inspect
import itertools
from typing import Any

import gymnasium
import keras
from gymnasium import spaces
from keras import ops

from keras_agalite.action_masks import ACTION_MASK, mask_sizes
from keras_agalite.layers.checks import check_bools, check_sizes
from keras_agalite.layers.counting import count_dense
from keras_agalite.layers.initializers import Normal
from keras_agalite.models.action_heads import head_class, mask_logits
from keras_agalite.models.base import Policy, PolicyOutput, check_encoder, encode
from keras_agalite.models.encoders import Encoder
from keras_agalite.models.offline.parts import Noise, linear
from keras_agalite.models.offline.returns import ConditionedOnReturn, check_return
from keras_agalite.models.spaces import space_from_config, space_to_config
from keras_agalite.ops.starts import empty_at_start
from keras_agalite.previous import PREVIOUS, previous_space


class SegmentPolicy(ConditionedOnReturn, Policy):
    """Base of the policies that read an episode in segments of `segment_length` steps.

    Each step is up to three tokens: the return to go R, the observation o and the
    action a, in the order R_0 o_0 a_0 R_1 ...; the action is decided at o, before
    a is known. What a segment writes, the next one reads.

    The state is a list of tensors `(batch, size)`: the steps of the segment that is
    not over, the memory, and three numbers: steps in the segment, segments so far, sum
    of the rewards. Zeros are the empty state.

    Args:
        encoder: An `Encoder` of the environment's own observations. The policy's
            observation is a Dict with these, `previous_action` and `previous_reward`,
            as the wrapper `PreviousActionReward` gives it.
        action_space: Discrete, MultiDiscrete, MultiBinary or a Box of floats.
        hidden_dim: Width of a token.
        segment_length: Steps of a segment.
        target_return: The return to reach; None leaves the returns out, so that the
            policy imitates whatever it is shown.
        return_scale: What returns are divided by.
        action_tokens: Whether actions are tokens.
        action_activation: Activation of their embedding.
        dropout: Rate of the dropout of tokens.
        attention_dropout: Rate of the dropout of attention weights.
        detach_memory: Whether gradients stop between segments.
        dtype: Dtype policy.

    Call arguments:
        observations: Dict of tensors of shape `(batch, time, ...)`. The action of a
            step is the `previous_action` of the next one.
        state: State from the last call; empty if None.
        start: Optional boolean tensor of shape `(batch, time)`: the observation is
            the first of an episode.
        training: Whether there is dropout.
        target_return: Return to reach from the first step of a row on, a number or a
            tensor of shape `(batch,)` or `(batch, time)`; the constructor's if None.
        seed: Seed of the dropout, an int or an integer tensor without axes.

    Returns:
        `(out, state)`, `out.value` being None.
    """

    extra_inputs: tuple[str, ...] = ("seed",)

    def __init__(
        self,
        encoder: Encoder,
        action_space: gymnasium.Space[Any],
        *,
        hidden_dim: int,
        segment_length: int,
        target_return: float | None,
        return_scale: float,
        action_tokens: bool,
        action_activation: str,
        dropout: float,
        attention_dropout: float,
        detach_memory: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_encoder(encoder)
        check_sizes({"hidden_dim": hidden_dim, "segment_length": segment_length})
        check_bools({"action_tokens": action_tokens, "detach_memory": detach_memory})
        target, scale = check_return(target_return, return_scale)
        _check_rates(dropout=dropout, attention_dropout=attention_dropout)
        if isinstance(action_space, dict):
            action_space = space_from_config(action_space)
        self.encoder = encoder
        self.hidden_dim, self.segment_length = hidden_dim, segment_length
        self.target_return, self.return_scale = target, scale
        self.action_tokens, self.action_activation = action_tokens, action_activation
        self.dropout, self.attention_dropout = dropout, attention_dropout
        self.detach_memory = detach_memory
        dtype = self.dtype_policy
        self.actor = head_class(action_space)(
            action_space, units=0, dtype=dtype, name="actor"
        )
        self._space = previous_space(encoder.observation_space, action_space)
        self.mask_sizes = mask_sizes(self._space, action_space)
        self.action_size = spaces.flatdim(action_space)
        self.observation_embedding = linear(hidden_dim, dtype, "observation_embedding")
        # None is an attribute that Keras tracks as none.
        self.action_embedding = self.return_embedding = None
        if action_tokens:
            self.action_embedding = linear(
                hidden_dim,
                dtype,
                "action_embedding",
                activation=action_activation,
                kernel_initializer=Normal(),
            )
        if target_return is not None:
            self.extra_inputs = ("target_return", "seed")
            self.return_embedding = linear(hidden_dim, dtype, "return_embedding")

    def build_tokens(self) -> None:
        """Builds the encoder, the embeddings and the head."""
        if not self.encoder.built:
            self.encoder.build(None)
            self.encoder.built = True
        self.observation_embedding.build((None, self.encoder.output_size))
        if self.action_embedding is not None:
            self.action_embedding.build((None, self.action_size))
        if self.return_embedding is not None:
            self.return_embedding.build((None, 1))
        self.actor.build((None, None, self.hidden_dim))
        self.actor.built = self.built = True

    @classmethod
    def count_tokens(
        cls,
        features: int,
        action_space: gymnasium.Space[Any],
        *,
        hidden_dim: int,
        target_return: float | None,
        action_tokens: bool,
        **config: Any,
    ) -> int:
        """Number of weights of the embeddings and of the head."""
        head = head_class(action_space).count_weights(
            hidden_dim, action_space, 0, "linear"
        )
        actions = count_dense(spaces.flatdim(action_space), hidden_dim)
        return (
            count_dense(features, hidden_dim)
            + (action_tokens and actions)
            + (target_return is not None and count_dense(1, hidden_dim))
            + head
        )

    @classmethod
    @abc.abstractmethod
    def count_weights(cls, features: int, *args: Any, **config: Any) -> int:
        """Number of weights of such a policy behind its encoder, in closed form.

        Args:
            features: Width of the encoder's output.
            *args: The action space.
            **config: The other arguments of the constructor.
        """

    @property
    def arguments(self) -> list[str]:
        """Names of the constructor's arguments that are plain values."""
        parameters = inspect.signature(type(self).__init__).parameters.values()
        return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]

    @property
    def observation_space(self) -> gymnasium.Space[Any]:
        return self._space

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one step: the observation, and the others where there are any."""
        return 1 + self.action_tokens + (self.target_return is not None)

    @property
    def _entry_sizes(self) -> list[int]:
        """What the state holds of a step: embedded observation, action, return."""
        sizes = [self.hidden_dim]
        sizes += [self.action_size] if self.action_tokens else []
        return [*sizes, 1] if self.target_return is not None else sizes

    @property
    def state_size(self) -> list[int]:
        context = self.segment_length * sum(self._entry_sizes)
        return [context, *self.memory_sizes, 3]

    @property
    @abc.abstractmethod
    def memory_sizes(self) -> list[int]:
        """Sizes of the tensors of the memory."""

    @abc.abstractmethod
    def run_segment(
        self, tokens: Any, memory: list[Any], segments: Any, noise: Noise, write: bool
    ) -> tuple[Any, list[Any]]:
        """Runs one segment, or the beginning of one.

        Args:
            tokens: Tensor of shape `(batch, tokens, hidden_dim)`. No token changes
                what comes out at an earlier one.
            memory: Tensors `(batch, size)` of the sizes `memory_sizes`, float32.
            segments: How many segments there were before, float tensor `(batch,)`; of
                none, the memory is zeros.
            noise: Dropout.
            write: Whether the new memory is needed.

        Returns:
            `(outputs, memory)`: a tensor of the shape of the tokens, and the new
            memory; without `write`, the old one.
        """

    def call(
        self,
        observations: Any,
        state: Any = None,
        start: Any = None,
        training: bool = False,
        target_return: Any = None,
        seed: Any = None,
    ) -> tuple[PolicyOutput, list[Any]]:
        batch, length = self._check_observations(observations, state, start)
        noise = self._noise(training, seed)
        inputs = self._inputs(observations, target_return, batch, length)
        if state is None and start is None and length > 1:
            features, state = self._run_segments(inputs, batch, length, noise)
        else:
            state = self.initial_state(batch) if state is None else state
            steps = []
            for t in range(length):
                first = None if start is None else start[:, t]
                step, state = self._run_step(
                    [x[:, t] for x in inputs], state, first, noise
                )
                steps.append(step)
            features = ops.stack(steps, axis=1)
        logits = self.actor(features)
        if self.mask_sizes:
            logits = mask_logits(logits, observations[ACTION_MASK])
        return PolicyOutput(logits, None), state

    def _noise(self, training: bool, seed: Any) -> Noise:
        if not training or not (self.dropout or self.attention_dropout):
            return Noise()
        if seed is None:
            raise ValueError(
                "`seed` must be an int or an integer tensor where there is dropout. "
                f"Received: training=True, dropout={self.dropout}, attention_dropout="
                f"{self.attention_dropout}, seed=None"
            )
        return Noise(seed, self.dropout, self.attention_dropout)

    def _inputs(
        self, observations: Any, target_return: Any, batch: Any, length: Any
    ) -> list[Any]:
        """Embedded observations, previous actions and rewards, and returns to reach.

        Tensors `(batch, time, hidden_dim)`, `(batch, time, action_size)` and twice
        `(batch, time)`.
        """
        own = {k: x for k, x in observations.items() if k not in PREVIOUS}
        if not isinstance(self.encoder.observation_space, spaces.Dict):
            own = own["observation"]
        features = encode(self.encoder, own, batch, length)
        embedded = ops.cast(self.observation_embedding(features), "float32")
        action, reward = (ops.cast(observations[k], "float32") for k in PREVIOUS)
        reward = reward[:, :, 0]
        return [embedded, action, reward, self.targets(target_return, reward)]

    def _entries(self, embedded: Any, action: Any, to_go: Any) -> Any:
        """What the state holds of steps, in one tensor."""
        parts = [embedded]
        parts += [action] if self.action_tokens else []
        if self.target_return is not None:
            parts.append(to_go[..., None] / self.return_scale)
        return ops.concatenate(parts, axis=-1)

    def _parts(self, entries: Any) -> list[Any]:
        """The inverse of `_entries`, the returns divided by their scale."""
        ends = [sum(self._entry_sizes[:i]) for i in range(len(self._entry_sizes) + 1)]
        return [entries[..., a:b] for a, b in itertools.pairwise(ends)]

    def tokens(self, entries: Any) -> Any:
        """Tokens `(batch, steps * tokens_per_step, hidden_dim)` of steps."""
        parts = self._parts(entries)
        tokens = [parts[0]]
        if self.return_embedding is not None:
            tokens.insert(0, self.return_embedding(parts[-1]))
        if self.action_embedding is not None:
            tokens.append(self.action_embedding(parts[1]))
        dtype = self.compute_dtype
        tokens = ops.stack([ops.cast(x, dtype) for x in tokens], axis=2)
        batch, steps = ops.shape(entries)[:2]
        return ops.reshape(
            tokens, (batch, steps * self.tokens_per_step, self.hidden_dim)
        )

    def _of_observations(self, outputs: Any) -> Any:
        """Of all tokens those of the observations, at which actions are decided."""
        first = int(self.target_return is not None)
        return ops.cast(outputs[:, first :: self.tokens_per_step], "float32")

    def _run_segments(
        self, inputs: list[Any], batch: Any, length: int, noise: Noise
    ) -> tuple[Any, list[Any]]:
        """Whole segments from an empty state, each in parallel."""
        embedded, action, reward, target = inputs
        # What led to the first step is not of this row.
        total = ops.cumsum(reward, axis=1) - reward[:, :1]
        later = ops.pad(action[:, 1:], [[0, 0], [0, 1], [0, 0]])
        entries = self._entries(embedded, later, target - total)
        _, *memory, counters = self.initial_state(batch)
        segments, features, size = counters[:, 1], [], self.segment_length
        for first in range(0, length, size):
            part = entries[:, first : first + size]
            is_last = first + size >= length
            outputs, written = self.run_segment(
                self.tokens(part), memory, segments, noise, write=not is_last
            )
            features.append(self._of_observations(outputs))
            if not is_last:
                memory = self._carried(written)
                segments = segments + 1.0
        steps = length - first
        part = ops.pad(part, [[0, 0], [0, size - steps], [0, 0]])
        counters = ops.stack(
            [ops.full_like(segments, steps), segments, total[:, -1]], axis=1
        )
        context = ops.reshape(part, (batch, self.state_size[0]))
        return ops.concatenate(features, axis=1), [context, *memory, counters]

    def _carried(self, memory: list[Any]) -> list[Any]:
        return [ops.stop_gradient(x) for x in memory] if self.detach_memory else memory

    def _run_step(
        self, inputs: list[Any], state: list[Any], start: Any, noise: Noise
    ) -> tuple[Any, list[Any]]:
        """One step, whatever the segment holds; the features are `(batch, width)`."""
        embedded, action, reward, target = inputs
        if start is not None:
            state = empty_at_start(state, 1.0 - ops.cast(start, "float32"))
        context, *memory, counters = state
        steps, segments, total = (counters[:, i] for i in range(3))
        total = ops.where(steps + segments > 0, total + reward, 0.0)
        place = ops.arange(self.segment_length, dtype="float32")[None, :]
        entries = ops.reshape(
            context, (-1, self.segment_length, sum(self._entry_sizes))
        )
        if self.action_tokens:
            known = (place == steps[:, None] - 1)[:, :, None]
            parts = self._parts(entries)
            parts[1] = ops.where(known, action[:, None], parts[1])
            entries = ops.concatenate(parts, axis=-1)
        is_full = steps >= self.segment_length
        entries, memory, steps, segments = self._go_on(
            entries, memory, steps, segments, is_full, noise
        )
        is_here = (place == steps[:, None])[:, :, None]
        entry = self._entries(embedded, ops.zeros_like(action), target - total)
        entries = ops.where(is_here, entry[:, None], entries)
        outputs, _ = self.run_segment(
            self.tokens(entries), memory, segments, noise, write=False
        )
        features = self._of_observations(outputs)
        features = ops.sum(ops.where(is_here, features, 0.0), axis=1)
        counters = ops.stack([steps + 1.0, segments, total], axis=1)
        context = ops.reshape(entries, ops.shape(context))
        return features, [context, *memory, counters]

    def _go_on(
        self,
        entries: Any,
        memory: list[Any],
        steps: Any,
        segments: Any,
        is_full: Any,
        noise: Noise,
    ) -> tuple[Any, list[Any], Any, Any]:
        """Where a segment is full, writes the memory and begins the next segment."""
        _, written = self.run_segment(
            self.tokens(entries), memory, segments, noise, write=True
        )
        memory = [
            ops.where(is_full[:, None], new, old)
            for new, old in zip(self._carried(written), memory, strict=True)
        ]
        entries = ops.where(is_full[:, None, None], 0.0, entries)
        steps = ops.where(is_full, 0.0, steps)
        return entries, memory, steps, segments + ops.cast(is_full, "float32")

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "dtype": self.dtype_policy.name,
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "action_space": space_to_config(self.action_space),
            **{name: getattr(self, name) for name in self.arguments},
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        encoder = keras.saving.deserialize_keras_object(
            config["encoder"], custom_objects=custom_objects
        )
        return cls(**{**config, "encoder": encoder})


def _check_rates(**rates: Any) -> None:
    for name, rate in rates.items():
        if not isinstance(rate, int | float) or not 0.0 <= rate < 1.0:
            raise ValueError(
                f"`{name}` must be a number from 0 to less than 1. Received: "
                f"{name}={rate!r}"
            )
