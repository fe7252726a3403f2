"""The official GaLiTe, whose weights count blocks from 0 and whose states from 1."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_agalite.convert._entries import Entry, block_entries, dense_entries
from keras_agalite.layers import GaLiTe


def weight_entries(layer: GaLiTe) -> Iterator[Entry]:
    for i, block in enumerate(layer.cell.blocks):
        prefix = f"layer{i}"
        attention = f"{prefix}/RLTAttentionLayer_0"
        query = f"{attention}/ParameteredProjection_0"
        key, gate = (f"{attention}/csop/ParameteredProjection_{j}" for j in (0, 1))
        projected = [
            f"{attention}/Dense_0",
            f"{key}/Dense_0",
            f"{attention}/csop/Dense_0",
            f"{attention}/csop/Dense_1",
            f"{gate}/Dense_0",
        ]
        for names, dense in (
            (projected, block.projection),
            ([f"{key}/Dense_1", f"{gate}/Dense_1"], block.expansion),
        ):
            for part, weight in (("kernel", dense.kernel), ("bias", dense.bias)):
                yield Entry(weight, [f"{n}/{part}" for n in names], block.num_heads)
        yield from dense_entries(
            {
                f"{query}/Dense_0": block.query_projection,
                f"{query}/Dense_1": block.query_expansion,
                f"{attention}/Dense_1": block.attention_output,
            }
        )
        yield from block_entries(prefix, block)


def state_shapes(layer: GaLiTe) -> dict[str, tuple[int, ...]]:
    a = layer.cell.cell_config
    heads, wide = a["num_heads"], a["eta"] * a["head_dim"]
    parts = {"c": (heads, a["head_dim"], wide), "s": (heads, wide)}
    return {
        f"layer_{i}/{part}": shape
        for i in range(1, a["num_layers"] + 1)
        for part, shape in parts.items()
    }


def state_from_official(layer: GaLiTe, state: dict[str, np.ndarray]) -> list[Any]:
    result = []
    for i in range(1, len(layer.cell.blocks) + 1):
        parts = (state[f"layer_{i}/{part}"] for part in "cs")
        result.append(np.concatenate([x.reshape(len(x), -1) for x in parts], axis=1))
    return result


def state_to_official(layer: GaLiTe, state: list[np.ndarray]) -> dict[str, np.ndarray]:
    result, shapes = {}, state_shapes(layer)
    for i, packed in enumerate(state, 1):
        c, s = f"layer_{i}/c", f"layer_{i}/s"
        size = np.prod(shapes[c])
        result[c] = packed[:, :size].reshape(-1, *shapes[c])
        result[s] = packed[:, size:].reshape(-1, *shapes[s])
    return result
