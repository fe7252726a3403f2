"""Initial weights drawn with NumPy.

They follow from Keras's seed, so `keras.utils.set_random_seed(0)` gives the same fresh
weights on every backend, and nothing is compiled to draw them. Where weights are
loaded anyway, `without_draws()` leaves the draws out.
"""

import abc
import contextlib
import contextvars
import math
import random
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

# What backends count with 32 bits.
MAX_NUMBERS = 2**31 - 1
# Keeps the scale of what passes through a dense layer and a ReLU.
RELU_GAIN = math.sqrt(2.0)

_DRAWS = contextvars.ContextVar("keras_agalite_draws", default=True)


@contextlib.contextmanager
def without_draws() -> Iterator[None]:
    """Inside, random initial weights are zeros, and no random number is drawn.

    For weights that are read from a file at once. It holds for layers whose initial
    weights come from this module, in this thread.

    Example:

    >>> with without_draws():
    ...     memory = AGaLiTe(num_layers=2)
    ...     memory.build((None, None, 16))
    >>> memory.load_weights("memory.weights.h5")
    """
    token = _DRAWS.set(False)
    try:
        yield
    finally:
        _DRAWS.reset(token)


def default_seed() -> int:
    """A seed that follows from `keras.utils.set_random_seed`, as those of Keras do.

    Keras's own initializers take their seeds from Python's generator, too. Inside
    `without_draws()` it is 0, and the generator stays where it is.
    """
    return random.randint(1, 10**9) if _DRAWS.get() else 0


class NumpyInitializer(keras.initializers.Initializer, abc.ABC):
    """Base of the initializers whose values NumPy computes.

    Call arguments:
        shape: Shape of the weight.
        dtype: Its dtype; Keras's `floatx()` if None.

    Returns:
        A tensor. The values are computed in float64 and rounded once or, in half
        precision, by way of float32.

    Raises:
        ValueError: If the weight has more than `MAX_NUMBERS` numbers.
    """

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        dtype = keras.backend.standardize_dtype(dtype or keras.config.floatx())
        if math.prod(shape) > MAX_NUMBERS:
            raise ValueError(
                f"A weight must have at most {MAX_NUMBERS:,} numbers. Received: "
                f"shape={tuple(shape)}"
            )
        values = self.values(tuple(shape))
        # NumPy knows no bfloat16; the backend rounds from float32.
        values = values.astype("float64" if dtype == "float64" else "float32")
        return ops.convert_to_tensor(values, dtype=dtype)

    @abc.abstractmethod
    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        """The values as an array of this shape."""


@keras.saving.register_keras_serializable(package="keras_agalite")
class Constant(NumpyInitializer):
    """One number everywhere, or given numbers.

    Args:
        value: Number, or array of the weight's shape (or one that broadcasts to it).
    """

    def __init__(self, value: Any = 0.0) -> None:
        self.value = value

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.broadcast_to(np.asarray(self.value, "float64"), shape)

    def get_config(self) -> dict[str, Any]:
        return {"value": np.asarray(self.value).tolist()}


@keras.saving.register_keras_serializable(package="keras_agalite")
class Zeros(NumpyInitializer):
    """Zeros, which JAX would compile a program for each shape to make."""

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape)


@keras.saving.register_keras_serializable(package="keras_agalite")
class Ones(NumpyInitializer):
    """Ones, which JAX would compile a program for each shape to make."""

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.ones(shape)


class RandomInitializer(NumpyInitializer):
    """Base of the initializers that draw.

    As in Keras, an initializer gives the same values whenever it is called again, so
    each weight needs its own. Inside `without_draws()` all values are zero.

    Args:
        seed: Integer. If None, `default_seed()` gives one at the first draw.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._init_seed = seed
        self.seed = seed

    def values(self, shape: tuple[int, ...]) -> np.ndarray:
        if not _DRAWS.get():
            return np.zeros(shape)
        if self.seed is None:
            self.seed = default_seed()
        return self.draw(np.random.default_rng(self.seed), shape)

    @abc.abstractmethod
    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Any:
        """Draws an array of this shape."""

    def get_config(self) -> dict[str, Any]:
        return {"seed": self._init_seed}


@keras.saving.register_keras_serializable(package="keras_agalite")
class Normal(RandomInitializer):
    """A normal distribution around zero.

    Args:
        stddev: Its standard deviation.
        seed: As in `RandomInitializer`.
    """

    def __init__(self, stddev: float = 1.0, seed: int | None = None) -> None:
        super().__init__(seed)
        self.stddev = stddev

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Any:
        return generator.normal(0.0, self.stddev, shape)

    def get_config(self) -> dict[str, Any]:
        return {"stddev": self.stddev, **super().get_config()}


@keras.saving.register_keras_serializable(package="keras_agalite")
class Uniform(RandomInitializer):
    """Evenly between two numbers.

    Args:
        low: The lower one.
        high: The higher one.
        seed: As in `RandomInitializer`.
    """

    def __init__(self, low: float, high: float, seed: int | None = None) -> None:
        super().__init__(seed)
        self.low, self.high = low, high

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Any:
        return generator.uniform(self.low, self.high, shape)

    def get_config(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high, **super().get_config()}


@keras.saving.register_keras_serializable(package="keras_agalite")
class LecunNormal(RandomInitializer):
    """Keeps the variance of what passes through, as Keras's `LecunNormal` does.

    A normal distribution of variance 1 / fan-in, cut off at two standard deviations:
    LeCun et al., "Efficient BackProp", 1998.

    Args:
        seed: As in `RandomInitializer`.
    """

    # Standard deviation of a standard normal distribution that is cut off at 2.
    cut_stddev = 0.87962566103423978

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Any:
        values = generator.standard_normal(shape)
        while np.any(outside := np.abs(values) > 2.0):
            values[outside] = generator.standard_normal(np.count_nonzero(outside))
        fan_in, _ = _fans(shape)
        return values / (self.cut_stddev * math.sqrt(fan_in))


@keras.saving.register_keras_serializable(package="keras_agalite")
class GlorotUniform(RandomInitializer):
    """Keeps variances forwards and backwards, as Keras's `GlorotUniform` does.

    Evenly between -a and a with a^2 = 6 / (fan-in + fan-out): Glorot and Bengio,
    "Understanding the difficulty of training deep feedforward neural networks",
    AISTATS 2010.

    Args:
        seed: As in `RandomInitializer`.
    """

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Any:
        limit = math.sqrt(6.0 / sum(_fans(shape)))
        return generator.uniform(-limit, limit, shape)


@keras.saving.register_keras_serializable(package="keras_agalite")
class FanInUniform(RandomInitializer):
    """Evenly between -a and a with a^2 = 1 / fan-in, as PyTorch's linear layers begin.

    Args:
        seed: As in `RandomInitializer`.
    """

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Any:
        fan_in, _ = _fans(shape)
        limit = 1.0 / math.sqrt(fan_in)
        return generator.uniform(-limit, limit, shape)


@keras.saving.register_keras_serializable(package="keras_agalite")
class Orthogonal(RandomInitializer):
    """An orthogonal matrix, or as many orthogonal rows or columns as there can be.

    All axes but the last count as one: Saxe et al., "Exact solutions to the nonlinear
    dynamics of learning in deep linear neural networks", ICLR 2014, arXiv 1312.6120.

    Args:
        gain: What the matrix is multiplied by.
        seed: As in `RandomInitializer`.

    Raises:
        ValueError: If the weight has fewer than two axes.
    """

    def __init__(self, gain: float = 1.0, seed: int | None = None) -> None:
        super().__init__(seed)
        self.gain = gain

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Any:
        if len(shape) < 2:
            raise ValueError(
                "An orthogonal weight must have at least two axes. "
                f"Received: shape={shape}"
            )
        rows, columns = math.prod(shape[:-1]), shape[-1]
        return self.matrix(generator, rows, columns).reshape(shape)

    def matrix(self, generator: np.random.Generator, rows: int, columns: int) -> Any:
        tall = (max(rows, columns), min(rows, columns))
        q, r = np.linalg.qr(generator.standard_normal(tall))
        # With these signs every orthogonal matrix is equally likely.
        q *= self.gain * np.sign(np.diag(r))
        return q if rows >= columns else q.T

    def get_config(self) -> dict[str, Any]:
        return {"gain": self.gain, **super().get_config()}


@keras.saving.register_keras_serializable(package="keras_agalite")
class OrthogonalBlocks(Orthogonal):
    """Several orthogonal matrices, each drawn for itself.

    They lie side by side in a weight of shape `(rows, number * width)`, or one after
    the other in a weight of shape `(number, rows, width)`.

    Args:
        width: Columns of one matrix.
        gain: What the matrices are multiplied by.
        seed: As in `RandomInitializer`.
    """

    def __init__(self, width: int, gain: float = 1.0, seed: int | None = None) -> None:
        super().__init__(gain, seed)
        self.width = width

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> Any:
        stacked = len(shape) == 3
        rows = shape[-2]
        number = shape[0] if stacked else shape[-1] // self.width
        blocks = [self.matrix(generator, rows, self.width) for _ in range(number)]
        return np.stack(blocks) if stacked else np.concatenate(blocks, axis=1)

    def get_config(self) -> dict[str, Any]:
        return {"width": self.width, **super().get_config()}


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Inputs and outputs of one unit of a dense or convolutional kernel."""
    if len(shape) < 2:
        return math.prod(shape), math.prod(shape)
    field = math.prod(shape[:-2])
    return field * shape[-2], field * shape[-1]
