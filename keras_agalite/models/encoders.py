"""Encoders: observations of one time step to features."""

import abc
import math
from collections.abc import Sequence
from typing import Any

import gymnasium
import keras
import numpy as np
from keras import ops

from keras_agalite.layers.checks import check_sizes, check_widths
from keras_agalite.layers.counting import count_dense
from keras_agalite.layers.initializers import RELU_GAIN, Orthogonal, Zeros
from keras_agalite.models.dense import dense
from keras_agalite.models.observations import (
    feature_size,
    has_channels_first,
    image_range,
    image_shape,
    is_image,
    to_features,
)
from keras_agalite.models.spaces import (
    PLACE_ID,
    Keys,
    feature_parts,
    has_place,
    pick,
    space_from_config,
    space_to_config,
)
from keras_agalite.ops._backend import convolution
from keras_agalite.ops.precision import number_like
from keras_agalite.ops.saved_activations import check_saved_activations

# Of `ConvEncoder`: filters, size and strides.
_CONVOLUTIONS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))


class Encoder(keras.layers.Layer, abc.ABC):
    """Base of the encoders.

    An encoder knows its observation space, so a policy can be built, saved and
    tried without an environment. Discrete parts become one-hot vectors, uint8 parts
    are divided by 255, and the parts of a Dict are concatenated in the order of
    their sorted names, those of a Tuple in theirs. An action mask (the part
    `action_mask` of a Dict) is left out: the policy reads it. The number of a place
    (the part `place_id` of a Dict) is handed on as it is, as the last feature, for
    `SpatialMemory`.

    A subclass calls this constructor, sets `output_size` to `count_features(...)` and
    builds its weights in `build`. With a `short_name` and `count_weights`,
    `keras_agalite.register` lets presets and recipes use it.

    Args:
        observation_space: A gymnasium space: Box, Discrete, MultiBinary,
            MultiDiscrete, or a Dict or Tuple of them.
        **kwargs: `saved_activations`, of the dense layers, as of a `SequenceMemory`,
            and arguments of `keras.layers.Layer`.

    Call arguments:
        observation: Tensor of shape `(n, *space.shape)`, or a dict or tuple of
            them.

    Returns:
        Tensor of shape `(n, output_size)`.

    Raises:
        ValueError: If the space is not supported.

    Attributes:
        short_name: Name in recipes.
        parts: List of `(path, space)`, the parts that become features.
        output_size: Width of the features.
    """

    short_name: str

    def __init__(
        self, observation_space: gymnasium.Space[Any] | dict[str, Any], **kwargs: Any
    ) -> None:
        saved_activations = kwargs.pop("saved_activations", None)
        kwargs["autocast"] = False  # integers and images are cast below
        super().__init__(**kwargs)
        check_saved_activations(saved_activations)
        self.saved_activations = saved_activations
        if isinstance(observation_space, dict):
            observation_space = space_from_config(observation_space)
        self.observation_space = observation_space
        self.parts = feature_parts(observation_space)
        self.has_place = has_place(observation_space)
        self.output_size = 0

    @classmethod
    @abc.abstractmethod
    def count_features(
        cls, observation_space: gymnasium.Space[Any], *args: Any, **config: Any
    ) -> int:
        """`output_size` of an encoder with these arguments, without making it."""

    @classmethod
    @abc.abstractmethod
    def count_weights(
        cls, observation_space: gymnasium.Space[Any], *args: Any, **config: Any
    ) -> int:
        """Number of weights of an encoder with these arguments, without making it.

        Raises:
            ValueError: If there is no such encoder.
        """

    def features(self, observation: Any, skip: Keys | None = None) -> Any:
        """All parts as one tensor `(n, size)`; None if none is left.

        Args:
            observation: As in a call.
            skip: Keys of a part to leave out.
        """
        features = [
            to_features(space, pick(observation, path), self.compute_dtype)
            for path, space in self.parts
            if path != skip
        ]
        return ops.concatenate(features, axis=-1) if features else None

    def hand_on(self, features: Any, observation: Any) -> Any:
        """The features, and after them the place if there is one."""
        if not self.has_place:
            return features
        place = ops.cast(observation[PLACE_ID], features.dtype)
        return ops.concatenate([features, ops.reshape(place, (-1, 1))], axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "observation_space": space_to_config(self.observation_space),
            "saved_activations": self.saved_activations,
        }


@keras.saving.register_keras_serializable(package="keras_agalite")
class MLPEncoder(Encoder):
    """Dense layers over the flattened observation; none with `units=()`.

    AGaLiTe embeds its own input, so the paper's policies for vectors use none.

    Args:
        observation_space: A gymnasium space: Box, Discrete, MultiBinary,
            MultiDiscrete, or a Dict or Tuple of them.
        units: Widths of the layers.
        activation: Activation of the layers.

    Call arguments:
        observation: Tensor of shape `(n, *space.shape)`, or a dict or tuple of
            them.

    Returns:
        Tensor of shape `(n, units[-1])`, or `(n, size of the observation)` with
        `units=()`.

    Raises:
        ValueError: If the space is not supported, or a width is no positive integer.

    Example:

    >>> encoder = MLPEncoder(gymnasium.spaces.Discrete(5), units=(16,))
    >>> encoder(np.array([0, 4])).shape
    (2, 16)
    """

    short_name = "mlp"

    def __init__(
        self,
        observation_space: Any,
        units: Sequence[int] = (),
        activation: str = "tanh",
        **kwargs: Any,
    ) -> None:
        super().__init__(observation_space, **kwargs)
        self.units = check_widths("units", units)
        self.activation = activation
        self.layers = [
            dense(
                n,
                activation,
                self.dtype_policy,
                saved_activations=self.saved_activations,
            )
            for n in self.units
        ]
        self.input_size = _size(self.observation_space)
        self.output_size = self.count_features(
            self.observation_space, self.units, activation
        )

    @classmethod
    def count_features(
        cls, observation_space: Any, units: Sequence[int], activation: str
    ) -> int:
        size = units[-1] if units else _size(observation_space)
        return size + has_place(observation_space)

    @classmethod
    def count_weights(
        cls, observation_space: Any, units: Sequence[int], activation: str
    ) -> int:
        sizes = [_size(observation_space), *units]
        return sum(map(count_dense, sizes, units))

    def build(self, observation_shape: Any = None) -> None:
        size = self.input_size
        for layer in self.layers:
            layer.build((None, size))
            size = layer.units

    def call(self, observation: Any) -> Any:
        x = self.features(observation)
        for layer in self.layers:
            x = layer(x)
        return self.hand_on(x, observation)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": list(self.units),
            "activation": self.activation,
        }


def _size(observation_space: Any) -> int:
    return sum(feature_size(space) for _, space in feature_parts(observation_space))


class ImageEncoder(Encoder, abc.ABC):
    """Base of the image encoders: one image, and any other parts beside it.

    The image goes through `trunk` and a dense layer; the features of the other
    parts (a previous action, a previous reward) are appended.

    An image is a Box of three axes. Where the first is the shortest it holds the
    channels, and is moved to the end. Bytes (uint8) are divided by 255. Floats are
    brought from the bounds of their space to 0..1; those of a space within -1..1,
    or without bounds, are taken as they are. Beside an image of bytes, floats of
    three axes are an ordinary part.

    Args:
        observation_space: A gymnasium space that is, or holds, exactly one image.
        units: Width of the dense layer after the trunk.

    Attributes:
        takes_floats: Whether images may be floats.

    Call arguments:
        observation: Tensor of shape `(n, *space.shape)`, or a dict or tuple of
            tensors.

    Returns:
        Tensor of shape `(n, units + size of the other parts)`.

    Raises:
        ValueError: If the space does not hold exactly one image, or one that is too
            small.
    """

    takes_floats = True

    def __init__(
        self,
        observation_space: Any,
        units: int,
        trunk_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(observation_space, **kwargs)
        check_sizes({"units": units})
        self.units = units
        self.image_path, self.image_space = self._image(self.observation_space)
        self.low, self.high = image_range(self.image_space)
        _, trunk = self._count_trunk(self.observation_space, **trunk_config or {})
        self.flat_size = math.prod(trunk)
        self.output_size = self.count_features(self.observation_space, units)
        self.output_layer = dense(
            units,
            "relu",
            self.dtype_policy,
            saved_activations=self.saved_activations,
        )

    @classmethod
    def _image(cls, observation_space: Any) -> tuple[Keys, Any]:
        images = [
            part for part in feature_parts(observation_space) if is_image(part[1])
        ]
        of_bytes = [part for part in images if part[1].dtype == np.uint8]
        if of_bytes or not cls.takes_floats:
            images = of_bytes
        if len(images) != 1:
            dtypes = "uint8 or floats" if cls.takes_floats else "uint8"
            raise ValueError(
                f"{cls.__name__} expects exactly one image, a Box of {dtypes} of shape "
                "(height, width, channels) or (channels, height, width), in the "
                f"observation space. Received: observation_space={observation_space}"
            )
        return images[0]

    @classmethod
    def _count_trunk(
        cls, observation_space: Any, **config: Any
    ) -> tuple[int, tuple[int, ...]]:
        _, image = cls._image(observation_space)
        try:
            return cls.count_trunk(image_shape(image), **config)
        except ValueError as error:
            raise ValueError(
                f"{cls.__name__} {error}. Received: "
                f"observation_space={observation_space}"
            ) from error

    @classmethod
    @abc.abstractmethod
    def count_trunk(
        cls, image_shape: tuple[int, ...], *args: Any, **config: Any
    ) -> tuple[int, tuple[int, ...]]:
        """Number of weights of the trunk, and the shape of what it gives.

        Raises:
            ValueError: With what the encoder expects, if the image does not fit.
        """

    @classmethod
    def count_features(cls, observation_space: Any, units: int, **config: Any) -> int:
        _, image = cls._image(observation_space)
        others = _size(observation_space) - feature_size(image)
        return units + others + has_place(observation_space)

    @classmethod
    def count_weights(cls, observation_space: Any, units: int, **config: Any) -> int:
        weights, trunk = cls._count_trunk(observation_space, **config)
        return weights + count_dense(math.prod(trunk), units)

    @abc.abstractmethod
    def trunk(self, image: Any) -> Any:
        """Features `(n, height, width, channels)` of images of the same axes."""

    def build_trunk(self, image_shape: tuple[Any, ...]) -> None:
        """Builds the layers of the trunk for images `(None, height, width, ...)`."""

    def build(self, observation_shape: Any = None) -> None:
        self.build_trunk((None, *image_shape(self.image_space)))
        self.output_layer.build((None, self.flat_size))

    def call(self, observation: Any) -> Any:
        image = pick(observation, self.image_path)
        if has_channels_first(self.image_space):
            image = ops.transpose(image, (0, 2, 3, 1))
        x = self.trunk(image)
        x = self.output_layer(ops.reshape(x, (-1, self.flat_size)))
        others = self.features(observation, skip=self.image_path)
        if others is not None:
            x = ops.concatenate([x, others], axis=-1)
        return self.hand_on(x, observation)

    def scale(self, image: Any) -> Any:
        """Brightnesses from 0 to 1, in the compute dtype."""
        image = ops.cast(image, self.compute_dtype)
        if self.low:
            image = image - self.low
        size = self.high - self.low
        return image if size == 1.0 else image / size

    def conv(self, filters: int, size: int, strides: int = 1, **kwargs: Any) -> Any:
        """A convolution as the encoders use it, with an orthogonal kernel."""
        return keras.layers.Conv2D(
            filters,
            size,
            strides,
            kernel_initializer=Orthogonal(RELU_GAIN),
            bias_initializer=Zeros(),
            # Whatever Keras's setting: the spaces of images have channels last.
            data_format="channels_last",
            dtype=self.dtype_policy,
            **kwargs,
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(package="keras_agalite")
class GridEncoder(ImageEncoder):
    """A dense layer over a grid of categories, such as MiniGrid's observation.

    A uint8 grid of shape `(height, width, channels)` holds one category a channel,
    not a brightness: each becomes a one-hot vector. Other parts are appended.

    Args:
        observation_space: A gymnasium space that is, or holds, exactly one uint8 grid.
        categories: Number of categories of each channel; MiniGrid has 11 objects, 6
            colours and 4 states (a larger number counts as the last).
        units: Width of the dense layer.

    Call arguments:
        observation: Tensor of shape `(n, *space.shape)`, or a dict or tuple of
            tensors.

    Returns:
        Tensor of shape `(n, units + size of the other parts)`.

    Raises:
        ValueError: If the space does not hold exactly one grid, or one with another
            number of channels than of `categories`.

    Example:

    >>> space = gymnasium.spaces.Box(0, 255, (7, 7, 3), np.uint8)
    >>> encoder = GridEncoder(space, units=64)
    >>> encoder(space.sample()[None]).shape
    (1, 64)
    """

    short_name = "grid"
    takes_floats = False

    def __init__(
        self,
        observation_space: Any,
        categories: Sequence[int] = (11, 6, 4),
        units: int = 128,
        **kwargs: Any,
    ) -> None:
        self.categories = check_widths("categories", categories)
        trunk_config = {"categories": self.categories}
        super().__init__(observation_space, units, trunk_config, **kwargs)

    @classmethod
    def count_trunk(
        cls, image_shape: tuple[int, ...], categories: Sequence[int]
    ) -> tuple[int, tuple[int, ...]]:
        height, width, channels = image_shape
        if channels != len(categories):
            raise ValueError(f"expects one channel for each of categories={categories}")
        return 0, (height, width, sum(categories))

    def trunk(self, image: Any) -> Any:
        grid = ops.cast(image, "int32")
        codes = [
            ops.one_hot(
                ops.minimum(grid[..., i], number_like(grid[..., i], n - 1)),
                n,
                dtype=self.compute_dtype,
            )
            for i, n in enumerate(self.categories)
        ]
        return ops.concatenate(codes, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "categories": list(self.categories)}


@keras.saving.register_keras_serializable(package="keras_agalite")
class ConvEncoder(ImageEncoder):
    """Three convolutions: 32, 64 and 64 filters, 8/4, 4/2 and 3/1.

    Mnih et al., "Human-level control through deep reinforcement learning", Nature
    2015; also the paper's encoder for Mystery Keys. The smallest image is 36 x 36.

    Args:
        observation_space: A gymnasium space that is, or holds, exactly one image: a
            Box of uint8 or floats, of shape `(height, width, channels)` or, where the
            first axis is the shortest, `(channels, height, width)`.
        units: Width of the dense layer after the convolutions.

    Call arguments:
        observation: Tensor of shape `(n, *space.shape)`, or a dict or tuple of
            tensors.

    Returns:
        Tensor of shape `(n, units + size of the other parts)`.

    Raises:
        ValueError: If the space does not hold exactly one image, or a smaller one.

    Example:

    >>> space = gymnasium.spaces.Box(0, 255, (84, 84, 3), np.uint8)
    >>> encoder = ConvEncoder(space)
    >>> encoder(space.sample()[None]).shape
    (1, 256)
    """

    short_name = "conv"

    def __init__(self, observation_space: Any, units: int = 256, **kwargs: Any) -> None:
        super().__init__(observation_space, units, **kwargs)
        self.convolutions = [
            self.conv(filters, size, strides, activation="relu")
            for filters, size, strides in _CONVOLUTIONS
        ]

    @classmethod
    def count_trunk(cls, image_shape: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
        height, width, channels = image_shape
        if min(height, width) < 36:
            raise ValueError("needs an image of at least 36 x 36 pixels")
        weights = 0
        for filters, size, strides in _CONVOLUTIONS:
            weights += count_dense(size * size * channels, filters)
            height, width = ((n - size) // strides + 1 for n in (height, width))
            channels = filters
        return weights, (height, width, channels)

    def build_trunk(self, image_shape: tuple[Any, ...]) -> None:
        for layer in self.convolutions:
            layer.build(image_shape)
            image_shape = layer.compute_output_shape(image_shape)

    def trunk(self, image: Any) -> Any:
        x = self.scale(image)
        for layer in self.convolutions:
            kernel, bias = (
                ops.cast(w, self.compute_dtype) for w in (layer.kernel, layer.bias)
            )
            x = ops.relu(convolution(x, kernel, layer.strides[0]) + bias)
        return x


@keras.saving.register_keras_serializable(package="keras_agalite")
class ResNetEncoder(ImageEncoder):
    """The residual network of IMPALA: sections of pooling and two residual blocks.

    Espeholt et al., "IMPALA: Scalable Distributed Deep-RL with Importance Weighted
    Actor-Learner Architectures", ICML 2018, figure 3.

    Args:
        observation_space: A gymnasium space that is, or holds, exactly one image: a
            Box of uint8 or floats, of shape `(height, width, channels)` or, where the
            first axis is the shortest, `(channels, height, width)`.
        units: Width of the dense layer after the convolutions.
        filters: Filters of each section.

    Call arguments:
        observation: Tensor of shape `(n, *space.shape)`, or a dict or tuple of
            tensors.

    Returns:
        Tensor of shape `(n, units + size of the other parts)`.

    Raises:
        ValueError: If the space does not hold exactly one image.

    Example:

    >>> space = gymnasium.spaces.Box(0, 255, (64, 64, 3), np.uint8)
    >>> encoder = ResNetEncoder(space, units=128)
    >>> encoder(space.sample()[None]).shape
    (1, 128)
    """

    short_name = "resnet"

    def __init__(
        self,
        observation_space: Any,
        units: int = 256,
        filters: Sequence[int] = (16, 32, 32),
        **kwargs: Any,
    ) -> None:
        self.filters = check_widths("filters", filters)
        trunk_config = {"filters": self.filters}
        super().__init__(observation_space, units, trunk_config, **kwargs)
        self.entries = [self.conv(n, 3, padding="same") for n in self.filters]
        self.residuals = [
            self.conv(n, 3, padding="same") for n in self.filters for _ in range(4)
        ]

    @classmethod
    def count_trunk(
        cls, image_shape: tuple[int, ...], filters: Sequence[int]
    ) -> tuple[int, tuple[int, ...]]:
        weights, (height, width, channels) = 0, image_shape
        for n in filters:
            weights += count_dense(9 * channels, n) + 4 * count_dense(9 * n, n)
            height, width, channels = -(-height // 2), -(-width // 2), n
        return weights, (height, width, channels)

    def build_trunk(self, image_shape: tuple[Any, ...]) -> None:
        *size, channels = image_shape
        for i, entry in enumerate(self.entries):
            entry.build((*size, channels))
            channels = entry.filters
            for layer in self.residuals[4 * i : 4 * i + 4]:
                layer.build((*size, channels))

    def trunk(self, image: Any) -> Any:
        x = self.scale(image)
        for i, entry in enumerate(self.entries):
            x = ops.max_pool(
                entry(x), 3, 2, padding="same", data_format="channels_last"
            )
            for j in (4 * i, 4 * i + 2):
                y = self.residuals[j](ops.relu(x))
                x = x + self.residuals[j + 1](ops.relu(y))
        return ops.relu(x)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": list(self.filters)}
