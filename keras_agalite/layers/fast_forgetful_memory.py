"""Fast and Forgetful Memory: the block, the cell and the layer."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_agalite.layers.block_cell import Block, BlockCell
from keras_agalite.layers.counting import count_dense
from keras_agalite.layers.initializers import Constant
from keras_agalite.layers.sequence_memory import SequenceMemory
from keras_agalite.ops.episodes import repeat_in_time
from keras_agalite.ops.linear_scan import COMPLEX, linear_scan
from keras_agalite.ops.precision import at_least_float32

# The authors': their sums of 1024 steps must not overflow in float64.
FASTEST_DECAY = 0.673


@keras.saving.register_keras_serializable(package="keras_agalite")
class FastForgetfulMemoryBlock(Block):
    """One cell of the paper; see `FastForgetfulMemory`.

    Call arguments and returns: as in `Block`. The state holds the real parts
    of S, then the imaginary ones.
    """

    def __init__(
        self,
        hidden_dim: int,
        memory_size: int,
        context_size: int,
        max_period: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.memory_size = memory_size
        self.context_size = context_size
        self.max_period = max_period
        self.state_size = 2 * memory_size * context_size
        self.input_projection = self.dense(memory_size, "input_projection")
        self.input_gate = self.dense(memory_size, "input_gate", "sigmoid")
        self.state_projection = self.dense(hidden_dim, "state_projection")
        self.output_gate = self.dense(hidden_dim, "output_gate", "sigmoid")
        self.skip = self.dense(hidden_dim, "skip")
        self.state_norm = keras.layers.LayerNormalization(
            epsilon=1e-6,
            center=False,
            scale=False,
            name="state_norm",
            dtype=self.dtype_policy,
        )

    def build(
        self, inputs_shape: Any, state_shape: Any = None, start_shape: Any = None
    ) -> None:
        for layer in (
            self.input_projection,
            self.input_gate,
            self.output_gate,
            self.skip,
        ):
            layer.build(inputs_shape)
        self.state_projection.build((*inputs_shape[:-1], self.state_size))
        self.state_norm.build((*inputs_shape[:-1], self.state_projection.units))
        slowest = math.log(100) / self.max_period
        decays = np.linspace(max(slowest, FASTEST_DECAY), slowest, self.memory_size)
        self.decay = self.add_weight(
            name="decay", shape=(self.memory_size,), initializer=Constant(decays)
        )
        periods = np.linspace(1, self.max_period, self.context_size)
        self.frequency = self.add_weight(
            name="frequency",
            shape=(self.context_size,),
            initializer=Constant(2 * math.pi / periods),
        )

    @classmethod
    def count_weights(cls, features: int, **config: Any) -> int:
        hidden_dim = config["hidden_dim"]
        memory_size, context_size = config["memory_size"], config["context_size"]
        return (
            2 * count_dense(features, memory_size)
            + 2 * count_dense(features, hidden_dim)
            + count_dense(2 * memory_size * context_size, hidden_dim)
            + memory_size
            + context_size
        )

    def call(self, inputs: Any, state: Any, start: Any = None, mask: Any = None) -> Any:
        update = self.input_projection(inputs) * self.input_gate(inputs)
        update = ops.cast(update, at_least_float32(update.dtype))
        decay, frequency = (
            ops.cast(w, update.dtype) for w in (self.decay, self.frequency)
        )
        radius = ops.exp(-ops.abs(decay))[:, None]
        rates = [radius * ops.cos(frequency), radius * ops.sin(frequency)]
        shape = (-1, self.memory_size, self.context_size)

        def gates(inputs: Any) -> tuple[list[Any], list[Any]]:
            x, *rates = inputs
            x = x[:, :, None]
            return rates, [x, ops.zeros_like(x)]

        def flat(parts: Any) -> Any:
            parts = [ops.reshape(p, (-1, self.state_size // 2)) for p in parts]
            return ops.concatenate(parts, axis=-1)

        carry = [ops.reshape(s, shape) for s in ops.split(state, 2, axis=-1)]
        xs = [update, *(repeat_in_time(rate, update) for rate in rates)]
        read, carry = linear_scan(
            gates,
            lambda carry, inputs: flat(carry),
            carry,
            xs,
            start,
            mask,
            product=COMPLEX,
        )
        gate = self.output_gate(inputs)
        y = self.state_norm(self.state_projection(read)) * gate
        return y + self.skip(inputs) * (1.0 - gate), flat(carry)


@keras.saving.register_keras_serializable(package="keras_agalite")
class FastForgetfulMemoryCell(BlockCell):
    """One step of Fast and Forgetful Memory, as a Keras RNN cell.

    It runs in a stock `keras.layers.RNN` and, with episode starts, in `MemoryRNN`;
    `FastForgetfulMemory` holds the same weights and runs whole sequences at once.
    Inside a stock `keras.layers.RNN` the state takes the dtype that the RNN gives
    it, so use a float32 policy there.

    Args: those of `FastForgetfulMemory`, with the same defaults.

    Call arguments, returns and errors: as in `SequenceCell`.
    """

    block_class = FastForgetfulMemoryBlock

    @classmethod
    def block_config(cls, index: int, num_layers: int, **sizes: Any) -> dict[str, Any]:
        return sizes


@keras.saving.register_keras_serializable(package="keras_agalite")
class FastForgetfulMemory(SequenceMemory):
    """Fast and Forgetful Memory: a sum of inputs that fades and turns.

    `return_sequences` is True unless told otherwise.

    S is a complex matrix of `memory_size` by `context_size`; i is the imaginary unit:

        u_t = (W_1 x_t) * sigmoid(W_2 x_t)
        S_t[j, k] = exp(-|alpha_j| + i omega_k) S_(t-1)[j, k] + u_t[j]
        z_t = W_5 [Re S_t; Im S_t]                 (flattened)
        y_t = LN(z_t) * g_t + (W_4 x_t) * (1 - g_t)        g_t = sigmoid(W_3 x_t)

    All W have a bias, LN has no weights, alpha and omega are learned. At the start
    alpha is evenly spaced, from one that forgets within a few steps to one that keeps
    1% after `max_period` steps, and the periods 2 pi / omega are evenly spaced from 1
    to `max_period` steps.

    Morad et al., "Reinforcement Learning with Fast and Forgetful Memory", NeurIPS
    2023, arXiv 2310.04128. The authors use one layer; more of them run one on the
    other.

    Args:
        num_layers: Number of such cells.
        hidden_dim: Width of the output.
        memory_size: Rows of S: number of decays (m in the paper).
        context_size: Columns of S: number of frequencies (c in the paper).
        max_period: Longest period at the start, in steps.
        **kwargs: Arguments of `MemoryRNN`.

    Call arguments, returns and errors: as in `MemoryRNN`. The state is a list of
    `num_layers` tensors of shape `(batch, 2 * memory_size * context_size)`, real
    parts first.

    Example:

    >>> memory = FastForgetfulMemory(hidden_dim=64, return_state=True)
    >>> outputs, *state = memory(np.random.normal(size=(8, 32, 16)))
    >>> outputs, *state = memory(next_inputs, initial_state=state, start=start)
    """

    short_name = "ffm"
    cell_class = FastForgetfulMemoryCell

    def __init__(
        self,
        num_layers: int = 1,
        *,
        hidden_dim: int = 128,
        memory_size: int = 32,
        context_size: int = 4,
        max_period: int = 1024,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_layers=num_layers,
            hidden_dim=hidden_dim,
            memory_size=memory_size,
            context_size=context_size,
            max_period=max_period,
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
            "memory_size": 32,
            "context_size": 4,
            "max_period": 1024,
        }
