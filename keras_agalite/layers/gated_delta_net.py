"""Gated DeltaNet: the block, the cell that takes one step, the layer."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_agalite.layers.block_cell import BlockCell
from keras_agalite.layers.counting import count_dense
from keras_agalite.layers.initializers import RandomInitializer, Uniform
from keras_agalite.layers.residual_block import ResidualBlock
from keras_agalite.layers.sequence_memory import SequenceMemory
from keras_agalite.ops.gated_delta_rule import gated_delta_rule
from keras_agalite.ops.precision import at_least_float32
from keras_agalite.ops.short_convolution import short_convolution


@keras.saving.register_keras_serializable(package="keras_agalite")
class GatedDeltaNetBlock(ResidualBlock):
    """One block of Gated DeltaNet: the recurrence and a gated feed-forward.

        e = W_emb x                            (with `embed`, else e = x)
        h = e + attention(norm(e))
        y = h + W_3 (silu(W_1 n) * W_2 n)      n = norm(h)

    The norms divide by the root mean square; attention is as in `GatedDeltaNet`.

    Call arguments and returns: as in `Block`. The state holds the matrices of
    all heads, then the last inputs of the convolution, the oldest first.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        head_dim: int,
        value_expansion: int,
        conv_size: int,
        intermediate_dim: int,
        embed: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(hidden_dim, intermediate_dim, embed, **kwargs)
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.value_dim = value_expansion * head_dim
        self.conv_size = conv_size
        width = num_heads * self.value_dim
        # Query, key, value: each for all heads.
        self.channels = 2 * num_heads * head_dim + width
        self.matrix_size = width * head_dim
        self.state_size = self.matrix_size + (conv_size - 1) * self.channels
        self.projection = self.dense(self.channels, "projection", use_bias=False)
        # Decay, beta.
        self.gates = self.dense(2 * num_heads, "gates", use_bias=False)
        self.output_gate = self.dense(width, "output_gate", "silu", use_bias=False)
        self.read_norm = self.norm("read_norm")
        self.mix_output = self.dense(hidden_dim, "mix_output", use_bias=False)

    def norm(self, name: str) -> Any:
        norm = keras.layers.RMSNormalization(
            epsilon=1e-6, name=name, dtype=self.dtype_policy
        )
        norm.supports_masking = True  # Keras does not say so, and warns of a mask
        return norm

    @classmethod
    def count_norm(cls, width: int) -> int:
        return width

    def add_feedforward(self, intermediate_dim: int) -> None:
        # Gate, value.
        self.feedforward_intermediate = self.dense(
            2 * intermediate_dim, "feedforward_intermediate", use_bias=False
        )
        self.feedforward_output = self.dense(
            self.hidden_dim, "feedforward_output", use_bias=False
        )

    @classmethod
    def count_feedforward(cls, hidden_dim: int, intermediate_dim: int) -> int:
        return 3 * count_dense(hidden_dim, intermediate_dim, use_bias=False)

    def feedforward(self, x: Any) -> Any:
        gate, value = ops.split(self.feedforward_intermediate(x), 2, axis=-1)
        return self.feedforward_output(ops.silu(gate) * value)

    def build_mix(self, shape: Any) -> None:
        for layer in (self.projection, self.gates, self.output_gate):
            layer.build(shape)
        self.read_norm.build((*shape[:-1], self.num_heads, self.value_dim))
        self.mix_output.build((*shape[:-1], self.num_heads * self.value_dim))
        limit = 1 / math.sqrt(self.conv_size)
        self.conv_kernel = self.add_weight(
            name="conv_kernel",
            shape=(self.conv_size, self.channels),
            initializer=Uniform(-limit, limit),
        )
        self.rate_log = self.add_weight(
            name="rate_log", shape=(self.num_heads,), initializer=RateInitializer()
        )
        self.step_bias = self.add_weight(
            name="step_bias", shape=(self.num_heads,), initializer=StepInitializer()
        )

    @classmethod
    def count_mix(cls, hidden_dim: int, **config: Any) -> int:
        heads = config["num_heads"]
        keys = heads * config["head_dim"]
        values = keys * config["value_expansion"]
        channels = 2 * keys + values
        outwards = channels + 2 * heads + values
        return (
            count_dense(hidden_dim, outwards, use_bias=False)
            + config["conv_size"] * channels
            + 2 * heads
            + cls.count_norm(config["head_dim"] * config["value_expansion"])
            + count_dense(values, hidden_dim, use_bias=False)
        )

    def mix(self, x: Any, state: Any, start: Any, mask: Any) -> Any:
        dtype = at_least_float32(self.compute_dtype)
        batch, length = ops.shape(x)[:2]

        def by_head(y: Any) -> Any:
            width = y.shape[-1] // self.num_heads
            return ops.reshape(y, (batch, length, self.num_heads, width))

        matrix = ops.reshape(
            state[:, : self.matrix_size],
            (-1, self.num_heads, self.value_dim, self.head_dim),
        )
        window = ops.reshape(
            state[:, self.matrix_size :], (batch, self.conv_size - 1, self.channels)
        )
        mixed, window = short_convolution(
            ops.cast(self.projection(x), dtype),
            ops.cast(self.conv_kernel, dtype),
            ops.cast(window, dtype),
            start,
            mask,
        )
        width = self.num_heads * self.head_dim
        query, key, value = (
            by_head(y) for y in ops.split(ops.silu(mixed), [width, 2 * width], axis=-1)
        )
        decay, beta = ops.split(ops.cast(self.gates(x), dtype), 2, axis=-1)
        rate, bias = (ops.cast(w, dtype) for w in (self.rate_log, self.step_bias))
        read, matrix = gated_delta_rule(
            l2_normalize(query),
            l2_normalize(key),
            value,
            ops.exp(-ops.exp(rate) * ops.softplus(decay + bias)),
            ops.sigmoid(beta),
            matrix,
            start=start,
            mask=mask,
        )
        read = self.read_norm(read) * by_head(self.output_gate(x))
        read = ops.reshape(read, (batch, length, self.num_heads * self.value_dim))
        parts = [
            ops.reshape(matrix, (-1, self.matrix_size)),
            ops.reshape(
                ops.cast(window, matrix.dtype),
                (batch, (self.conv_size - 1) * self.channels),
            ),
        ]
        return self.mix_output(read), ops.concatenate(parts, axis=1)


def l2_normalize(x: Any) -> Any:
    """Vectors of length 1 along the last axis, as near as the zero vector allows."""
    return x * ops.rsqrt(ops.sum(x * x, axis=-1, keepdims=True) + 1e-6)


@keras.saving.register_keras_serializable(package="keras_agalite")
class RateInitializer(RandomInitializer):
    """log A, with A evenly between 1 and 16, as in Mamba-2.

    Args:
        seed: As in `RandomInitializer`.
    """

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Any:
        return np.log(generator.uniform(1.0, 16.0, shape))


@keras.saving.register_keras_serializable(package="keras_agalite")
class StepInitializer(RandomInitializer):
    """b, with softplus(b) between 0.001 and 0.1, evenly in the logarithm.

    Args:
        seed: As in `RandomInitializer`.
    """

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Any:
        step = np.exp(generator.uniform(np.log(1e-3), np.log(0.1), shape))
        return np.log(np.expm1(step))


@keras.saving.register_keras_serializable(package="keras_agalite")
class GatedDeltaNetCell(BlockCell):
    """One step of Gated DeltaNet, as a Keras RNN cell.

    It runs in a stock `keras.layers.RNN` and, with episode starts, in `MemoryRNN`;
    `GatedDeltaNet` holds the same weights and runs whole sequences at once. Inside a
    stock `keras.layers.RNN` the state takes the dtype that the RNN gives it, so use a
    float32 policy there.

    Args: those of `GatedDeltaNet`, with the same defaults.

    Call arguments, returns and errors: as in `SequenceCell`.
    """

    block_class = GatedDeltaNetBlock
    needs_valid_first = True  # the convolution sees the steps just before


@keras.saving.register_keras_serializable(package="keras_agalite")
class GatedDeltaNet(SequenceMemory):
    """Gated DeltaNet: a matrix that fades and is corrected key by key.

    `return_sequences` is True unless told otherwise.

    For each head, with n_t the normalised input of the block, conv a convolution over
    the last `conv_size` steps, each channel for itself, and unit a division by the
    Euclidean length:

        q_t = unit(silu(conv(W_q n)_t))    k_t = unit(silu(conv(W_k n)_t))
        v_t = silu(conv(W_v n)_t)
        alpha_t = exp(-A softplus(w_a . n_t + b))    beta_t = sigmoid(w_b . n_t)
        S_t = alpha_t S_(t-1) (I - beta_t k_t k_t^T) + beta_t v_t k_t^T
        attention_t = W_o (norm(S_t q_t) * silu(W_g n_t))

    norm divides by the root mean square. The block is that of the paper: attention,
    then a feed-forward with a gate, both normalised first and with a skip. The inputs
    that the convolution needs are part of the state, and a start empties them too.

    Yang et al., "Gated Delta Networks: Improving Mamba2 with Delta Rule", ICLR 2025,
    arXiv 2412.06464; alpha and its initial values: Dao and Gu, "Transformers are
    SSMs", ICML 2024, arXiv 2405.21060.

    Args:
        num_layers: Number of blocks.
        hidden_dim: Width of the residual stream and of the output.
        num_heads: Number of heads.
        head_dim: Width of the queries and keys of one head.
        value_expansion: Width of its values, as a multiple of `head_dim`.
        conv_size: Steps that the convolution sees, this one among them.
        intermediate_dim: Width of the feed-forward.
        **kwargs: Arguments of `MemoryRNN`.

    Call arguments, returns and errors: as in `MemoryRNN`. The state is a list of
    `num_layers` tensors of shape `(batch, size)`.

    Example:

    >>> memory = GatedDeltaNet(num_layers=2, return_state=True)
    >>> outputs, *state = memory(np.random.normal(size=(8, 32, 16)))
    >>> outputs, *state = memory(next_inputs, initial_state=state, start=start)
    """

    short_name = "gated_delta_net"
    cell_class = GatedDeltaNetCell

    def __init__(
        self,
        num_layers: int = 4,
        *,
        hidden_dim: int = 128,
        num_heads: int = 4,
        head_dim: int = 32,
        value_expansion: int = 2,
        conv_size: int = 4,
        intermediate_dim: int = 256,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_layers=num_layers,
            hidden_dim=hidden_dim,
            num_heads=num_heads,
            head_dim=head_dim,
            value_expansion=value_expansion,
            conv_size=conv_size,
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
            "head_dim": head_dim // 2,
            "value_expansion": 2,
            "conv_size": 4,
            "intermediate_dim": hidden_dim,
        }
