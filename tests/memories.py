"""A tiny configuration of each memory of the catalog: one row a memory.

Tests of layers, policies and presets take their cases from here.
"""

from keras_agalite.layers import MEMORIES

TINY = {
    "agalite": {
        "num_layers": 2,
        "hidden_dim": 8,
        "num_heads": 2,
        "head_dim": 4,
        "intermediate_dim": 6,
        "eta": 2,
        "r": 2,
    },
    "galite": {
        "num_layers": 2,
        "hidden_dim": 8,
        "num_heads": 2,
        "head_dim": 4,
        "intermediate_dim": 6,
        "eta": 2,
    },
    "gtrxl": {
        "num_layers": 2,
        "hidden_dim": 8,
        "num_heads": 2,
        "head_dim": 4,
        "intermediate_dim": 6,
        "memory_length": 3,
    },
    "shm": {
        "num_layers": 1,
        "hidden_dim": 8,
        "matrix_dim": 4,
        "num_rows": 5,
        "intermediate_dim": 6,
    },
    "ffm": {"num_layers": 1, "hidden_dim": 8, "memory_size": 2, "context_size": 3},
    "gated_delta_net": {
        "num_layers": 1,
        "hidden_dim": 8,
        "num_heads": 2,
        "head_dim": 2,
        "value_expansion": 2,
        "conv_size": 3,
        "intermediate_dim": 6,
    },
    "memformer": {
        "num_layers": 1,
        "hidden_dim": 8,
        "num_heads": 2,
        "num_slots": 3,
        "segment_length": 2,
        "temperature": 0.5,
        "intermediate_dim": 6,
    },
    "grc": {
        "num_layers": 1,
        "hidden_dim": 8,
        "num_heads": 2,
        "num_slots": 3,
        "intermediate_dim": 6,
    },
    "trmrl": {
        "num_layers": 1,
        "hidden_dim": 8,
        "num_heads": 2,
        "window": 4,
        "intermediate_dim": 6,
    },
    "spatial": {
        "num_layers": 1,
        "hidden_dim": 8,
        "num_heads": 2,
        "capacity": 4,
        "strategy": "mvfo",
        "chunk_size": 2,
        "num_chunks": 2,
        "intermediate_dim": 6,
    },
    "lru": {"num_layers": 1, "hidden_dim": 8, "state_dim": 3},
    "mingru": {
        "num_layers": 1,
        "hidden_dim": 8,
        "expansion": 1,
        "intermediate_dim": 6,
    },
    "gru": {"hidden_dim": 5, "num_layers": 2},
    "lstm": {"hidden_dim": 5},
    "memoryless": {"hidden_dim": 6, "num_layers": 2},
}


def tiny(short_name, **kwargs):
    """A memory of the catalog, not built."""
    return MEMORIES[short_name](**{**TINY[short_name], **kwargs})
