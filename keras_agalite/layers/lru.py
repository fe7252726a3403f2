"""LRU: the block, the cell that takes one step, the layer that takes many."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_agalite.layers.block_cell import BlockCell
from keras_agalite.layers.counting import count_dense
from keras_agalite.layers.initializers import Normal, RandomInitializer, default_seed
from keras_agalite.layers.residual_block import ResidualBlock
from keras_agalite.layers.sequence_memory import SequenceMemory
from keras_agalite.ops.episodes import repeat_in_time
from keras_agalite.ops.linear_scan import COMPLEX, linear_scan
from keras_agalite.ops.precision import at_least_float32


@keras.saving.register_keras_serializable(package="keras_agalite")
class LRUBlock(ResidualBlock):
    """One block of LRU: norm, recurrence, gated linear unit, skip; see `LRU`.

    Call arguments and returns: as in `Block`. The state holds the real parts
    of h, then the imaginary ones.
    """

    def __init__(
        self,
        hidden_dim: int,
        state_dim: int,
        r_min: float,
        r_max: float,
        max_phase: float,
        embed: bool,
        **kwargs: Any,
    ) -> None:
        super().__init__(hidden_dim, None, embed, **kwargs)
        self.state_dim = state_dim
        self.state_size = 2 * state_dim
        self.r_min, self.r_max, self.max_phase = r_min, r_max, max_phase
        # B and C: real parts, then imaginary ones (of C with a minus).
        self.input_projection = self.dense(
            2 * state_dim,
            "input_projection",
            initializer=Normal(1 / math.sqrt(2 * hidden_dim)),
            use_bias=False,
        )
        self.state_projection = self.dense(
            hidden_dim,
            "state_projection",
            initializer=Normal(1 / math.sqrt(state_dim)),
            use_bias=False,
        )
        # Value, gate.
        self.gated_unit = self.dense(2 * hidden_dim, "gated_unit")

    def build_mix(self, shape: Any) -> None:
        self.input_projection.build(shape)
        self.state_projection.build((*shape[:-1], self.state_size))
        self.gated_unit.build(shape)
        seed = default_seed()  # one, since the three belong together
        self.nu_log, self.theta_log, self.gamma_log = (
            self.add_weight(
                name=name,
                shape=(self.state_dim,),
                initializer=RingInitializer(
                    name, self.r_min, self.r_max, self.max_phase, seed
                ),
            )
            for name in RingInitializer.names
        )
        self.feedthrough = self.add_weight(
            name="feedthrough", shape=(self.hidden_dim,), initializer=Normal(1.0)
        )

    @classmethod
    def count_mix(cls, hidden_dim: int, **config: Any) -> int:
        state_dim = config["state_dim"]
        return (
            4 * hidden_dim * state_dim
            + 3 * state_dim
            + hidden_dim
            + count_dense(hidden_dim, 2 * hidden_dim)
        )

    def mix(self, x: Any, state: Any, start: Any, mask: Any) -> Any:
        u = self.input_projection(x)
        u = ops.cast(u, at_least_float32(u.dtype))
        nu, theta, gamma = (
            ops.exp(ops.cast(w, u.dtype))
            for w in (self.nu_log, self.theta_log, self.gamma_log)
        )
        radius = ops.exp(-nu)
        rates = [radius * ops.cos(theta), radius * ops.sin(theta)]
        real, imaginary = ops.split(u, 2, axis=-1)
        inputs = [
            gamma * real,
            gamma * imaginary,
            *(repeat_in_time(rate, u) for rate in rates),
        ]

        carry = ops.split(state, 2, axis=-1)
        read, carry = linear_scan(
            lambda inputs: (inputs[2:], inputs[:2]),
            lambda carry, inputs: ops.concatenate(carry, axis=-1),
            carry,
            inputs,
            start,
            mask,
            product=COMPLEX,
        )
        y = self.state_projection(read) + ops.cast(self.feedthrough, x.dtype) * x
        y = ops.gelu(y, approximate=False)
        value, gate = ops.split(self.gated_unit(y), 2, axis=-1)
        return value * ops.sigmoid(gate), ops.concatenate(carry, axis=-1)


@keras.saving.register_keras_serializable(package="keras_agalite")
class RingInitializer(RandomInitializer):
    """nu, theta or gamma of an LRU: lambda lies evenly in a ring.

    Args:
        name: Which of the three: `"nu_log"`, `"theta_log"` or `"gamma_log"`. With the
            same seed they belong together.
        r_min: Inner radius of the ring.
        r_max: Its outer radius.
        max_phase: Largest phase, in radians.
        seed: As in `RandomInitializer`.
    """

    names = ("nu_log", "theta_log", "gamma_log")

    def __init__(
        self,
        name: str,
        r_min: float,
        r_max: float,
        max_phase: float,
        seed: int | None = None,
    ) -> None:
        super().__init__(seed)
        self.name = name
        self.r_min, self.r_max, self.max_phase = r_min, r_max, max_phase

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Any:
        (size,) = shape
        values = sample_ring(generator, size, self.r_min, self.r_max, self.max_phase)
        return values[self.names.index(self.name)]

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "r_min": self.r_min,
            "r_max": self.r_max,
            "max_phase": self.max_phase,
            **super().get_config(),
        }


def sample_ring(
    generator: np.random.Generator,
    size: int,
    r_min: float,
    r_max: float,
    max_phase: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws nu, theta and gamma, as logarithms: lambda lies evenly in a ring.

    Args:
        generator: Where the draws come from.
        size: Number of lambdas.
        r_min: Inner radius of the ring.
        r_max: Its outer radius.
        max_phase: Largest phase, in radians.

    Returns:
        Three arrays of shape `(size,)`.
    """
    draws = generator.uniform(1e-6, 1 - 1e-6, (2, size))
    squares = r_min**2 + (r_max**2 - r_min**2) * draws[0]
    nu_log = np.log(-0.5 * np.log(squares))
    return nu_log, np.log(max_phase * draws[1]), 0.5 * np.log(1 - squares)


@keras.saving.register_keras_serializable(package="keras_agalite")
class LRUCell(BlockCell):
    """One step of LRU, as a Keras RNN cell.

    It runs in a stock `keras.layers.RNN` and, with episode starts, in `MemoryRNN`;
    `LRU` holds the same weights and runs whole sequences at once. Inside a stock
    `keras.layers.RNN` the state takes the dtype that the RNN gives it, so use a
    float32 policy there.

    Args: those of `LRU`, with the same defaults.

    Call arguments, returns and errors: as in `SequenceCell`.
    """

    block_class = LRUBlock
    float_args = ("r_min", "r_max", "max_phase")

    @classmethod
    def check_config(cls, config: dict[str, Any]) -> None:
        super().check_config(config)
        r_min, r_max, max_phase = (config[name] for name in cls.float_args)
        numbers = (r_min, r_max, max_phase)
        if not all(isinstance(x, int | float) for x in numbers) or not (
            0 <= r_min < r_max <= 1 and 0 < max_phase <= 2 * math.pi
        ):
            raise ValueError(
                "`r_min`, `r_max` and `max_phase` must fit 0 <= r_min < r_max <= 1 "
                f"and 0 < max_phase <= 2 pi. Received: r_min={r_min!r}, "
                f"r_max={r_max!r}, max_phase={max_phase!r}"
            )


@keras.saving.register_keras_serializable(package="keras_agalite")
class LRU(SequenceMemory):
    """LRU, the linear recurrent unit: a complex, diagonal recurrence.

    `return_sequences` is True unless told otherwise.

        lambda = exp(-exp(nu) + i exp(theta))
        h_t = lambda * h_(t-1) + exp(gamma) * B n_t          n_t = LN(x_t)
        y_t = Re(C h_t) + D * n_t
        output = x_t + W_1 gelu(y_t) * sigmoid(W_2 gelu(y_t))

    nu, theta, gamma and D are vectors, B and C complex matrices. At the start lambda
    lies evenly in the ring between the radii `r_min` and `r_max`, with phases up to
    `max_phase`, and exp(gamma) is sqrt(1 - |lambda|^2). Before the first block a
    dense layer brings the inputs to the width of the stream.

    Orvieto et al., "Resurrecting Recurrent Neural Networks for Long Sequences", ICML
    2023, arXiv 2303.06349, without its dropout and with layer normalisation.

    Args:
        num_layers: Number of blocks.
        hidden_dim: Width of the residual stream and of the output.
        state_dim: Number of complex numbers in h.
        r_min: Smallest absolute value of lambda at the start.
        r_max: Largest one, at most 1.
        max_phase: Largest phase of lambda at the start, in radians.
        **kwargs: Arguments of `MemoryRNN`.

    Call arguments, returns and errors: as in `MemoryRNN`. The state is a list of
    `num_layers` tensors of shape `(batch, 2 * state_dim)`, real parts first.

    Raises:
        ValueError: If a size is not a positive integer or the ring is not one.

    Example:

    >>> memory = LRU(num_layers=2, r_min=0.9, max_phase=0.3, return_state=True)
    >>> outputs, *state = memory(np.random.normal(size=(8, 32, 16)))
    >>> outputs, *state = memory(next_inputs, initial_state=state, start=start)
    """

    short_name = "lru"
    cell_class = LRUCell

    def __init__(
        self,
        num_layers: int = 4,
        *,
        hidden_dim: int = 128,
        state_dim: int = 128,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 2 * math.pi,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_layers=num_layers,
            hidden_dim=hidden_dim,
            state_dim=state_dim,
            r_min=r_min,
            r_max=r_max,
            max_phase=max_phase,
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
            "state_dim": hidden_dim,
            "r_min": 0.0,
            "r_max": 1.0,
            "max_phase": 2 * math.pi,
        }
