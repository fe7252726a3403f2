"""DecisionTransformer: a window of the last steps, and no other memory."""

from typing import Any

import gymnasium
import keras
from keras import ops

from keras_agalite.models.encoders import Encoder
from keras_agalite.models.offline.parts import Noise
from keras_agalite.models.offline.transformer import TransformerPolicy, causal


@keras.saving.register_keras_serializable(package="keras_agalite")
class DecisionTransformer(TransformerPolicy):
    """Decision Transformer with relative positions: it sees a window of steps.

    Chen et al., "Decision Transformer: Reinforcement Learning via Sequence Modeling",
    NeurIPS 2021, arXiv 2106.01345, in the form that RATE (arXiv 2306.09459) is
    compared with.

    It acts with a sliding window. A row of a training call is one window: it has at
    most `segment_length` steps.

    Args:
        encoder: An `Encoder` of the environment's own observations.
        action_space: Discrete, MultiDiscrete, MultiBinary or a Box of floats.
        segment_length: Steps of the window.
        num_layers: Number of layers.
        hidden_dim: Width of a token.
        num_heads: Number of attention heads.
        head_dim: Width of one head.
        intermediate_dim: Width of the feed-forward; 0 leaves it out.
        target_return: The return to reach, unless a call says another; None leaves
            returns out (behaviour cloning).
        return_scale: What returns are divided by.
        action_tokens: Whether actions are tokens.
        action_activation: Activation of their embedding.
        dropout: Rate of the dropout of tokens.
        attention_dropout: Rate of the dropout of attention weights.
        **kwargs: `dtype` and `name`.

    Call arguments and returns: as in `SegmentPolicy`.

    Raises:
        ValueError: If an argument is of the wrong kind or out of its range, a space is
            not supported, or a row of a call is longer than the window.

    Example:

    >>> policy = DecisionTransformer(
    ...     MLPEncoder(env.observation_space), env.action_space, target_return=1.0
    ... )
    """

    short_name = "decision_transformer"

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
        target_return: float | None = None,
        return_scale: float = 1.0,
        action_tokens: bool = True,
        action_activation: str = "tanh",
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
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
            **kwargs,
        )
        self.build_transformer()

    @classmethod
    def count_weights(
        cls, features: int, action_space: gymnasium.Space[Any], **config: Any
    ) -> int:
        return cls.count_tokens(
            features, action_space, **config
        ) + cls.count_transformer(**config)

    @property
    def max_length(self) -> int:
        return self.segment_length

    @property
    def memory_sizes(self) -> list[int]:
        return []

    def _run_segments(
        self, inputs: list[Any], batch: Any, length: int, noise: Noise
    ) -> tuple[Any, list[Any]]:
        if length > self.segment_length:
            raise ValueError(
                "`observations` must have at most segment_length="
                f"{self.segment_length} steps, those of one window. Received: {length}"
            )
        return super()._run_segments(inputs, batch, length, noise)

    def run_segment(
        self, tokens: Any, memory: list[Any], segments: Any, noise: Noise, write: bool
    ) -> tuple[Any, list[Any]]:
        visible = causal(int(tokens.shape[1]))
        caches: list[Any] = [None] * self.num_layers
        outputs, _ = self.run_layers(tokens, caches, visible, noise)
        return outputs, memory

    def _go_on(
        self,
        entries: Any,
        memory: list[Any],
        steps: Any,
        segments: Any,
        is_full: Any,
        noise: Noise,
    ) -> tuple[Any, list[Any], Any, Any]:
        """Where the window is full, drops its first step."""
        moved = ops.pad(entries[:, 1:], [[0, 0], [0, 1], [0, 0]])
        entries = ops.where(is_full[:, None, None], moved, entries)
        return entries, memory, steps - ops.cast(is_full, "float32"), segments
