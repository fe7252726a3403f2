"""The official GTrXL. Its memory has an entry for each block and a last one, for the
outputs of the last block, which nothing reads and which our state does not hold."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_agalite.convert._entries import (
    Entry,
    dense_entries,
    gate_entries,
    norm_entries,
)
from keras_agalite.layers import GTrXL


def weight_entries(layer: GTrXL) -> Iterator[Entry]:
    yield Entry(layer.cell.content_bias, ["u"])
    yield Entry(layer.cell.position_bias, ["v"])
    yield from dense_entries({"embedding/layers_0": layer.cell.blocks[0].embedding})
    for i, block in enumerate(layer.cell.blocks):
        prefix = f"layers_{i}"
        yield from dense_entries(
            {
                f"{prefix}/attention/attention_q": block.query_projection,
                f"{prefix}/attention/attention_kv": block.key_value_projection,
                f"{prefix}/attention/project_pos": block.position_projection,
                f"{prefix}/attention/project": block.attention_output,
                f"{prefix}/mlp/layers_0/layers_0": block.feedforward_intermediate,
                f"{prefix}/mlp/layers_2/layers_0": block.feedforward_output,
            }
        )
        yield from norm_entries(f"{prefix}/layernorm1", block.attention_norm)
        yield from norm_entries(f"{prefix}/layernorm2", block.feedforward_norm)
        yield from gate_entries(f"{prefix}/gate1", block.attention_gate)
        yield from gate_entries(f"{prefix}/gate2", block.feedforward_gate)


def state_shapes(layer: GTrXL) -> dict[str, tuple[int, ...]]:
    a = layer.cell.cell_config
    length = a["memory_length"]
    return {
        "memory": (a["num_layers"] + 1, length, 1, a["hidden_dim"]),
        "mask": (length,),
    }


def state_from_official(layer: GTrXL, state: dict[str, np.ndarray]) -> list[Any]:
    hidden = state["mask"].astype(bool)
    if np.any(hidden[:, 1:] & ~hidden[:, :-1]):
        raise ValueError(
            "In an official state the newest items are seen and those before them "
            f"hidden. Received: mask={hidden.tolist()}"
        )
    seen = np.sum(~hidden, axis=1, keepdims=True)
    memory = state["memory"]
    return [
        np.concatenate([memory[:, i].reshape(len(seen), -1), seen], axis=1)
        for i in range(len(layer.cell.blocks))
    ]


def state_to_official(layer: GTrXL, state: list[np.ndarray]) -> dict[str, np.ndarray]:
    shape = state_shapes(layer)["memory"][1:]
    memory = [packed[:, :-1].reshape(-1, *shape) for packed in state]
    age = np.arange(shape[0], 0, -1)
    return {
        "memory": np.stack([*memory, np.zeros_like(memory[0])], axis=1),
        "mask": age > state[0][:, -1:],
    }
