"""Weights and states from the authors' JAX implementation, and states back to it.

Names are the flat names of their flax parameters (`"layer1/emb_layer/kernel"`) and
states (`"layer_1/tilde_k"`). States have a leading batch axis.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from keras import ops

from keras_agalite.layers import AGaLiTe, AGaLiTeBlock
from keras_agalite.ops.gated_linear_attention import (
    clock_modulus,
    pack_agalite_state,
    unpack_agalite_state,
)

# A weight of ours and the official arrays that stand in it, side by side.
Entry = tuple[Any, list[str]]


def load_official_weights(layer: AGaLiTe, params: Mapping[str, Any]) -> None:
    """Sets the weights of a layer to official parameters.

    Args:
        layer: A built `AGaLiTe`.
        params: Mapping of flax names to arrays, for example
            `{"layer1/emb_layer/kernel": array, ...}`.

    Raises:
        ValueError: If the layer is not built, or an entry is missing, surplus or of
            the wrong shape. The layer is left as it was.
    """
    entries = list(official_weight_names(layer))
    _check_names(params, [name for _, names in entries for name in names])
    values = []
    for weight, names in entries:
        shape = tuple(weight.shape)
        part = (*shape[:-1], shape[-1] // len(names))
        arrays = [_array(params, name, part) for name in names]
        values.append(np.concatenate(arrays, axis=-1))
    for (weight, _), value in zip(entries, values, strict=True):
        weight.assign(value)


def official_weight_names(layer: AGaLiTe) -> Iterator[Entry]:
    """Yields each weight of a layer with the official names that it holds."""
    if not isinstance(layer, AGaLiTe):
        raise ValueError(
            f"Expected an AGaLiTe layer. Received: layer={type(layer).__name__}"
        )
    if not layer.built:
        raise ValueError(
            "Expected a built layer: call it once, or layer.build((None, None, "
            f"features)). Received: layer={layer.name!r}, which is not built"
        )
    for i, block in enumerate(layer.cell.blocks, 1):
        yield from _block_weight_names(block, f"layer{i}")


def _block_weight_names(block: AGaLiTeBlock, prefix: str) -> Iterator[Entry]:
    attention = f"{prefix}/AttentionORLiTLayer_0"
    dense = {
        f"{prefix}/emb_layer": block.embedding,
        f"{attention}/linear_kqvbetagammas": block.projection,
        f"{attention}/linear_p1p2p3": block.expansion,
        f"{attention}/project": block.attention_output,
        f"{prefix}/Dense_0": block.feedforward_intermediate,
        f"{prefix}/Dense_1": block.feedforward_output,
    }
    for name, layer in dense.items():
        if layer is not None:
            yield layer.kernel, [f"{name}/kernel"]
            yield layer.bias, [f"{name}/bias"]
    for i, norm in enumerate((block.attention_norm, block.feedforward_norm)):
        yield norm.gamma, [f"{prefix}/LayerNorm_{i}/scale"]
        yield norm.beta, [f"{prefix}/LayerNorm_{i}/bias"]
    for i, gate in enumerate((block.attention_gate, block.feedforward_gate)):
        name = f"{prefix}/GRUGatingUnit_{i}"
        yield gate.update_kernel, [f"{name}/W{x}/kernel" for x in "rzg"]
        yield gate.stream_kernel, [f"{name}/U{x}/kernel" for x in "rz"]
        yield gate.candidate_kernel, [f"{name}/Ug/kernel"]
        yield gate.bias, [f"{name}/bgp"]


def state_from_official(layer: AGaLiTe, state: Mapping[str, Any]) -> list[Any]:
    """Turns an official state into the state list of a layer.

    Oscillators that are equal in pairs are kept once, and the clock is kept modulo
    its period.

    Args:
        layer: An `AGaLiTe` layer.
        state: Mapping of names to arrays: for block i from 1, `layer_i/tilde_k`
            `(batch, r, heads, eta * head_dim)`, `layer_i/tilde_v` `(batch, r, heads,
            head_dim)`, `layer_i/s` `(batch, heads, eta * head_dim)` and
            `layer_i/tick` `(batch, 1)`.

    Returns:
        List of `num_layers` tensors `(batch, size)`.

    Raises:
        ValueError: If an entry is missing, surplus, of the wrong shape, or if the
            oscillators of a pair differ.
    """
    shapes = _official_state_shapes(layer)
    names = [
        f"layer_{i}/{part}"
        for i in range(1, len(layer.cell.blocks) + 1)
        for part in shapes
    ]
    _check_names(state, names)
    batch = np.shape(state[names[0]])[:1]
    result = []
    for i, block in enumerate(layer.cell.blocks, 1):
        tilde_k, tilde_v, s, tick = (
            _array(state, f"layer_{i}/{part}", (*batch, *shape))
            for part, shape in shapes.items()
        )
        for part, x in (("tilde_k", tilde_k), ("tilde_v", tilde_v)):
            if not np.allclose(x, x[:, ::-1], rtol=1e-3, atol=1e-4):
                raise ValueError(
                    "Oscillators i and r-1-i of an official state are equal. "
                    f"Received: layer_{i}/{part}, in which they differ"
                )
        folded = (block.r + 1) // 2
        keys = np.concatenate([tilde_k[:, :folded], s[:, None]], axis=1)
        keys = keys.reshape(*keys.shape[:3], block.eta, block.head_dim)
        # The official clock starts at 1, ours counts the steps since then.
        clock = np.mod(tick[:, 0] - 1, clock_modulus(block.r, "float32"))
        packed = pack_agalite_state(
            *(
                ops.convert_to_tensor(x, layer.state_dtype)
                for x in (keys, tilde_v[:, :folded], clock)
            )
        )
        result.append(packed)
    return result


def state_to_official(layer: AGaLiTe, state: list[Any]) -> dict[str, np.ndarray]:
    """The inverse of `state_from_official`: NumPy arrays, all r oscillators.

    The clock comes back modulo the largest multiple of its period below 2**24.
    """
    result = {}
    for i, (block, packed) in enumerate(zip(layer.cell.blocks, state, strict=True), 1):
        sizes = block.num_heads, block.head_dim, block.eta, block.r
        keys, values, clock = (
            ops.convert_to_numpy(x) for x in unpack_agalite_state(packed, *sizes)
        )
        keys = keys.reshape(*keys.shape[:3], block.eta * block.head_dim)
        unfold = [min(j, block.r - 1 - j) for j in range(block.r)]
        result[f"layer_{i}/tilde_k"] = keys[:, unfold]
        result[f"layer_{i}/tilde_v"] = values[:, unfold]
        result[f"layer_{i}/s"] = keys[:, -1]
        result[f"layer_{i}/tick"] = clock[:, None] + 1
    return result


def _official_state_shapes(layer: AGaLiTe) -> dict[str, tuple[int, ...]]:
    a = layer.cell.arguments
    wide = a["eta"] * a["head_dim"]
    return {
        "tilde_k": (a["r"], a["num_heads"], wide),
        "tilde_v": (a["r"], a["num_heads"], a["head_dim"]),
        "s": (a["num_heads"], wide),
        "tick": (1,),
    }


def _check_names(received: Mapping[str, Any], expected: list[str]) -> None:
    missing = sorted(set(expected) - set(received))
    surplus = sorted(set(received) - set(expected))
    if missing or surplus:
        raise ValueError(
            f"Expected the {len(expected)} official entries of this layer. "
            f"Received: {len(received)} entries, missing={missing}, surplus={surplus}"
        )


def _array(mapping: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(mapping[name])
    if array.shape != shape:
        raise ValueError(
            f"Expected {name} of shape {shape}. Received: {name} of shape {array.shape}"
        )
    return array
