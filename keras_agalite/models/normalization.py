"""Running mean and deviation, and observations that are normalised by them."""

import math
from typing import Any, NamedTuple

import gymnasium
import keras
import numpy as np
from gymnasium import spaces
from keras import ops

from keras_agalite.layers.initializers import Zeros
from keras_agalite.models.observations import is_image
from keras_agalite.models.spaces import (
    Keys,
    feature_parts,
    map_leaves,
    pick,
    space_from_config,
    space_to_config,
)

EPSILON = 1e-8
# Normalised numbers end here, so that one outlier does not decide a step.
LIMIT = 10.0


class Moments(NamedTuple):
    """What is known of rows of numbers, float32.

    Attributes:
        count: How many rows were counted, a scalar.
        mean: Their mean, `(size,)`.
        variance: Their variance about it, `(size,)`.
    """

    count: Any
    mean: Any
    variance: Any


def update_moments(moments: Moments, x: Any, mask: Any) -> Moments:
    """Counts rows in, many at a time.

    Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing
    Sample Variances", 1979, equations 2.1.

    Args:
        moments: What is known before.
        x: Tensor of shape `(n, size)`.
        mask: Booleans of shape `(n,)`: the rows that count.

    Returns:
        `Moments` of all rows.
    """
    mask = ops.cast(mask, "bool")[:, None]
    x = ops.where(mask, ops.cast(x, "float32"), 0.0)
    number = ops.sum(ops.cast(mask, "float32"))
    share = 1.0 / ops.maximum(number, 1.0)
    mean = ops.sum(x, axis=0) * share
    away = ops.where(mask, ops.square(x - mean), 0.0)
    variance = ops.sum(away, axis=0) * share
    total = moments.count + number
    new = number / ops.maximum(total, 1.0)
    shift = mean - moments.mean
    return Moments(
        total,
        moments.mean + shift * new,
        moments.variance * (1.0 - new)
        + (variance + ops.square(shift) * (1.0 - new)) * new,
    )


@keras.saving.register_keras_serializable(package="keras_agalite")
class ObservationNormalizer(keras.layers.Layer):
    """Brings the floats of an observation to mean 0 and deviation 1.

    Each number of each Box of floats is normalised by itself, and clipped to -10..10.
    All else passes as it is: categories, bytes, images (their encoder scales them), an
    action mask. The mean and the deviation are weights that no optimizer trains:
    `update` counts observations in, and while nothing was counted an observation
    passes as it is.

    Args:
        observation_space: A gymnasium space with a Box of floats in it.

    Call arguments:
        observation: Tensor of shape `(n, *space.shape)`, or a dict or tuple of them.

    Returns:
        The same structure; what was normalised is float32.

    Raises:
        ValueError: If the space has no Box of floats other than images.

    Example:

    >>> normalizer = ObservationNormalizer(gymnasium.spaces.Box(-9.0, 9.0, (3,)))
    >>> normalizer.update(observations)
    >>> normalizer(observations).shape
    (64, 3)
    """

    def __init__(
        self, observation_space: gymnasium.Space[Any] | dict[str, Any], **kwargs: Any
    ) -> None:
        # Float32 whatever the policy: a sum of many squares needs it.
        super().__init__(**{**kwargs, "autocast": False, "dtype": "float32"})
        if isinstance(observation_space, dict):
            observation_space = space_from_config(observation_space)
        self.observation_space = observation_space
        self.parts = _normalized_parts(observation_space)
        shape = (_size(self.parts),)
        self.count = self._statistic("count", ())
        self.mean = self._statistic("mean", shape)
        self.variance = self._statistic("variance", shape)
        self.built = True

    def _statistic(self, name: str, shape: tuple[int, ...]) -> Any:
        return self.add_weight(
            name=name, shape=shape, initializer=Zeros(), trainable=False
        )

    @classmethod
    def count_weights(cls, observation_space: gymnasium.Space[Any]) -> int:
        """Number of weights of a normaliser, without making it.

        Raises:
            ValueError: If the space has no Box of floats other than images.
        """
        return 1 + 2 * _size(_normalized_parts(observation_space))

    def build(self, observation_shape: Any = None) -> None:
        """Nothing is left to do: the space gives all shapes."""

    def call(self, observation: Any) -> Any:
        known = ops.convert_to_tensor(self.count) > 0
        mean, deviation = (
            self._split(x)
            for x in (self.mean, ops.sqrt(ops.add(self.variance, EPSILON)))
        )

        def normalize(path: Keys, _: Any) -> Any:
            x = pick(observation, path)
            if path not in mean:
                return x
            x = ops.cast(x, "float32")
            y = (x - mean[path]) / deviation[path]
            return ops.where(known, ops.clip(y, -LIMIT, LIMIT), x)

        return map_leaves(self.observation_space, normalize)

    def update(self, observation: Any, mask: Any = None) -> None:
        """Counts observations in.

        Args:
            observation: As in a call.
            mask: Booleans of shape `(n,)`: the observations that count; all if None.
        """
        rows = [
            ops.reshape(
                ops.cast(pick(observation, path), "float32"), (-1, _numbers(space))
            )
            for path, space in self.parts
        ]
        x = ops.concatenate(rows, axis=-1)
        if mask is None:
            mask = ops.ones((ops.shape(x)[0],), "bool")
        before = Moments(*map(ops.convert_to_tensor, self._moments))
        for variable, value in zip(
            self._moments, update_moments(before, x, mask), strict=True
        ):
            variable.assign(value)

    @property
    def _moments(self) -> Moments:
        return Moments(self.count, self.mean, self.variance)

    def _split(self, x: Any) -> dict[Keys, Any]:
        """A vector over all parts, as one array of each part's shape."""
        found, begin = {}, 0
        for path, space in self.parts:
            end = begin + _numbers(space)
            found[path] = ops.reshape(x[begin:end], space.shape)
            begin = end
        return found

    def get_config(self) -> dict[str, Any]:
        space = space_to_config(self.observation_space)
        return {**super().get_config(), "observation_space": space}


def _normalized_parts(
    observation_space: gymnasium.Space[Any],
) -> list[tuple[Keys, Any]]:
    parts = [
        (path, space)
        for path, space in feature_parts(observation_space)
        if isinstance(space, spaces.Box)
        and np.dtype(space.dtype).kind == "f"
        and not is_image(space)
    ]
    if not _size(parts):
        raise ValueError(
            "Expected an observation with a Box of floats that is no image, to "
            f"normalise it. Received: observation_space={observation_space}"
        )
    return parts


def _size(parts: list[tuple[Keys, Any]]) -> int:
    return sum(_numbers(space) for _, space in parts)


def _numbers(space: Any) -> int:
    return math.prod(space.shape)
