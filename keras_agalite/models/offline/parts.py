"""Layers that the policies for recordings are made of."""

from typing import Any

import keras
from keras import ops

from keras_agalite.layers.counting import count_dense
from keras_agalite.layers.initializers import FanInUniform, Ones, Zeros
from keras_agalite.ops.dropout import Dropout
from keras_agalite.ops.segment_attention import distance_scores, segment_attention


class Noise:
    """The dropout of one call; none without a seed.

    Args:
        seed: An int or an integer tensor without axes; None for no noise.
        dropout: Rate of `noise(x)`.
        attention_dropout: Rate of `noise.of_attention(weights)`.
    """

    def __init__(
        self, seed: Any = None, dropout: float = 0.0, attention_dropout: float = 0.0
    ) -> None:
        self.drop = None if seed is None else Dropout(seed)
        self.dropout, self.attention_dropout = dropout, attention_dropout

    def __call__(self, x: Any) -> Any:
        return x if self.drop is None else self.drop(x, self.dropout)

    def of_attention(self, weights: Any) -> Any:
        return (
            weights if self.drop is None else self.drop(weights, self.attention_dropout)
        )


def linear(
    units: int, dtype: Any, name: str, use_bias: bool = True, **kwargs: Any
) -> keras.layers.Dense:
    """A dense layer that begins as PyTorch's, with a bias of zero."""
    return keras.layers.Dense(
        units,
        use_bias=use_bias,
        name=name,
        dtype=dtype,
        **{
            "kernel_initializer": FanInUniform(),
            "bias_initializer": Zeros(),
            **kwargs,
        },
    )


def norm(dtype: Any, name: str, epsilon: float = 1e-5) -> Any:
    """A layer normalisation."""
    return keras.layers.LayerNormalization(
        epsilon=epsilon,
        beta_initializer=Zeros(),
        gamma_initializer=Ones(),
        name=name,
        dtype=dtype,
    )


def count_norm(width: int) -> int:
    """Number of weights of `norm`."""
    return 2 * width


def by_head(x: Any, num_heads: int) -> Any:
    """`(batch, tokens, heads * head_dim)` to `(batch, tokens, heads, head_dim)`."""
    *shape, width = ops.shape(x)
    return ops.reshape(x, (*shape, num_heads, width // num_heads))


def joined(x: Any) -> Any:
    """The inverse of `by_head`."""
    *shape, num_heads, head_dim = ops.shape(x)
    return ops.reshape(x, (*shape, num_heads * head_dim))


class Part(keras.layers.Layer):
    """Base of the parts of a policy: the layers in them cast their own inputs."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "autocast": False})


class FeedForward(Part):
    """W_2 activation(W_1 x + b_1) + b_2, with dropout behind both.

    Args:
        hidden_dim: Width of the input and of the output.
        intermediate_dim: Width between.
        activation: Name of the activation.

    Call arguments:
        x: Tensor of shape `(..., hidden_dim)`.
        noise: The call's `Noise`.
    """

    def __init__(
        self, hidden_dim: int, intermediate_dim: int, activation: Any, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        self.hidden_dim = hidden_dim
        self.intermediate = linear(
            intermediate_dim, dtype, "intermediate", activation=activation
        )
        self.output_layer = linear(hidden_dim, dtype, "output")

    @staticmethod
    def count_weights(hidden_dim: int, intermediate_dim: int) -> int:
        return count_dense(hidden_dim, intermediate_dim) + count_dense(
            intermediate_dim, hidden_dim
        )

    def build(self, shape: Any = None) -> None:
        self.intermediate.build((None, self.hidden_dim))
        self.output_layer.build((None, self.intermediate.units))

    def call(self, x: Any, noise: Any) -> Any:
        return noise(self.output_layer(noise(self.intermediate(x))))


class RelativeAttention(Part):
    """Attention of tokens to a cache and to themselves, by content and by distance.

        q, k, v = W_qkv z                      r(c) = W_r [sin(c f), cos(c f)]
        score_ij = ((q_i + u) . k_j + (q_i + v) . r(i - j)) / sqrt(head_dim)
        y = W_o softmax(score) v

    Dai et al., "Transformer-XL", ACL 2019, section 3.3.

    Args:
        hidden_dim: Width of the input and of the output.
        num_heads: Number of heads.
        head_dim: Width of one head.

    Call arguments:
        tokens: Tensor of shape `(batch, tokens, hidden_dim)`.
        cache: Tensor of shape `(batch, cached, hidden_dim)`: what came before.
        encoding: The distances `cached + tokens - 1, ..., 1 - tokens` as sines and
            cosines, of shape `(distances, hidden_dim)`.
        biases: The content bias u and the position bias v, both of shape `(num_heads,
            head_dim)`.
        visible: Boolean tensor of shape `(batch or 1, tokens, cached + tokens)`.
        noise: The call's `Noise`.
    """

    def __init__(
        self, hidden_dim: int, num_heads: int, head_dim: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        dtype, width = self.dtype_policy, num_heads * head_dim
        self.hidden_dim, self.num_heads, self.head_dim = hidden_dim, num_heads, head_dim
        self.projection = linear(3 * width, dtype, "projection", use_bias=False)
        self.position = linear(width, dtype, "position", use_bias=False)
        self.output_layer = linear(hidden_dim, dtype, "output", use_bias=False)

    @staticmethod
    def count_weights(hidden_dim: int, num_heads: int, head_dim: int) -> int:
        return 5 * hidden_dim * num_heads * head_dim

    def build(self, shape: Any = None) -> None:
        self.projection.build((None, self.hidden_dim))
        self.position.build((None, self.hidden_dim))
        self.output_layer.build((None, self.num_heads * self.head_dim))

    def call(
        self,
        tokens: Any,
        cache: Any,
        encoding: Any,
        biases: Any,
        visible: Any,
        noise: Any,
    ) -> Any:
        keys = tokens if cache is None else ops.concatenate([cache, tokens], axis=1)
        query, key, value = (
            by_head(x, self.num_heads)
            for x in ops.split(self.projection(keys), 3, axis=-1)
        )
        query = query[:, -ops.shape(tokens)[1] :]
        position = by_head(self.position(encoding), self.num_heads)
        content_bias, position_bias = (ops.cast(b, query.dtype) for b in biases)
        by_distance = self.by_distance(
            query + position_bias, position, ops.shape(key)[1]
        )
        attended = segment_attention(
            query + content_bias, key, value, by_distance, visible, noise.of_attention
        )
        return noise(self.output_layer(joined(attended)))

    def by_distance(self, query: Any, position: Any, length: Any) -> Any:
        """Scores by distance: see `distance_scores`."""
        return distance_scores(query, position, length)
