"""Action heads: features to a distribution over actions.

The parameters of a distribution are one tensor, `(..., num_parameters)`. Actions
are drawn with NumPy, so that every backend chooses the same ones.
"""

import abc
import math
from typing import Any

import gymnasium
import keras
import numpy as np
from gymnasium import spaces
from keras import ops

from keras_agalite.layers.initializers import RELU_GAIN, Orthogonal


class ActionHead(keras.layers.Layer, abc.ABC):
    """Base of the action heads: one hidden layer, then the parameters.

    Args:
        action_space: A gymnasium space.
        units: Width of the hidden layer.
        activation: Activation of the hidden layer.

    Call arguments:
        features: Tensor of shape `(..., size)`.

    Returns:
        Tensor of shape `(..., num_parameters)`, float32.
    """

    noise: str  # the distribution of the noise that `choose` takes

    def __init__(
        self,
        action_space: gymnasium.Space[Any],
        num_outputs: int,
        units: int,
        activation: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.action_space = action_space
        self.num_parameters = num_outputs
        self.noise_size = num_outputs
        # Actions begin nearly equally likely, which explores best: Andrychowicz et
        # al., "What Matters in On-Policy Reinforcement Learning?", ICLR 2021.
        self.hidden, self.output_layer = mlp(
            units, activation, num_outputs, self.dtype_policy, gain=0.01
        )

    def build(self, features_shape: Any) -> None:
        self.hidden.build(features_shape)
        self.output_layer.build((*features_shape[:-1], self.hidden.units))

    def call(self, features: Any) -> Any:
        return ops.cast(self.output_layer(self.hidden(features)), "float32")

    @abc.abstractmethod
    def sample(self, parameters: np.ndarray, noise: np.random.Generator) -> np.ndarray:
        """Draws actions for parameters `(batch, num_parameters)`."""

    @abc.abstractmethod
    def mode(self, parameters: np.ndarray) -> np.ndarray:
        """The most likely actions for parameters `(batch, num_parameters)`."""

    @abc.abstractmethod
    def choose(self, parameters: Any, noise: Any) -> Any:
        """Draws actions inside a compiled program, from noise that is given.

        Args:
            parameters: Tensor of shape `(..., num_parameters)`.
            noise: Tensor of shape `(..., noise_size)`, drawn from the distribution
                that `noise` names: "gumbel" or "normal".

        Returns:
            Actions whose `log_prob` is that of the draw; `clip` makes them the
            environment's.
        """

    def clip(self, actions: Any) -> Any:
        """The actions in the bounds of the action space."""
        return actions

    @abc.abstractmethod
    def most_likely(self, parameters: Any) -> Any:
        """What `mode` gives, of the shape `(batch, num_parameters)`, for tensors."""

    @abc.abstractmethod
    def log_prob(self, parameters: Any, actions: Any) -> Any:
        """Log-probability (density) of actions, of shape `(...)`, differentiable."""

    @abc.abstractmethod
    def entropy(self, parameters: Any) -> Any:
        """Entropy in nats, of shape `(...)`, differentiable."""


def mlp(
    units: int, activation: str, outputs: int, dtype: Any, gain: float = RELU_GAIN
) -> Any:
    """A hidden layer and an output layer, whose weights begin with the gain."""
    return (
        keras.layers.Dense(
            units, activation, kernel_initializer=Orthogonal(RELU_GAIN), dtype=dtype
        ),
        keras.layers.Dense(outputs, kernel_initializer=Orthogonal(gain), dtype=dtype),
    )


class MultiDiscreteHead(ActionHead):
    """Independent categories, the logits of all of them side by side."""

    noise = "gumbel"

    def __init__(self, action_space: Any, units: int, activation: str, **kwargs: Any):
        self.sizes = [int(n) for n in np.atleast_1d(action_space.nvec)]
        super().__init__(action_space, sum(self.sizes), units, activation, **kwargs)
        self.splits = [int(i) for i in np.cumsum(self.sizes)[:-1]]

    def sample(self, parameters: np.ndarray, noise: np.random.Generator) -> np.ndarray:
        # The Gumbel-max trick draws from softmax(parameters).
        return self.mode(parameters + noise.gumbel(size=parameters.shape))

    def mode(self, parameters: np.ndarray) -> np.ndarray:
        parts = np.split(parameters, self.splits, axis=-1)
        return np.stack([part.argmax(-1) for part in parts], axis=-1)

    def choose(self, parameters: Any, noise: Any) -> Any:
        parts = self._parts(parameters + noise)
        return ops.stack([ops.argmax(part, axis=-1) for part in parts], axis=-1)

    def most_likely(self, parameters: Any) -> Any:
        parts = [_first_largest(part) for part in self._parts(parameters)]
        return ops.cast(ops.stack(parts, axis=-1), "int64")

    def _parts(self, parameters: Any) -> list[Any]:
        ends = np.cumsum(self.sizes)
        return [
            parameters[..., int(end) - n : int(end)]
            for n, end in zip(self.sizes, ends, strict=True)
        ]

    def log_probs(self, parameters: Any) -> list[Any]:
        return [ops.log_softmax(part, axis=-1) for part in self._parts(parameters)]

    def log_prob(self, parameters: Any, actions: Any) -> Any:
        actions = ops.cast(actions, "int32")
        return sum(
            ops.take_along_axis(part, actions[..., i : i + 1], axis=-1)[..., 0]
            for i, part in enumerate(self.log_probs(parameters))
        )

    def entropy(self, parameters: Any) -> Any:
        return sum(
            -ops.sum(ops.exp(part) * part, axis=-1)
            for part in self.log_probs(parameters)
        )


class DiscreteHead(MultiDiscreteHead):
    """One category; actions have no trailing axis and begin at `space.start`."""

    def __init__(self, action_space: Any, units: int, activation: str, **kwargs: Any):
        self.start = int(action_space.start)
        plain = spaces.MultiDiscrete([int(action_space.n)])
        super().__init__(plain, units, activation, **kwargs)
        self.action_space = action_space

    def mode(self, parameters: np.ndarray) -> np.ndarray:
        return super().mode(parameters)[..., 0] + self.start

    def choose(self, parameters: Any, noise: Any) -> Any:
        return super().choose(parameters, noise)[..., 0] + self.start

    def most_likely(self, parameters: Any) -> Any:
        return super().most_likely(parameters)[..., 0] + self.start

    def log_prob(self, parameters: Any, actions: Any) -> Any:
        return super().log_prob(parameters, actions[..., None] - self.start)


def _first_largest(x: Any) -> Any:
    """`ops.argmax` over the last axis; that of TensorFlow has no form in LiteRT."""
    size = x.shape[-1]
    index = ops.where(x >= ops.max(x, axis=-1, keepdims=True), ops.arange(size), size)
    return ops.min(index, axis=-1)


class BoxHead(ActionHead):
    """A diagonal Gaussian: the mean, and a log-deviation that no input changes.

    Actions for the environment are clipped to the box; `log_prob` is that of the
    action before clipping.
    """

    noise = "normal"

    def __init__(self, action_space: Any, units: int, activation: str, **kwargs: Any):
        self.size = math.prod(action_space.shape)
        super().__init__(action_space, self.size, units, activation, **kwargs)
        self.num_parameters = 2 * self.size
        self.noise_size = self.size

    def build(self, features_shape: Any) -> None:
        super().build(features_shape)
        self.log_std = self.add_weight(
            name="log_std", shape=(self.size,), initializer="zeros"
        )

    def call(self, features: Any) -> Any:
        mean = super().call(features)
        log_std = ops.cast(self.log_std, "float32")
        return ops.concatenate(
            [mean, ops.broadcast_to(log_std, ops.shape(mean))], axis=-1
        )

    def sample(self, parameters: np.ndarray, noise: np.random.Generator) -> np.ndarray:
        mean, log_std = np.split(parameters, 2, axis=-1)
        return self._clip(mean + np.exp(log_std) * noise.normal(size=mean.shape))

    def mode(self, parameters: np.ndarray) -> np.ndarray:
        return self._clip(np.split(parameters, 2, axis=-1)[0])

    def _clip(self, actions: np.ndarray) -> np.ndarray:
        space: Any = self.action_space
        actions = actions.reshape(-1, *space.shape)
        return np.clip(actions, space.low, space.high).astype(space.dtype)

    def choose(self, parameters: Any, noise: Any) -> Any:
        mean, log_std = ops.split(parameters, 2, axis=-1)
        return self._shaped(mean + ops.exp(log_std) * noise)

    def most_likely(self, parameters: Any) -> Any:
        return self.clip(self._shaped(ops.split(parameters, 2, axis=-1)[0]))

    def _shaped(self, actions: Any) -> Any:
        space: Any = self.action_space
        batch: Any = ops.shape(actions)[:-1]
        return ops.reshape(actions, (*batch, *space.shape))

    def clip(self, actions: Any) -> Any:
        space: Any = self.action_space
        clipped = ops.clip(actions, space.low, space.high)
        return ops.cast(clipped, str(space.dtype))

    def log_prob(self, parameters: Any, actions: Any) -> Any:
        mean, log_std = ops.split(parameters, 2, axis=-1)
        actions = ops.reshape(ops.cast(actions, mean.dtype), ops.shape(mean))
        z = (actions - mean) / ops.exp(log_std)
        density = -0.5 * ops.square(z) - log_std - 0.5 * math.log(2 * math.pi)
        return ops.sum(density, axis=-1)

    def entropy(self, parameters: Any) -> Any:
        _, log_std = ops.split(parameters, 2, axis=-1)
        return ops.sum(log_std + 0.5 * math.log(2 * math.pi * math.e), axis=-1)


def num_outputs(action_space: gymnasium.Space[Any]) -> tuple[int, int]:
    """Outputs of the last layer for an action space, and weights besides it.

    Raises:
        ValueError: If the space is not one of those that `action_head` takes.
    """
    match action_space:
        case spaces.Discrete():
            return int(action_space.n), 0
        case spaces.MultiDiscrete() if (
            action_space.nvec.ndim == 1 and not action_space.start.any()
        ):
            return int(action_space.nvec.sum()), 0
        case spaces.Box() if np.issubdtype(action_space.dtype, np.floating):
            size = math.prod(action_space.shape)
            return size, size
    raise ValueError(
        "Expected an action space that is Discrete, MultiDiscrete (of one axis, from "
        f"0) or a Box of floats. Received: action_space={action_space}"
    )


def action_head(
    action_space: gymnasium.Space[Any], units: int, activation: str, **kwargs: Any
) -> ActionHead:
    """The head for an action space.

    Raises:
        ValueError: If the space is not Discrete, MultiDiscrete (of one axis, from 0)
            or a Box of floats.
    """
    num_outputs(action_space)  # raises if there is no head for it
    head: Any = BoxHead
    if isinstance(action_space, spaces.Discrete):
        head = DiscreteHead
    elif isinstance(action_space, spaces.MultiDiscrete):
        head = MultiDiscreteHead
    return head(action_space, units, activation, **kwargs)
