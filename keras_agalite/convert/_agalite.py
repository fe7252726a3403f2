"""The official AGaLiTe."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from keras import ops

from keras_agalite.convert._entries import Entry, block_entries, dense_entries
from keras_agalite.layers import AGaLiTe
from keras_agalite.ops.gated_linear_attention import (
    clock_modulus,
    pack_agalite_state,
    unpack_agalite_state,
)


def weight_entries(layer: AGaLiTe) -> Iterator[Entry]:
    for i, block in enumerate(layer.cell.blocks, 1):
        prefix = f"layer{i}"
        attention = f"{prefix}/AttentionORLiTLayer_0"
        yield from dense_entries(
            {
                f"{attention}/linear_kqvbetagammas": block.projection,
                f"{attention}/linear_p1p2p3": block.expansion,
                f"{attention}/project": block.attention_output,
            }
        )
        yield from block_entries(prefix, block)


def state_shapes(layer: AGaLiTe) -> dict[str, tuple[int, ...]]:
    a = layer.cell.cell_config
    wide = a["eta"] * a["head_dim"]
    parts = {
        "tilde_k": (a["r"], a["num_heads"], wide),
        "tilde_v": (a["r"], a["num_heads"], a["head_dim"]),
        "s": (a["num_heads"], wide),
        "tick": (1,),
    }
    return {
        f"layer_{i}/{part}": shape
        for i in range(1, a["num_layers"] + 1)
        for part, shape in parts.items()
    }


def state_from_official(layer: AGaLiTe, state: dict[str, np.ndarray]) -> list[Any]:
    result = []
    for i, block in enumerate(layer.cell.blocks, 1):
        tilde_k, tilde_v, s, tick = (
            state[f"layer_{i}/{part}"] for part in ("tilde_k", "tilde_v", "s", "tick")
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


def state_to_official(layer: AGaLiTe, state: list[np.ndarray]) -> dict[str, np.ndarray]:
    result = {}
    for i, (block, packed) in enumerate(zip(layer.cell.blocks, state, strict=True), 1):
        sizes = block.num_heads, block.head_dim, block.eta, block.r
        keys, values, clock = (
            ops.convert_to_numpy(x)
            for x in unpack_agalite_state(ops.convert_to_tensor(packed), *sizes)
        )
        keys = keys.reshape(*keys.shape[:3], block.eta * block.head_dim)
        unfold = [min(j, block.r - 1 - j) for j in range(block.r)]
        result[f"layer_{i}/tilde_k"] = keys[:, unfold]
        result[f"layer_{i}/tilde_v"] = values[:, unfold]
        result[f"layer_{i}/s"] = keys[:, -1]
        result[f"layer_{i}/tick"] = clock[:, None] + 1
    return result
