"""Encoders: observations of one time step to features."""

import abc
from collections.abc import Sequence
from typing import Any

import gymnasium
import keras
from keras import ops

from keras_agalite.layers.gru_gate import orthogonal
from keras_agalite.models.spaces import (
    feature_size,
    is_image,
    leaves,
    space_from_config,
    space_to_config,
    to_features,
)
from keras_agalite.ops._backend import convolution


class Encoder(keras.layers.Layer):
    """Base of the encoders.

    An encoder knows its observation space, so a policy can be built, saved and
    tried without an environment. Discrete parts become one-hot vectors, uint8 parts
    are divided by 255, and the parts of a Dict are concatenated in the order of
    their sorted names.

    Args:
        observation_space: A gymnasium space: Box, Discrete, MultiBinary,
            MultiDiscrete, or a Dict of them.

    Call arguments:
        observation: Tensor of shape `(n, *space.shape)`, or a dict of them.

    Returns:
        Tensor of shape `(n, output_size)`.

    Raises:
        ValueError: If the space is not supported.
    """

    def __init__(
        self, observation_space: gymnasium.Space[Any] | dict[str, Any], **kwargs: Any
    ) -> None:
        kwargs["autocast"] = False  # integers and images are cast below
        super().__init__(**kwargs)
        if isinstance(observation_space, dict):
            observation_space = space_from_config(observation_space)
        self.observation_space = observation_space
        self.parts = list(leaves(observation_space))
        self.images = [part for part in self.parts if is_image(part[1])]
        self.output_size = 0

    def features(self, observation: Any, skip_images: bool = False) -> Any:
        """All parts (all but images) as one tensor `(n, size)`, or None."""
        features = [
            to_features(space, pick(observation, path), self.compute_dtype)
            for path, space in self.parts
            if not (skip_images and is_image(space))
        ]
        return ops.concatenate(features, axis=-1) if features else None

    def dense(self, units: int, activation: str) -> keras.layers.Dense:
        return keras.layers.Dense(
            units, activation, kernel_initializer=orthogonal(), dtype=self.dtype_policy
        )

    def get_config(self) -> dict[str, Any]:
        space = space_to_config(self.observation_space)
        return {**super().get_config(), "observation_space": space}


def pick(observation: Any, path: tuple[str, ...]) -> Any:
    """The part of a nested observation at a path of keys."""
    for name in path:
        observation = observation[name]
    return observation


@keras.saving.register_keras_serializable(package="keras_agalite")
class MLPEncoder(Encoder):
    """Dense layers over the flattened observation; none with `units=()`.

    AGaLiTe embeds its own input, so the paper's policies for vectors use none.

    Args:
        observation_space: See `Encoder`.
        units: Widths of the layers.
        activation: Activation of the layers.
    """

    def __init__(
        self,
        observation_space: Any,
        units: Sequence[int] = (),
        activation: str = "tanh",
        **kwargs: Any,
    ) -> None:
        super().__init__(observation_space, **kwargs)
        self.units = tuple(units)
        self.activation = activation
        self.layers = [self.dense(n, activation) for n in self.units]
        self.input_size = sum(feature_size(space) for _, space in self.parts)
        self.output_size = self.units[-1] if self.units else self.input_size

    def build(self, observation_shape: Any = None) -> None:
        size = self.input_size
        for layer in self.layers:
            layer.build((None, size))
            size = layer.units

    def call(self, observation: Any) -> Any:
        x = self.features(observation)
        for layer in self.layers:
            x = layer(x)
        return x

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "units": list(self.units),
            "activation": self.activation,
        }


@keras.saving.register_keras_serializable(package="keras_agalite")
class GridEncoder(Encoder):
    """A dense layer over a grid of categories, such as MiniGrid's observation.

    A uint8 grid of shape `(height, width, channels)` holds one category a channel,
    not a brightness: each becomes a one-hot vector. Other parts are appended.

    Args:
        observation_space: See `Encoder`; it must hold exactly one uint8 grid.
        categories: Number of categories of each channel; MiniGrid has 11 objects, 6
            colours and 4 states (a larger number counts as the last).
        units: Width of the dense layer.
    """

    def __init__(
        self,
        observation_space: Any,
        categories: Sequence[int] = (11, 6, 4),
        units: int = 128,
        **kwargs: Any,
    ) -> None:
        super().__init__(observation_space, **kwargs)
        self.categories, self.units = tuple(categories), units
        shapes = [space.shape for _, space in self.images]
        if len(shapes) != 1 or shapes[0][-1] != len(self.categories):
            raise ValueError(
                "GridEncoder expects exactly one uint8 grid in the observation space, "
                f"with one channel for each of categories={self.categories}. "
                f"Received: observation_space={self.observation_space}"
            )
        self.grid_path, grid = self.images[0]
        self.flat_size = grid.shape[0] * grid.shape[1] * sum(self.categories)
        others = [space for _, space in self.parts if not is_image(space)]
        self.output_size = units + sum(feature_size(space) for space in others)
        self.output_layer = self.dense(units, "relu")

    def build(self, observation_shape: Any = None) -> None:
        self.output_layer.build((None, self.flat_size))

    def call(self, observation: Any) -> Any:
        grid = ops.cast(pick(observation, self.grid_path), "int32")
        codes = [
            ops.one_hot(ops.minimum(grid[..., i], n - 1), n, dtype=self.compute_dtype)
            for i, n in enumerate(self.categories)
        ]
        flat = ops.reshape(ops.concatenate(codes, axis=-1), (-1, self.flat_size))
        x = self.output_layer(flat)
        others = self.features(observation, skip_images=True)
        return x if others is None else ops.concatenate([x, others], axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "categories": list(self.categories),
            "units": self.units,
        }


class ImageEncoder(Encoder, abc.ABC):
    """Base of the image encoders: one image, and any other parts beside it.

    The image goes through `trunk` and a dense layer; the features of the other
    parts (a previous action, a previous reward) are appended.
    """

    def __init__(self, observation_space: Any, units: int = 256, **kwargs: Any) -> None:
        super().__init__(observation_space, **kwargs)
        if len(self.images) != 1:
            raise ValueError(
                f"{type(self).__name__} expects exactly one uint8 image of shape "
                "(height, width, channels) in the observation space. Received: "
                f"observation_space={self.observation_space}"
            )
        self.units = units
        self.image_path, self.image_space = self.images[0]
        others = [space for _, space in self.parts if not is_image(space)]
        self.output_size = units + sum(feature_size(space) for space in others)
        self.output_layer = self.dense(units, "relu")

    @abc.abstractmethod
    def trunk(self, x: Any) -> Any:
        """The image's features, `(n, height, width, channels)`, of whatever size."""

    @abc.abstractmethod
    def build_trunk(self, shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """Builds the layers of the trunk; returns the shape of what it gives."""

    def build(self, observation_shape: Any = None) -> None:
        _, *shape = self.build_trunk((None, *self.image_space.shape))
        if min(shape) < 1:
            raise ValueError(
                f"{type(self).__name__} needs a larger image. Received: "
                f"observation_space={self.observation_space}"
            )
        height, width, channels = shape
        self.output_layer.build((None, height * width * channels))
        self.flat_size = height * width * channels

    def call(self, observation: Any) -> Any:
        image = ops.cast(pick(observation, self.image_path), self.compute_dtype)
        x = ops.reshape(self.trunk(image / 255.0), (-1, self.flat_size))
        x = self.output_layer(x)
        others = self.features(observation, skip_images=True)
        return x if others is None else ops.concatenate([x, others], axis=-1)

    def conv(self, filters: int, size: int, strides: int = 1, **kwargs: Any) -> Any:
        return keras.layers.Conv2D(
            filters,
            size,
            strides,
            kernel_initializer=orthogonal(),
            # Whatever Keras's setting: the spaces of images have channels last.
            data_format="channels_last",
            dtype=self.dtype_policy,
            **kwargs,
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(package="keras_agalite")
class ConvEncoder(ImageEncoder):
    """Three convolutions: 32, 64 and 64 filters, 8/4, 4/2 and 3/1.

    Mnih et al., "Human-level control through deep reinforcement learning", Nature
    2015; also the paper's encoder for Mystery Path. The smallest image is 36 x 36.

    Args:
        observation_space: See `Encoder`; it must hold exactly one image.
        units: Width of the dense layer after the convolutions.
    """

    def __init__(self, observation_space: Any, units: int = 256, **kwargs: Any) -> None:
        super().__init__(observation_space, units, **kwargs)
        self.convolutions = [
            self.conv(32, 8, 4, activation="relu"),
            self.conv(64, 4, 2, activation="relu"),
            self.conv(64, 3, 1, activation="relu"),
        ]

    def build_trunk(self, shape: tuple[Any, ...]) -> tuple[Any, ...]:
        if min(shape[1:3]) < 36:
            raise ValueError(
                "ConvEncoder needs an image of at least 36 x 36 pixels. Received: "
                f"observation_space={self.observation_space}"
            )
        for layer in self.convolutions:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        return shape

    def trunk(self, x: Any) -> Any:
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
        observation_space: See `Encoder`; it must hold exactly one image.
        units: Width of the dense layer after the convolutions.
        filters: Filters of each section.
    """

    def __init__(
        self,
        observation_space: Any,
        units: int = 256,
        filters: Sequence[int] = (16, 32, 32),
        **kwargs: Any,
    ) -> None:
        super().__init__(observation_space, units, **kwargs)
        self.filters = tuple(filters)
        self.entries = [self.conv(n, 3, padding="same") for n in self.filters]
        self.residuals = [
            self.conv(n, 3, padding="same") for n in self.filters for _ in range(4)
        ]

    def build_trunk(self, shape: tuple[Any, ...]) -> tuple[Any, ...]:
        for i, entry in enumerate(self.entries):
            entry.build(shape)
            shape = entry.compute_output_shape(shape)
            shape = (shape[0], -(-shape[1] // 2), -(-shape[2] // 2), shape[3])
            for layer in self.residuals[4 * i : 4 * i + 4]:
                layer.build(shape)
        return shape

    def trunk(self, x: Any) -> Any:
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
