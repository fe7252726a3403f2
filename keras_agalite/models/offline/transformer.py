"""The transformer of Decision Transformer and RATE, as RATE's authors built both."""

from typing import Any

import numpy as np
from keras import ops

from keras_agalite.layers.checks import check_sizes
from keras_agalite.layers.initializers import GlorotUniform
from keras_agalite.models.offline.parts import (
    FeedForward,
    Noise,
    Part,
    RelativeAttention,
    count_norm,
    norm,
)
from keras_agalite.models.offline.segments import SegmentPolicy
from keras_agalite.ops.relative_attention import distance_encoding


class Layer(Part):
    """h = LN(z + attention(z)); y = LN(h + W_2 relu(W_1 h)).

    Without `intermediate_dim`, y = h.

    Args:
        hidden_dim: Width of a token.
        num_heads: Number of heads.
        head_dim: Width of one head.
        intermediate_dim: Width of the feed-forward; 0 leaves it out.

    Call arguments: those of `RelativeAttention`.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        head_dim: int,
        intermediate_dim: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        self.hidden_dim = hidden_dim
        self.attention = RelativeAttention(
            hidden_dim, num_heads, head_dim, dtype=dtype, name="attention"
        )
        self.attention_norm = norm(dtype, "attention_norm")
        self.feedforward: Any = None
        self.feedforward_norm: Any = None
        if intermediate_dim:
            self.feedforward = FeedForward(
                hidden_dim, intermediate_dim, "relu", dtype=dtype, name="feedforward"
            )
            self.feedforward_norm = norm(dtype, "feedforward_norm")

    @staticmethod
    def count_weights(
        hidden_dim: int, num_heads: int, head_dim: int, intermediate_dim: int
    ) -> int:
        total = RelativeAttention.count_weights(hidden_dim, num_heads, head_dim)
        total += count_norm(hidden_dim)
        if intermediate_dim:
            total += FeedForward.count_weights(hidden_dim, intermediate_dim)
            total += count_norm(hidden_dim)
        return total

    def build(self, shape: Any = None) -> None:
        self.attention.build()
        self.attention_norm.build((None, None, self.hidden_dim))
        if self.feedforward is not None:
            self.feedforward.build()
            self.feedforward_norm.build((None, None, self.hidden_dim))

    def call(self, tokens: Any, cache: Any, noise: Noise, **context: Any) -> Any:
        x = self.attention(tokens, cache, noise=noise, **context)
        x = self.attention_norm(tokens + x)
        if self.feedforward is None:
            return x
        return self.feedforward_norm(x + self.feedforward(x, noise=noise))


class TransformerPolicy(SegmentPolicy):
    """Base of the policies with this transformer.

    Args:
        num_layers: Number of layers.
        num_heads: Number of heads.
        head_dim: Width of one head.
        intermediate_dim: Width of the feed-forward; 0 leaves it out.
        **kwargs: Arguments of `SegmentPolicy`.
    """

    def __init__(
        self,
        *args: Any,
        num_layers: int,
        num_heads: int,
        head_dim: int,
        intermediate_dim: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        sizes = {"num_layers": num_layers, "num_heads": num_heads, "head_dim": head_dim}
        check_sizes(sizes)
        check_sizes({"intermediate_dim": intermediate_dim} if intermediate_dim else {})
        self.num_layers, self.num_heads, self.head_dim = sizes.values()
        self.intermediate_dim = intermediate_dim
        self.blocks = [
            Layer(
                self.hidden_dim,
                num_heads,
                head_dim,
                intermediate_dim,
                dtype=self.dtype_policy,
                name=f"layer_{i}",
            )
            for i in range(num_layers)
        ]

    def build_transformer(self) -> None:
        """Builds the layers, and the biases that they share."""
        self.build_tokens()
        for block in self.blocks:
            block.build()
            block.built = True
        shape = (self.num_heads, self.head_dim)
        self.content_bias, self.position_bias = (
            self.add_weight(name=name, shape=shape, initializer=GlorotUniform())
            for name in ("content_bias", "position_bias")
        )

    @classmethod
    def count_transformer(
        cls,
        *,
        hidden_dim: int,
        num_layers: int,
        num_heads: int,
        head_dim: int,
        intermediate_dim: int,
        **config: Any,
    ) -> int:
        """Number of weights of the layers and their biases."""
        layer = Layer.count_weights(hidden_dim, num_heads, head_dim, intermediate_dim)
        return num_layers * layer + 2 * num_heads * head_dim

    def run_layers(
        self, tokens: Any, caches: list[Any], visible: Any, noise: Noise
    ) -> tuple[Any, list[Any]]:
        """All layers.

        Args:
            tokens: Tensor of shape `(batch, tokens, hidden_dim)`.
            caches: For each layer what came before, `(batch, cached, hidden_dim)`, or
                None.
            visible: As in `RelativeAttention`.
            noise: Dropout.

        Returns:
            `(outputs, inputs)`: the outputs, and the input of each layer.
        """
        count = int(tokens.shape[1])
        cached = 0 if caches[0] is None else int(caches[0].shape[1])
        encoding = distance_encoding(cached + count - 1, self.hidden_dim, 1 - count)
        encoding = ops.cast(noise(encoding), self.compute_dtype)
        tokens, inputs = noise(tokens), []
        for block, cache in zip(self.blocks, caches, strict=True):
            inputs.append(tokens)
            tokens = block(
                tokens,
                cache,
                noise=noise,
                encoding=encoding,
                biases=(self.content_bias, self.position_bias),
                visible=visible,
            )
        return noise(tokens), inputs


def causal(tokens: int) -> np.ndarray:
    """Each token sees itself and those before: booleans `(1, tokens, tokens)`."""
    return np.tril(np.ones((1, tokens, tokens), bool))
