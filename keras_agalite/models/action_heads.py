"""Action heads: features to a distribution over actions.

The parameters of a distribution are one tensor, `(..., num_action_params)`. Actions
are drawn with NumPy, so that every backend chooses the same ones.
"""

import abc
import functools
import math
from typing import Any

import gymnasium
import keras
import numpy as np
from gymnasium import spaces
from keras import ops

from keras_agalite.layers.checks import check_sizes
from keras_agalite.layers.initializers import Zeros
from keras_agalite.models.dense import count_mlp, dense
from keras_agalite.models.spaces import space_from_config, space_to_config
from keras_agalite.ops.saved_activations import check_saved_activations

# Far below any logit, and without the NaN that -inf gives in an entropy.
IMPOSSIBLE = -1e9


class ActionHead(keras.layers.Layer, abc.ABC):
    """Base of the action heads: a hidden layer, then the distribution's parameters.

    A subclass says which spaces it is for and what the parameters mean.
    `keras_agalite.register` lets presets hold it.

    Args:
        action_space: A gymnasium space.
        units: Width of the hidden layer; 0 leaves it out.
        activation: Activation of the hidden layer.
        **kwargs: `saved_activations`, as of a `SequenceMemory`, and arguments of
            `keras.layers.Layer`.

    Call arguments:
        features: Tensor of shape `(..., size)`.

    Returns:
        Tensor of shape `(..., num_action_params)`, float32.

    Raises:
        ValueError: If the head is not for this space, or `units` is no integer of
            at least 0.

    Attributes:
        num_action_params: Parameters of the distribution of one action.
        params_per_output: How many of them an output of the last layer stands for.
        noise: Distribution of the noise that `sample` takes: `"gumbel"`, `"logistic"`
            or `"normal"`, as NumPy and JAX name it.
        noise_size: Number of draws for one action.
    """

    noise: str
    params_per_output = 1

    def __init__(
        self,
        action_space: gymnasium.Space[Any] | dict[str, Any],
        units: int = 128,
        activation: str = "tanh",
        **kwargs: Any,
    ) -> None:
        saved_activations = kwargs.pop("saved_activations", None)
        super().__init__(**kwargs)
        check_saved_activations(saved_activations)
        self.saved_activations = saved_activations
        if units != 0:
            check_sizes({"units": units})
        if isinstance(action_space, dict):
            action_space = space_from_config(action_space)
        self.action_space = action_space
        num_outputs = self.count_outputs(action_space)
        space_to_config(action_space)  # refuses what no preset holds
        self.num_action_params = self.params_per_output * num_outputs
        self.noise_size = num_outputs
        self.units, self.activation = units, activation
        # Actions begin nearly equally likely, which explores best: Andrychowicz et
        # al., "What Matters in On-Policy Reinforcement Learning?", ICLR 2021.
        dtype = self.dtype_policy
        saved = self.saved_activations
        self.hidden: Any = None
        if units:
            self.hidden = dense(units, activation, dtype, saved_activations=saved)
        self.output_layer = dense(
            num_outputs, None, dtype, gain=0.01, saved_activations=saved
        )

    @classmethod
    @abc.abstractmethod
    def count_outputs(cls, action_space: Any) -> int:
        """Outputs of the last layer, which are also the draws for one action.

        Raises:
            ValueError: If the head is not for this space.
        """

    @classmethod
    def count_weights(
        cls, features: int, action_space: Any, units: int, activation: str
    ) -> int:
        """Number of weights of a head on so many features, without building it.

        Raises:
            ValueError: If the head is not for this space.
        """
        return count_mlp(features, units, cls.count_outputs(action_space))

    def build(self, features_shape: Any) -> None:
        if self.hidden is not None:
            self.hidden.build(features_shape)
            features_shape = (*features_shape[:-1], self.units)
        self.output_layer.build(features_shape)

    def call(self, features: Any) -> Any:
        hidden = features if self.hidden is None else self.hidden(features)
        return ops.cast(self.output_layer(hidden), "float32")

    @abc.abstractmethod
    def sample(self, action_params: Any, noise: Any) -> Any:
        """Chooses actions from noise that is given, on tensors.

        Args:
            action_params: Tensor of shape `(..., num_action_params)`.
            noise: Tensor of shape `(..., noise_size)`, drawn from the distribution
                that `self.noise` names.

        Returns:
            Actions of shape `(..., *action_space.shape)` whose `log_prob` is that of
            the draw; `clip` makes them the environment's.
        """

    @abc.abstractmethod
    def mode(self, action_params: Any) -> Any:
        """The most likely actions, on tensors.

        Args:
            action_params: Tensor of shape `(batch, num_action_params)`.

        Returns:
            The environment's actions, of shape `(batch, *action_space.shape)`.
        """

    @abc.abstractmethod
    def numpy_sample(
        self, action_params: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Draws actions with NumPy.

        Args:
            action_params: Array of shape `(batch, num_action_params)`.
            rng: Source of the noise.

        Returns:
            The environment's actions, of shape `(batch, *action_space.shape)`.
        """

    @abc.abstractmethod
    def numpy_mode(self, action_params: np.ndarray) -> np.ndarray:
        """`mode` for NumPy arrays."""

    def clip(self, actions: Any) -> Any:
        """The actions in the bounds of the action space."""
        return actions

    @abc.abstractmethod
    def log_prob(self, action_params: Any, actions: Any) -> Any:
        """Log-probability, or log-density, of actions; differentiable.

        Args:
            action_params: Tensor of shape `(..., num_action_params)`.
            actions: Tensor of shape `(..., *action_space.shape)`, as `sample` gives it.

        Returns:
            Tensor of shape `(...)`.
        """

    def imitation_loss(self, action_params: Any, actions: Any) -> Any:
        """How badly actions are imitated: their log-probability with another sign.

        Args:
            action_params: Tensor of shape `(..., num_action_params)`.
            actions: The environment's actions, tensor of shape `(...,
                *action_space.shape)`.

        Returns:
            Tensor of shape `(...)`; differentiable.
        """
        return -self.log_prob(action_params, actions)

    @abc.abstractmethod
    def entropy(self, action_params: Any) -> Any:
        """Entropy in nats, of shape `(...)`; differentiable."""

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "action_space": space_to_config(self.action_space),
            "units": self.units,
            "activation": self.activation,
            "saved_activations": self.saved_activations,
        }


def mask_logits(logits: Any, mask: Any) -> Any:
    """Makes actions impossible, with finite logits and gradients.

    Args:
        logits: Tensor of shape `(..., n)`.
        mask: Tensor of shape `(..., n)`, zero where an action is not legal.

    Returns:
        The logits, and -1e9 where an action is not legal: it is never drawn, and gives
        nothing to an entropy or a divergence.
    """
    # A Python number would be of Keras's floatx.
    impossible = ops.convert_to_tensor(IMPOSSIBLE, logits.dtype)
    return ops.where(ops.cast(mask, "bool"), logits, impossible)


@keras.saving.register_keras_serializable(package="keras_agalite")
class MultiDiscreteHead(ActionHead):
    """Independent categories, the logits of all of them side by side.

    Args:
        action_space: A `MultiDiscrete` space of one axis.
        units: Width of the hidden layer; 0 leaves it out.
        activation: Activation of the hidden layer.

    Call arguments:
        features: Tensor of shape `(..., size)`.

    Returns:
        Logits of shape `(..., sum(nvec))`, float32.

    Raises:
        ValueError: If the space is another one.

    Example:

    >>> head = MultiDiscreteHead(gymnasium.spaces.MultiDiscrete([3, 2]))
    >>> logits = head(keras.ops.zeros((1, 8)))
    >>> head.numpy_mode(keras.ops.convert_to_numpy(logits))
    array([[0, 0]])
    """

    noise = "gumbel"

    @functools.cached_property
    def sizes(self) -> list[int]:
        """How many categories each action has."""
        return self._categories(self.action_space)[0]

    @functools.cached_property
    def starts(self) -> list[int]:
        """The first category of each action."""
        return self._categories(self.action_space)[1]

    @functools.cached_property
    def splits(self) -> list[int]:
        """Where the logits of the second action begin, of the third, ..."""
        return [int(i) for i in np.cumsum(self.sizes)[:-1]]

    @staticmethod
    def _categories(action_space: Any) -> tuple[list[int], list[int]]:
        """`sizes` and `starts`."""
        if (
            not isinstance(action_space, spaces.MultiDiscrete)
            or action_space.nvec.ndim != 1
        ):
            raise ValueError(
                "Expected a MultiDiscrete action space of one axis. "
                f"Received: action_space={action_space}"
            )
        return action_space.nvec.tolist(), action_space.start.tolist()

    @classmethod
    def count_outputs(cls, action_space: Any) -> int:
        sizes, _ = cls._categories(action_space)
        return sum(sizes)

    def sample(self, action_params: Any, noise: Any) -> Any:
        # The Gumbel-max trick draws from softmax(action_params).
        parts = self._parts(action_params + noise)
        return self._actions([ops.argmax(part, axis=-1) for part in parts], ops.stack)

    def mode(self, action_params: Any) -> Any:
        parts = [_first_largest(part) for part in self._parts(action_params)]
        return ops.cast(self._actions(parts, ops.stack), "int64")

    def _actions(self, categories: list[Any], stack: Any) -> Any:
        """Actions of categories that are counted from 0."""
        numbers = zip(categories, self.starts, strict=True)
        return stack([part + start for part, start in numbers], axis=-1)

    def numpy_sample(
        self, action_params: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        return self.numpy_mode(action_params + rng.gumbel(size=action_params.shape))

    def numpy_mode(self, action_params: np.ndarray) -> np.ndarray:
        space: Any = self.action_space
        parts = np.split(action_params, self.splits, axis=-1)
        actions = self._actions([part.argmax(-1) for part in parts], np.stack)
        return actions.astype(space.dtype)

    def _parts(self, action_params: Any) -> list[Any]:
        ends = np.cumsum(self.sizes)
        return [
            action_params[..., int(end) - n : int(end)]
            for n, end in zip(self.sizes, ends, strict=True)
        ]

    def _log_softmaxes(self, action_params: Any) -> list[Any]:
        return [ops.log_softmax(part, axis=-1) for part in self._parts(action_params)]

    def log_prob(self, action_params: Any, actions: Any) -> Any:
        actions = ops.cast(actions, "int32")
        return sum(
            ops.take_along_axis(part, actions[..., i : i + 1] - start, axis=-1)[..., 0]
            for i, (part, start) in enumerate(
                zip(self._log_softmaxes(action_params), self.starts, strict=True)
            )
        )

    def entropy(self, action_params: Any) -> Any:
        return sum(
            -ops.sum(ops.exp(part) * part, axis=-1)
            for part in self._log_softmaxes(action_params)
        )


@keras.saving.register_keras_serializable(package="keras_agalite")
class DiscreteHead(MultiDiscreteHead):
    """One category; actions have no trailing axis and begin at `space.start`.

    Args:
        action_space: A `Discrete` space.
        units: Width of the hidden layer; 0 leaves it out.
        activation: Activation of the hidden layer.

    Call arguments:
        features: Tensor of shape `(..., size)`.

    Returns:
        Logits of shape `(..., n)`, float32.

    Raises:
        ValueError: If the space is another one.

    Example:

    >>> head = DiscreteHead(gymnasium.spaces.Discrete(4))
    >>> logits = head(keras.ops.zeros((1, 8)))
    >>> head.numpy_mode(keras.ops.convert_to_numpy(logits))
    array([0])
    """

    @staticmethod
    def _categories(action_space: Any) -> tuple[list[int], list[int]]:
        if not isinstance(action_space, spaces.Discrete):
            raise ValueError(
                "Expected a Discrete action space. Received: "
                f"action_space={action_space}"
            )
        return [int(action_space.n)], [int(action_space.start)]

    def _actions(self, categories: list[Any], stack: Any) -> Any:
        return super()._actions(categories, stack)[..., 0]

    def log_prob(self, action_params: Any, actions: Any) -> Any:
        return super().log_prob(action_params, actions[..., None])


def _first_largest(x: Any) -> Any:
    """`ops.argmax` over the last axis; that of TensorFlow has no form in LiteRT."""
    size = x.shape[-1]
    index = ops.where(x >= ops.max(x, axis=-1, keepdims=True), ops.arange(size), size)
    return ops.min(index, axis=-1)


@keras.saving.register_keras_serializable(package="keras_agalite")
class MultiBinaryHead(ActionHead):
    """Independent yes-or-no choices: a Bernoulli distribution for each.

    Args:
        action_space: A `MultiBinary` space.
        units: Width of the hidden layer; 0 leaves it out.
        activation: Activation of the hidden layer.

    Call arguments:
        features: Tensor of shape `(..., size)`.

    Returns:
        Logits of a yes, of shape `(..., prod(action_space.shape))`, float32.

    Raises:
        ValueError: If the space is another one.

    Example:

    >>> head = MultiBinaryHead(gymnasium.spaces.MultiBinary(3))
    >>> head(keras.ops.zeros((1, 8))).shape
    (1, 3)
    """

    noise = "logistic"

    @classmethod
    def count_outputs(cls, action_space: Any) -> int:
        if not isinstance(action_space, spaces.MultiBinary):
            raise ValueError(
                "Expected a MultiBinary action space. Received: "
                f"action_space={action_space}"
            )
        return math.prod(action_space.shape)

    def sample(self, action_params: Any, noise: Any) -> Any:
        # Logistic noise is above -x with the probability sigmoid(x).
        return self.mode(action_params + noise)

    def mode(self, action_params: Any) -> Any:
        space: Any = self.action_space
        batch: Any = ops.shape(action_params)[:-1]
        return ops.cast(ops.reshape(action_params, (*batch, *space.shape)) > 0, "int8")

    def numpy_sample(
        self, action_params: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        return self.numpy_mode(action_params + rng.logistic(size=action_params.shape))

    def numpy_mode(self, action_params: np.ndarray) -> np.ndarray:
        space: Any = self.action_space
        return (action_params > 0).reshape(-1, *space.shape).astype(np.int8)

    def log_prob(self, action_params: Any, actions: Any) -> Any:
        x = ops.convert_to_tensor(action_params)
        actions = ops.reshape(ops.cast(actions, x.dtype), ops.shape(x))
        return ops.sum(actions * x - ops.softplus(x), axis=-1)

    def entropy(self, action_params: Any) -> Any:
        x = ops.convert_to_tensor(action_params)
        return ops.sum(ops.softplus(x) - x * ops.sigmoid(x), axis=-1)


@keras.saving.register_keras_serializable(package="keras_agalite")
class BoxHead(ActionHead):
    """A diagonal Gaussian: the mean, and a log-deviation that no input changes.

    Actions for the environment are clipped to the box; `log_prob` is that of the
    action before clipping.

    Args:
        action_space: A `Box` space of floats.
        units: Width of the hidden layer; 0 leaves it out.
        activation: Activation of the hidden layer.

    Call arguments:
        features: Tensor of shape `(..., size)`.

    Returns:
        Means, then log-deviations, of shape `(..., 2 * prod(action_space.shape))`,
        float32.

    Raises:
        ValueError: If the space is another one.

    Example:

    >>> head = BoxHead(gymnasium.spaces.Box(-1.0, 1.0, (2,)))
    >>> head(keras.ops.zeros((1, 8))).shape
    (1, 4)
    """

    noise = "normal"
    params_per_output = 2

    @classmethod
    def count_outputs(cls, action_space: Any) -> int:
        if not isinstance(action_space, spaces.Box) or not np.issubdtype(
            action_space.dtype, np.floating
        ):
            raise ValueError(
                f"Expected a Box of floats. Received: action_space={action_space}"
            )
        return math.prod(action_space.shape)

    @classmethod
    def count_weights(
        cls, features: int, action_space: Any, units: int, activation: str
    ) -> int:
        mean = super().count_weights(features, action_space, units, activation)
        return mean + cls.count_outputs(action_space)

    def build(self, features_shape: Any) -> None:
        super().build(features_shape)
        self.log_std = self.add_weight(
            name="log_std", shape=(self.noise_size,), initializer=Zeros()
        )

    def call(self, features: Any) -> Any:
        mean = super().call(features)
        log_std = ops.cast(self.log_std, "float32")
        return ops.concatenate(
            [mean, ops.broadcast_to(log_std, ops.shape(mean))], axis=-1
        )

    def sample(self, action_params: Any, noise: Any) -> Any:
        mean, log_std = ops.split(action_params, 2, axis=-1)
        return self._shaped(mean + ops.exp(log_std) * noise)

    def mode(self, action_params: Any) -> Any:
        return self.clip(self._shaped(ops.split(action_params, 2, axis=-1)[0]))

    def numpy_sample(
        self, action_params: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        mean, log_std = np.split(action_params, 2, axis=-1)
        return self._numpy_clip(mean + np.exp(log_std) * rng.normal(size=mean.shape))

    def numpy_mode(self, action_params: np.ndarray) -> np.ndarray:
        return self._numpy_clip(np.split(action_params, 2, axis=-1)[0])

    def _numpy_clip(self, actions: np.ndarray) -> np.ndarray:
        space: Any = self.action_space
        actions = actions.reshape(-1, *space.shape)
        return np.clip(actions, space.low, space.high).astype(space.dtype)

    def _shaped(self, actions: Any) -> Any:
        space: Any = self.action_space
        batch: Any = ops.shape(actions)[:-1]
        return ops.reshape(actions, (*batch, *space.shape))

    def clip(self, actions: Any) -> Any:
        space: Any = self.action_space
        clipped = ops.clip(actions, space.low, space.high)
        return ops.cast(clipped, str(space.dtype))

    def log_prob(self, action_params: Any, actions: Any) -> Any:
        mean, log_std = ops.split(action_params, 2, axis=-1)
        actions = ops.reshape(ops.cast(actions, mean.dtype), ops.shape(mean))
        z = (actions - mean) / ops.exp(log_std)
        density = -0.5 * ops.square(z) - log_std - 0.5 * math.log(2 * math.pi)
        return ops.sum(density, axis=-1)

    def imitation_loss(self, action_params: Any, actions: Any) -> Any:
        """Half the squared error of the mean: the log-deviation stays as it is.

        A likelihood would end with a deviation of zero where actions are repeated
        exactly. Such a policy acts best with `deterministic=True`.
        """
        mean, _ = ops.split(action_params, 2, axis=-1)
        actions = ops.reshape(ops.cast(actions, mean.dtype), ops.shape(mean))
        return ops.sum(ops.square(mean - actions), axis=-1) / 2.0

    def entropy(self, action_params: Any) -> Any:
        _, log_std = ops.split(action_params, 2, axis=-1)
        return ops.sum(log_std + 0.5 * math.log(2 * math.pi * math.e), axis=-1)


def head_class(
    action_space: gymnasium.Space[Any],
) -> type[MultiDiscreteHead] | type[MultiBinaryHead] | type[BoxHead]:
    """The class of the head for an action space.

    Raises:
        ValueError: If the space is not Discrete, MultiDiscrete (of one axis),
            MultiBinary or a Box of floats; with what to use instead.
    """
    match action_space:
        case spaces.Discrete():
            return DiscreteHead
        case spaces.MultiDiscrete() if action_space.nvec.ndim == 1:
            return MultiDiscreteHead
        case spaces.MultiDiscrete():
            advice = "; MultiDiscrete(nvec.ravel()), with a wrapper that reshapes"
        case spaces.MultiBinary():
            return MultiBinaryHead
        case spaces.Box() if np.issubdtype(action_space.dtype, np.floating):
            return BoxHead
        case spaces.Box():
            advice = (
                "; integers are the categories of a MultiDiscrete, or the floats of a "
                "Box that a wrapper rounds"
            )
        case spaces.Dict() | spaces.Tuple():
            advice = (
                "; categories fit into one MultiDiscrete, numbers into one Box, which "
                "a wrapper (gymnasium.wrappers.TransformAction) takes apart"
            )
        case _:
            advice = ""
    raise ValueError(
        "Expected an action space that is Discrete, MultiDiscrete (of one axis), "
        "MultiBinary or a Box of floats. Received: "
        f"action_space={action_space}{advice}"
    )
