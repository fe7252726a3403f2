"""TrMRL: the block, the cell that takes one step, the layer that takes many."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_agalite.layers.block_cell import Block, BlockCell
from keras_agalite.layers.checks import check_heads
from keras_agalite.layers.counting import count_dense
from keras_agalite.layers.initializers import GlorotUniform, Normal, Uniform
from keras_agalite.layers.sequence_memory import SequenceMemory
from keras_agalite.ops.episodes import steps_of_episode
from keras_agalite.ops.precision import number_like
from keras_agalite.ops.segment_attention import segment_attention


@keras.saving.register_keras_serializable(package="keras_agalite")
class FixupInitializer(GlorotUniform):
    """T-Fixup: several Glorot-uniform matrices side by side, scaled down.

    Huang et al., "Improving Transformer Optimization Through Better Initialization",
    ICML 2020.

    Args:
        num_layers: N, the number of layers; the scale is 0.67 N^(-1/4).
        parts: Number of matrices.
        seed: As in `RandomInitializer`.
    """

    def __init__(
        self, num_layers: int, parts: int = 1, seed: int | None = None
    ) -> None:
        super().__init__(seed)
        self.num_layers = num_layers
        self.parts = parts

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Any:
        part = (*shape[:-1], shape[-1] // self.parts)
        draw = super().draw
        drawn = [draw(generator, part) for _ in range(self.parts)]
        return 0.67 * self.num_layers**-0.25 * np.concatenate(drawn, axis=-1)

    def get_config(self) -> dict[str, Any]:
        sizes = {"num_layers": self.num_layers, "parts": self.parts}
        return {**sizes, **super().get_config()}


@keras.saving.register_keras_serializable(package="keras_agalite")
class TrMRLBlock(Block):
    """All layers of TrMRL over the windows of all tokens; see `TrMRL`.

    Call arguments:
        inputs: Tensor of shape `(batch, time, features)`.
        state: Tensor of shape `(batch, state_size)`: the embedded tokens before the
            first one, the newest last, and how many of them a token may see; the
            others are zeros.
        start: Optional boolean tensor of shape `(batch, time)`.
        mask: Optional boolean tensor of shape `(batch, time)`, in which each row is
            True first, then False.

    Returns:
        `(outputs, state)` of shapes `(batch, time, hidden_dim)` and
        `(batch, state_size)`.
    """

    def __init__(
        self,
        num_layers: int,
        hidden_dim: int,
        num_heads: int,
        window: int,
        intermediate_dim: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.window = window
        self.state_size = (window - 1) * hidden_dim + 1
        embedding = Normal(hidden_dim**-0.5 * (9 * num_layers) ** -0.25)
        self.embedding = self.dense(
            hidden_dim, "embedding", initializer=embedding, use_bias=False
        )

        def dense(units: int, name: str, activation: Any = None, parts: int = 1) -> Any:
            return [
                self.dense(
                    units,
                    f"{name}_{i}",
                    activation,
                    initializer=FixupInitializer(num_layers, parts),
                )
                for i in range(num_layers)
            ]

        self.query = dense(hidden_dim, "query")
        # Key, value.
        self.key_value = dense(2 * hidden_dim, "key_value", parts=2)
        self.attention_output = dense(hidden_dim, "attention_output")
        self.intermediate = dense(intermediate_dim, "intermediate", "relu")
        self.output_layer = dense(hidden_dim, "output")
        for layers, fan_in in (
            (self.intermediate, hidden_dim),
            (self.output_layer, intermediate_dim),
        ):
            for layer in layers:  # the authors keep torch's biases here
                layer.bias_initializer = Uniform(-(fan_in**-0.5), fan_in**-0.5)
        # Positions in the window: sines and cosines in turn.
        rate = 10000.0 ** (-2 * (np.arange(hidden_dim) // 2) / hidden_dim)
        angle = np.arange(window)[:, None] * rate
        even = np.arange(hidden_dim) % 2 == 0
        self.positions = np.where(even, np.sin(angle), np.cos(angle)).astype("float32")

    def build(
        self, inputs_shape: Any, state_shape: Any = None, start_shape: Any = None
    ) -> None:
        hidden = (None, None, self.hidden_dim)
        self.embedding.build(inputs_shape)
        for layers in (self.query, self.key_value, self.attention_output):
            for layer in layers:
                layer.build(hidden)
        for wide, narrow in zip(self.intermediate, self.output_layer, strict=True):
            wide.build(hidden)
            narrow.build((None, None, wide.units))

    @classmethod
    def count_weights(cls, features: int, **config: Any) -> int:
        dim, wide = config["hidden_dim"], config["intermediate_dim"]
        layer = 4 * count_dense(dim, dim) + count_dense(dim, wide)
        layer += count_dense(wide, dim)
        embedding = count_dense(features, dim, use_bias=False)
        return embedding + config["num_layers"] * layer

    def call(self, inputs: Any, state: Any, start: Any = None, mask: Any = None) -> Any:
        length, held = ops.shape(inputs)[1], self.window - 1
        tokens = ops.cast(self.embedding(inputs), state.dtype)
        clock = ops.cast(state[:, -1], "int32")
        steps, clock = steps_of_episode(clock, tokens[:, :, 0], start, mask)
        memory = ops.reshape(state[:, :-1], (-1, held, self.hidden_dim))
        items = ops.concatenate([memory, tokens], axis=1)

        # The newest token is the last of its window; its place counts from the oldest.
        windows = ops.stack(
            [items[:, i : i + length] for i in range(self.window)], axis=2
        )
        seen = ops.minimum(steps + 1, number_like(steps, self.window))
        place = ops.arange(self.window, dtype="int32") - self.window
        place = place + seen[:, :, None]
        position = ops.take(
            ops.convert_to_tensor(self.positions, "float32"),
            ops.maximum(place, ops.zeros_like(place)),
            axis=0,
        )
        visible = place >= 0
        windows = windows + ops.cast(position, windows.dtype)
        windows = ops.where(visible[..., None], windows, 0.0)
        outputs = self.transform(
            ops.reshape(windows, (-1, self.window, self.hidden_dim)),
            ops.reshape(visible, (-1, self.window)),
        )
        outputs = ops.reshape(outputs, (-1, length, self.hidden_dim))

        places = ops.arange(held, dtype="int32")[None, :]
        if mask is None:
            items = items[:, length:]
        else:
            valid = ops.sum(ops.cast(mask, "int32"), axis=1, keepdims=True)
            items = ops.take_along_axis(items, (valid + places)[:, :, None], axis=1)
        kept = ops.minimum(clock, number_like(clock, held))[:, None]
        items = ops.where((places >= held - kept)[:, :, None], items, 0.0)
        items = ops.reshape(items, (-1, held * self.hidden_dim))
        return outputs, ops.concatenate([items, ops.cast(kept, items.dtype)], axis=1)

    def transform(self, h: Any, visible: Any) -> Any:
        """The last token of each window, after all layers.

        Args:
            h: Tensor of shape `(windows, window, hidden_dim)`.
            visible: Boolean tensor of shape `(windows, window)`.

        Returns:
            Tensor of shape `(windows, 1, hidden_dim)`.
        """
        h = ops.cast(h, self.compute_dtype)
        earlier = np.tril(np.ones((self.window, self.window), "bool"))
        shown = ops.logical_and(ops.convert_to_tensor(earlier), visible[:, None])
        for i, layer in enumerate(self.query):
            items = h
            if i == len(self.query) - 1:
                h, shown = h[:, -1:], shown[:, -1:]
            read = self.attend(layer(h), self.key_value[i](items), shown)
            h = h + self.attention_output[i](read)
            h = h + self.output_layer[i](self.intermediate[i](h))
        return h

    def attend(self, query: Any, key_value: Any, shown: Any) -> Any:
        """Attention of all heads where `shown` is True."""
        heads = (self.num_heads, self.hidden_dim // self.num_heads)
        query, key, value = (
            ops.reshape(x, (-1, x.shape[1], *heads))
            for x in (query, *ops.split(key_value, 2, axis=-1))
        )
        read = segment_attention(
            query, key, value, 0.0, shown, saved_activations=self.saved_activations
        )
        return ops.reshape(read, (-1, read.shape[1], self.hidden_dim))


@keras.saving.register_keras_serializable(package="keras_agalite")
class TrMRLCell(BlockCell):
    """One step of TrMRL, as a Keras RNN cell.

    It runs in a stock `keras.layers.RNN` and, with episode starts, in `MemoryRNN`;
    `TrMRL` holds the same weights and runs whole sequences at once. Inside a stock
    `keras.layers.RNN` the state takes the dtype that the RNN gives it, so use a
    float32 policy there.

    Args: those of `TrMRL`, with the same defaults.

    Call arguments, returns and errors: as in `SequenceCell`.
    """

    block_class = TrMRLBlock
    needs_valid_first = True  # a token sees all items between itself and the oldest

    @classmethod
    def check_config(cls, config: dict[str, Any]) -> None:
        super().check_config(config)
        check_heads(config)
        if config["window"] < 2:
            raise ValueError(
                "`window` must be at least 2: a token and the one before it. "
                f"Received: window={config['window']!r}"
            )

    @classmethod
    def num_blocks(cls, config: dict[str, Any]) -> int:
        return 1  # all layers read one window

    @classmethod
    def block_config(cls, index: int, num_layers: int, **sizes: Any) -> dict[str, Any]:
        return {"num_layers": num_layers, **sizes}


@keras.saving.register_keras_serializable(package="keras_agalite")
class TrMRL(SequenceMemory):
    """TrMRL: a transformer over the last few steps, for learning to learn.

    `return_sequences` is True unless told otherwise.

    The window of step t holds the last `window` tokens x of the trial, this one last,
    in places 0, 1, ... from the oldest. With P the sines and cosines of a place:

        h = E x + P[place]
        h = h + W_o attention(h)               in each layer, over earlier places
        h = h + W_2 relu(W_1 h)

    The output is that of the last place. There is no layer normalisation: the initial
    weights are those of T-Fixup. The window is computed anew in each step, from the
    tokens: a token's place falls as it ages, and a step depends on `window` tokens,
    however many layers there are.

    A token holds an observation with the previous action and reward
    (`PreviousActionReward`). In meta-RL a trial is several episodes of one task: give
    `start` once a trial, not once an episode, and let the observation say where an
    episode ends. The authors' code empties the window at every episode.

    Melo, "Transformers are Meta-Reinforcement Learners", ICML 2022, arXiv 2206.06614;
    T-Fixup: Huang et al., "Improving Transformer Optimization Through Better
    Initialization", ICML 2020.

    Args:
        num_layers: Number of layers.
        hidden_dim: Width of the tokens and of the output; a multiple of `num_heads`.
        num_heads: Number of attention heads.
        window: Tokens that a step sees, its own among them; at least 2.
        intermediate_dim: Width of the feed-forward.
        **kwargs: Arguments of `MemoryRNN`.

    Call arguments, returns and errors: as in `MemoryRNN`. The state is a list of one
    tensor of shape `(batch, (window - 1) * hidden_dim + 1)`: E x of the last tokens,
    the newest last, and how many of them there are.

    Example:

    >>> memory = TrMRL(num_layers=2, return_state=True)
    >>> outputs, *state = memory(np.random.normal(size=(8, 32, 16)))
    >>> outputs, *state = memory(next_inputs, initial_state=state, start=start)
    """

    short_name = "trmrl"
    cell_class = TrMRLCell

    def __init__(
        self,
        num_layers: int = 4,
        *,
        hidden_dim: int = 128,
        num_heads: int = 4,
        window: int = 5,
        intermediate_dim: int = 512,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_layers=num_layers,
            hidden_dim=hidden_dim,
            num_heads=num_heads,
            window=window,
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
            "window": 5,
            "intermediate_dim": 4 * hidden_dim,
        }
