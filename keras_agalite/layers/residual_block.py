"""The block around the simple recurrences: each part is added to the stream."""

import abc
from typing import Any

from keras import ops

from keras_agalite.layers.block_cell import Block
from keras_agalite.layers.counting import count_dense


class ResidualBlock(Block):
    """A recurrence and a feed-forward, both normalised first and with a skip.

        e = W_emb x                            (with `embed`, else e = x)
        h = e + mix(LN(e))
        y = h + W_2 gelu(W_1 LN(h))            (with `intermediate_dim`, else y = h)

    A subclass makes the layers of its recurrence after `super().__init__`, sets
    `state_size`, and writes `build_mix`, `count_mix` and `mix`.

    Args:
        hidden_dim: Width of the stream.
        intermediate_dim: Width of the feed-forward; None leaves it out.
        embed: Whether a dense layer brings the inputs to the width of the stream.
        **kwargs: Arguments of `Block`.

    Call arguments and returns: as in `Block`.
    """

    def __init__(
        self, hidden_dim: int, intermediate_dim: int | None, embed: bool, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.embedding = self.dense(hidden_dim, "embedding") if embed else None
        self.mix_norm = self.norm("mix_norm")
        self.intermediate_dim = intermediate_dim
        if intermediate_dim is not None:
            self.feedforward_norm = self.norm("feedforward_norm")
            self.add_feedforward(intermediate_dim)

    def add_feedforward(self, intermediate_dim: int) -> None:
        self.feedforward_intermediate = self.dense(
            intermediate_dim, "feedforward_intermediate", "gelu"
        )
        self.feedforward_output = self.dense(self.hidden_dim, "feedforward_output")

    def build(
        self, inputs_shape: Any, state_shape: Any = None, start_shape: Any = None
    ) -> None:
        hidden = (*inputs_shape[:-1], self.hidden_dim)
        if self.embedding is not None:
            self.embedding.build(inputs_shape)
        self.mix_norm.build(hidden)
        self.build_mix(hidden)
        if self.intermediate_dim is not None:
            self.feedforward_norm.build(hidden)
            self.feedforward_intermediate.build(hidden)
            self.feedforward_output.build((*hidden[:-1], self.intermediate_dim))

    @abc.abstractmethod
    def build_mix(self, shape: Any) -> None:
        """Builds the layers of the recurrence for inputs of this shape."""

    @abc.abstractmethod
    def mix(self, x: Any, state: Any, start: Any, mask: Any) -> Any:
        """Returns what is added to the stream, `(batch, time, hidden_dim)`, and a
        state."""

    @classmethod
    def count_weights(cls, features: int, **config: Any) -> int:
        hidden_dim = config["hidden_dim"]
        total = (
            config["embed"] * count_dense(features, hidden_dim)
            + cls.count_norm(hidden_dim)
            + cls.count_mix(**config)
        )
        if "intermediate_dim" in config:
            total += cls.count_norm(hidden_dim) + cls.count_feedforward(
                hidden_dim, config["intermediate_dim"]
            )
        return total

    @classmethod
    def count_feedforward(cls, hidden_dim: int, intermediate_dim: int) -> int:
        """Number of weights of the layers that `add_feedforward` makes."""
        return count_dense(hidden_dim, intermediate_dim) + count_dense(
            intermediate_dim, hidden_dim
        )

    @classmethod
    @abc.abstractmethod
    def count_mix(cls, hidden_dim: int, **config: Any) -> int:
        """Number of weights that `build_mix` makes."""

    def feedforward(self, x: Any) -> Any:
        return self.feedforward_output(self.feedforward_intermediate(x))

    def call(self, inputs: Any, state: Any, start: Any = None, mask: Any = None) -> Any:
        x = inputs if self.embedding is None else self.embedding(inputs)
        x = ops.cast(x, self.compute_dtype)
        update, state = self.mix(self.mix_norm(x), state, start, mask)
        x = x + update
        if self.intermediate_dim is not None:
            x = x + self.feedforward(self.feedforward_norm(x))
        return x, state
