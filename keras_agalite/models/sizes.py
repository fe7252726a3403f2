"""How many weights a configuration asks for, counted without building anything.

A preset's weights are compared with this number before a policy is made, so that a
file which asks for the impossible costs nothing.
"""

from collections.abc import Callable
from typing import Any

from keras_agalite.models.action_heads import head_class
from keras_agalite.models.spaces import (
    feature_size,
    is_image,
    leaves,
    space_from_config,
)


def count_parameters(config: dict[str, Any]) -> int:
    """Number of weights of the policy that `config` (of a preset) describes."""
    encoder, memory = config["encoder"], config["memory"]
    features, size = _ENCODERS[encoder["class"]](**encoder["config"])
    memory_weights, width = _MEMORIES[memory["class"]](features, **memory["config"])
    units = config["head_units"]
    action_space = space_from_config(config["action_space"])
    activation = config["head_activation"]
    actor = head_class(action_space).count_weights(
        width, action_space, units, activation
    )
    return size + memory_weights + actor + _dense(width, units) + _dense(units, 1)


def _dense(inputs: int, units: int) -> int:
    return (inputs + 1) * units


def _parts(observation_space: Any) -> tuple[tuple[int, ...], int]:
    """Shape of the (last) image and the width of all other parts."""
    if isinstance(observation_space, dict):
        observation_space = space_from_config(observation_space)
    spaces = [space for _, space in leaves(observation_space)]
    images = [space.shape for space in spaces if is_image(space)]
    others = sum(feature_size(space) for space in spaces if not is_image(space))
    return (images or [()])[-1], others


def _mlp(observation_space: Any, units: Any, activation: str) -> tuple[int, int]:
    image, width = _parts(observation_space)
    width += _product(image) if image else 0
    total = 0
    for n in units:
        total, width = total + _dense(width, n), n
    return width, total


def _grid(observation_space: Any, categories: Any, units: int) -> tuple[int, int]:
    (height, width, _), others = _parts(observation_space)
    return units + others, _dense(height * width * sum(categories), units)


def _conv(observation_space: Any, units: int) -> tuple[int, int]:
    (height, width, channels), others = _parts(observation_space)
    total = 0
    for filters, kernel, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
        total += _dense(kernel * kernel * channels, filters)
        height, width = (
            (n - kernel) // stride + 1 if n >= kernel else 0 for n in (height, width)
        )
        channels = filters
    return units + others, total + _dense(height * width * channels, units)


def _resnet(observation_space: Any, units: int, filters: Any) -> tuple[int, int]:
    (height, width, channels), others = _parts(observation_space)
    total = 0
    for n in filters:
        total += _dense(9 * channels, n) + 4 * _dense(9 * n, n)
        height, width, channels = -(-height // 2), -(-width // 2), n
    return units + others, total + _dense(height * width * channels, units)


def _product(shape: tuple[int, ...]) -> int:
    result = 1
    for n in shape:
        result *= n
    return result


def _gates_and_feedforward(hidden_dim: int, intermediate_dim: int) -> int:
    """Two norms, two GRU gates and the feed-forward of a gated block."""
    gate = 6 * hidden_dim**2 + hidden_dim
    up, down = (
        _dense(hidden_dim, intermediate_dim),
        _dense(intermediate_dim, hidden_dim),
    )
    return 4 * hidden_dim + 2 * gate + up + down


def _agalite(
    features: int,
    num_layers: int,
    hidden_dim: int,
    num_heads: int,
    head_dim: int,
    intermediate_dim: int,
    eta: int,
    r: int,
) -> tuple[int, int]:
    block = (
        _dense(hidden_dim, num_heads * (5 * head_dim + 3 * eta))
        + _dense(num_heads * head_dim, hidden_dim)
        + _gates_and_feedforward(hidden_dim, intermediate_dim)
    )
    return _dense(features, hidden_dim) + num_layers * block, hidden_dim


def _galite(
    features: int,
    num_layers: int,
    hidden_dim: int,
    num_heads: int,
    head_dim: int,
    intermediate_dim: int,
    eta: int,
) -> tuple[int, int]:
    block = (
        _dense(hidden_dim, num_heads * (5 * head_dim + 2 * eta))
        + num_heads * _dense(head_dim, head_dim + eta)
        + _dense(num_heads * head_dim, hidden_dim)
        + _gates_and_feedforward(hidden_dim, intermediate_dim)
    )
    return _dense(features, hidden_dim) + num_layers * block, hidden_dim


def _gtrxl(
    features: int,
    num_layers: int,
    hidden_dim: int,
    num_heads: int,
    head_dim: int,
    intermediate_dim: int,
    memory_length: int,
    sliding_window: bool,
) -> tuple[int, int]:
    width = num_heads * head_dim
    block = (
        4 * _dense(hidden_dim, width)
        + _dense(width, hidden_dim)
        + _gates_and_feedforward(hidden_dim, intermediate_dim)
    )
    total = _dense(features, hidden_dim) + 2 * width + num_layers * block
    return total, hidden_dim


def _recurrent(gates: int, biases: int) -> Callable[..., tuple[int, int]]:
    def count(features: int, hidden_dim: int, num_layers: int) -> tuple[int, int]:
        total = 0
        for _ in range(num_layers):
            total += gates * hidden_dim * (features + hidden_dim + biases)
            features = hidden_dim
        return total, hidden_dim

    return count


def _residual(hidden_dim: int, intermediate_dim: int) -> int:
    """Two norms and the feed-forward of a residual block."""
    up, down = (
        _dense(hidden_dim, intermediate_dim),
        _dense(intermediate_dim, hidden_dim),
    )
    return 4 * hidden_dim + up + down


def _stable_hadamard_memory(
    features: int,
    num_layers: int,
    hidden_dim: int,
    memory_size: int,
    num_rows: int,
    random_row: bool,
    intermediate_dim: int,
    seed: int,
) -> tuple[int, int]:
    block = (
        hidden_dim * (4 * memory_size + 1)
        + num_rows * memory_size
        + _dense(memory_size, hidden_dim)
        + _residual(hidden_dim, intermediate_dim)
    )
    return _dense(features, hidden_dim) + num_layers * block, hidden_dim


def _fast_forgetful_memory(
    features: int,
    num_layers: int,
    hidden_dim: int,
    memory_size: int,
    context_size: int,
    max_period: int,
) -> tuple[int, int]:
    total = 0
    for _ in range(num_layers):
        total += (
            2 * _dense(features, memory_size)
            + 2 * _dense(features, hidden_dim)
            + _dense(2 * memory_size * context_size, hidden_dim)
            + memory_size
            + context_size
        )
        features = hidden_dim
    return total, hidden_dim


def _gated_delta_net(
    features: int,
    num_layers: int,
    hidden_dim: int,
    num_heads: int,
    head_dim: int,
    expand_v: int,
    conv_size: int,
    intermediate_dim: int,
) -> tuple[int, int]:
    keys, values = num_heads * head_dim, num_heads * head_dim * expand_v
    channels = 2 * keys + values
    block = (
        hidden_dim * (channels + 2 * num_heads + 2 * values)
        + conv_size * channels
        + 2 * num_heads
        + head_dim * expand_v
        + 2 * hidden_dim
        + 3 * hidden_dim * intermediate_dim
    )
    return _dense(features, hidden_dim) + num_layers * block, hidden_dim


def _lru(
    features: int,
    num_layers: int,
    hidden_dim: int,
    state_dim: int,
    r_min: float,
    r_max: float,
    max_phase: float,
) -> tuple[int, int]:
    block = (
        (4 * hidden_dim + 3) * state_dim
        + 3 * hidden_dim
        + _dense(hidden_dim, 2 * hidden_dim)
    )
    return _dense(features, hidden_dim) + num_layers * block, hidden_dim


def _mingru(
    features: int,
    num_layers: int,
    hidden_dim: int,
    expansion: int,
    intermediate_dim: int,
) -> tuple[int, int]:
    width = expansion * hidden_dim
    block = (
        _dense(hidden_dim, 2 * width)
        + _dense(width, hidden_dim)
        + _residual(hidden_dim, intermediate_dim)
    )
    return _dense(features, hidden_dim) + num_layers * block, hidden_dim


def _memoryless(features: int, hidden_dim: int, num_layers: int) -> tuple[int, int]:
    total = _dense(features, hidden_dim)
    return total + (num_layers - 1) * _dense(hidden_dim, hidden_dim), hidden_dim


_ENCODERS: dict[str, Callable[..., tuple[int, int]]] = {
    "MLPEncoder": _mlp,
    "GridEncoder": _grid,
    "ConvEncoder": _conv,
    "ResNetEncoder": _resnet,
}
_MEMORIES: dict[str, Callable[..., tuple[int, int]]] = {
    "AGaLiTe": _agalite,
    "GaLiTe": _galite,
    "GTrXL": _gtrxl,
    "StableHadamardMemory": _stable_hadamard_memory,
    "FastForgetfulMemory": _fast_forgetful_memory,
    "GatedDeltaNet": _gated_delta_net,
    "LRU": _lru,
    "MinGRU": _mingru,
    "GRU": _recurrent(gates=3, biases=2),
    "LSTM": _recurrent(gates=4, biases=1),
    "Memoryless": _memoryless,
}
