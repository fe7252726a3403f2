"""Which official arrays stand in a weight of ours."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Entry:
    """A weight of ours and the official arrays in it, side by side.

    With `heads`, each official array has a leading axis of heads, and they too stand
    side by side in ours.
    """

    weight: Any
    names: list[str]
    heads: int | None = None

    def value(self, params: Mapping[str, Any]) -> np.ndarray:
        *rest, last = self.weight.shape
        part = (*rest, last // len(self.names))
        if self.heads is not None:
            part = (self.heads, *rest, part[-1] // self.heads)
        arrays = []
        for name in self.names:
            array = np.asarray(params[name])
            if array.shape != part:
                raise ValueError(
                    f"Expected {name} of shape {part}. "
                    f"Received: {name} of shape {array.shape}"
                )
            if self.heads is not None:
                array = np.concatenate(array, axis=-1)
            arrays.append(array)
        return np.concatenate(arrays, axis=-1)


def check_names(received: Mapping[str, Any], expected: list[str]) -> None:
    missing = sorted(set(expected) - set(received))
    surplus = sorted(set(received) - set(expected))
    if missing or surplus:
        raise ValueError(
            f"Expected the {len(expected)} official entries of this layer. "
            f"Received: {len(received)} entries, missing={missing}, surplus={surplus}"
        )


def dense_entries(
    layers: Mapping[str, Any], heads: int | None = None
) -> Iterator[Entry]:
    """Layers with a kernel and a bias; None stands for a layer that is not there."""
    for name, layer in layers.items():
        if layer is not None:
            yield Entry(layer.kernel, [f"{name}/kernel"], heads)
            yield Entry(layer.bias, [f"{name}/bias"], heads)


def norm_entries(name: str, norm: Any) -> Iterator[Entry]:
    yield Entry(norm.gamma, [f"{name}/scale"])
    yield Entry(norm.beta, [f"{name}/bias"])


def gate_entries(name: str, gate: Any) -> Iterator[Entry]:
    yield Entry(gate.update_kernel, [f"{name}/W{x}/kernel" for x in "rzg"])
    yield Entry(gate.stream_kernel, [f"{name}/U{x}/kernel" for x in "rz"])
    yield Entry(gate.candidate_kernel, [f"{name}/Ug/kernel"])
    yield Entry(gate.bias, [f"{name}/bgp"])


def block_entries(prefix: str, block: Any) -> Iterator[Entry]:
    """What an AGaLiTe block and a GaLiTe block have in common."""
    yield from dense_entries(
        {
            f"{prefix}/emb_layer": block.embedding,
            f"{prefix}/Dense_0": block.feedforward_intermediate,
            f"{prefix}/Dense_1": block.feedforward_output,
        }
    )
    for i, norm in enumerate((block.attention_norm, block.feedforward_norm)):
        yield from norm_entries(f"{prefix}/LayerNorm_{i}", norm)
    for i, gate in enumerate((block.attention_gate, block.feedforward_gate)):
        yield from gate_entries(f"{prefix}/GRUGatingUnit_{i}", gate)
