"""Weights from PyTorch: kernels are transposed, and some are scaled or put together."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class TorchEntry:
    """A weight of ours and the arrays of the authors' that it is made of.

    Attributes:
        weight: Our weight.
        names: Names of their arrays.
        shapes: The shapes of these.
        make: Our weight's value, from their arrays.
    """

    weight: Any
    names: list[str]
    shapes: Sequence[tuple[int, ...]]
    make: Callable[..., np.ndarray]

    def value(self, params: Mapping[str, Any]) -> np.ndarray:
        arrays = [np.asarray(params[name]) for name in self.names]
        for name, array, shape in zip(self.names, arrays, self.shapes, strict=True):
            if array.shape != shape:
                raise ValueError(
                    f"Expected {name} of shape {shape}. Received: {name} of shape "
                    f"{array.shape}"
                )
        return self.make(*arrays)


def same(weight: Any, name: str) -> TorchEntry:
    return TorchEntry(weight, [name], [tuple(weight.shape)], lambda x: x)


def kernel(weight: Any, name: str, scale: float = 1.0) -> TorchEntry:
    """A kernel, which PyTorch holds as `(outputs, inputs)`."""
    shape = tuple(weight.shape)[::-1]
    return TorchEntry(weight, [name], [shape], lambda x: scale * x.T)


def linear(layer: Any, name: str, scale: float = 1.0) -> Iterator[TorchEntry]:
    yield kernel(layer.kernel, f"{name}.weight", scale)
    if layer.use_bias:
        yield same(layer.bias, f"{name}.bias")


def norm(layer: Any, name: str) -> Iterator[TorchEntry]:
    yield same(layer.gamma, f"{name}.weight")
    yield same(layer.beta, f"{name}.bias")


def feedforward(layer: Any, name: str) -> Iterator[TorchEntry]:
    """The first and the fourth part of a `Sequential`, dropout being the others."""
    yield from linear(layer.intermediate, f"{name}.0")
    yield from linear(layer.output_layer, f"{name}.3")
