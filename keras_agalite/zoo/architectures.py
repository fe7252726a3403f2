"""What the zoo's policies are made of, as configurations of presets.

Settings are the paper's (Pramanik et al., TMLR 2024) where it has any; docs/zoo.md says
where it has none. A width for another memory is found by counting weights.
"""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from keras_agalite.models.presets import FORMAT
from keras_agalite.models.sizes import count_parameters
from keras_agalite.models.spaces import space_to_config

_PAPER = {"num_layers": 4, "num_heads": 4, "head_dim": 64}
_SMALL = {"num_layers": 2, "num_heads": 2, "head_dim": 32}
_SIZES = range(8, 4096, 8)


class Architecture(NamedTuple):
    """A policy for one environment, whatever its memory.

    Attributes:
        name: Name of the released policy with AGaLiTe.
        environment: Gymnasium id.
        observation_space: The environment's.
        action_space: The environment's.
        encoder: Class and arguments of the encoder, without the space.
        head_units: Width of the heads.
        head_activation: Their activation.
        blocks: Layers, heads and width of a head.
        hidden_dim: Width of AGaLiTe.
        eta: Feature expansion of AGaLiTe.
    """

    name: str
    environment: str
    observation_space: Any
    action_space: Any
    encoder: tuple[str, dict[str, Any]]
    head_units: int
    head_activation: str = "tanh"
    blocks: dict[str, int] = _PAPER
    hidden_dim: int = 128
    eta: int = 4

    def config(self, memory: str = "agalite") -> dict[str, Any]:
        """The configuration of a preset with this memory.

        AGaLiTe has the architecture's own width; another memory gets the width, in
        steps of 8, with which the policy has nearly as many weights.
        """
        config = self._config("agalite", self.hidden_dim)
        if memory == "agalite":
            return config
        target = count_parameters(config)
        return min(
            (self._config(memory, width) for width in _SIZES),
            key=lambda config: abs(count_parameters(config) - target),
        )

    def _config(self, memory: str, width: int) -> dict[str, Any]:
        encoder, arguments = self.encoder
        space = space_to_config(self.observation_space)
        name, memory_arguments = _MEMORIES[memory](self, width)
        return {
            "format": FORMAT,
            "encoder": {
                "class": encoder,
                "dtype": "float32",
                "config": {"observation_space": space, **arguments},
            },
            "memory": {"class": name, "dtype": "float32", "config": memory_arguments},
            "action_space": space_to_config(self.action_space),
            "head_units": self.head_units,
            "head_activation": self.head_activation,
        }


def _blocks(name: str, **more: Any) -> Callable[[Architecture, int], Any]:
    def arguments(a: Architecture, width: int) -> tuple[str, dict[str, Any]]:
        sizes = {**a.blocks, "hidden_dim": width, "intermediate_dim": width}
        return name, {**sizes, **more}

    return arguments


def _cells(name: str, num_layers: int) -> Callable[[Architecture, int], Any]:
    def arguments(a: Architecture, width: int) -> tuple[str, dict[str, Any]]:
        return name, {"hidden_dim": width, "num_layers": num_layers}

    return arguments


def _layers(name: str, *widths: str, **more: Any) -> Callable[[Architecture, int], Any]:
    """As many layers as AGaLiTe has; what `widths` names is as wide as the stream."""

    def arguments(a: Architecture, width: int) -> tuple[str, dict[str, Any]]:
        sizes = dict.fromkeys(("hidden_dim", *widths), width)
        return name, {"num_layers": a.blocks["num_layers"], **sizes, **more}

    return arguments


def _gated_delta_net(a: Architecture, width: int) -> tuple[str, dict[str, Any]]:
    sizes = {
        "head_dim": a.blocks["head_dim"] // 2,
        "value_expansion": 2,
        "conv_size": 4,
    }
    return _blocks("GatedDeltaNet", **sizes)(a, width)


_MEMORIES: dict[str, Callable[[Architecture, int], tuple[str, dict[str, Any]]]] = {
    "agalite": lambda a, width: _blocks("AGaLiTe", eta=a.eta, r=2)(a, width),
    "galite": _blocks("GaLiTe", eta=2),
    "gtrxl": _blocks("GTrXL", memory_length=128, sliding_window=True),
    "shm": _layers(
        "StableHadamardMemory",
        "intermediate_dim",
        matrix_dim=64,
        num_rows=128,
        random_row=True,
        seed=0,
    ),
    "ffm": _layers(
        "FastForgetfulMemory", memory_size=32, context_size=4, max_period=1024
    ),
    "gated_delta_net": _gated_delta_net,
    "lru": _layers("LRU", "state_dim", r_min=0.0, r_max=1.0, max_phase=2 * math.pi),
    "mingru": _layers("MinGRU", "intermediate_dim", expansion=1),
    "gru": _cells("GRU", 1),
    "lstm": _cells("LSTM", 1),
    "memoryless": _cells("Memoryless", 4),
}
MEMORY_NAMES = tuple(_MEMORIES)


def _pixels(size: int) -> spaces.Box:
    return spaces.Box(0, 255, (size, size, 3), np.uint8)


def tmaze(corridor_length: int) -> Architecture:
    """T-Maze; up to a corridor of 200 with half the paper's blocks and widths."""
    bits = max(8, (corridor_length - 1).bit_length())
    small = corridor_length <= 200
    return Architecture(
        name=f"tmaze_{corridor_length}",
        environment="keras_agalite/TMaze-v0",
        observation_space=spaces.Box(0.0, 1.0, (8 + bits,), np.float32),
        action_space=spaces.Discrete(4),
        encoder=("MLPEncoder", {"units": [], "activation": "tanh"}),
        head_units=64 if small else 128,
        blocks=_SMALL if small else _PAPER,
        hidden_dim=64 if small else 128,
    )


def memory_chain(memory_length: int) -> Architecture:
    """MemoryChain of one bit: time left, index, bit."""
    return Architecture(
        name=f"memory_chain_{memory_length}",
        environment="keras_agalite/MemoryChain-v0",
        observation_space=spaces.Box(-1.0, 1.0, (3,), np.float32),
        action_space=spaces.Discrete(2),
        encoder=("MLPEncoder", {"units": [], "activation": "tanh"}),
        head_units=64,
        blocks=_SMALL,
        hidden_dim=64,
    )


def memory_maze(size: str) -> Architecture:
    return Architecture(
        name=f"memory_maze_{size}",
        environment=f"keras_agalite/MemoryMaze-{size}-v0",
        observation_space=_pixels(64),
        action_space=spaces.Discrete(6),
        encoder=("ConvEncoder", {"units": 256}),
        head_units=256,
        blocks={**_PAPER, "num_layers": 2},
    )


def mystery_path(variant: str) -> Architecture:
    grid = variant == "grid"
    return Architecture(
        name=f"mystery_path_{variant}",
        environment=f"keras_agalite/MysteryPath-{'Grid-' if grid else ''}v0",
        observation_space=_pixels(84),
        action_space=spaces.Discrete(4) if grid else spaces.MultiDiscrete([3, 3]),
        encoder=("ConvEncoder", {"units": 256}),
        head_units=256,
        eta=8,
    )


def mortar_mayhem(variant: str) -> Architecture:
    """Memory Gym's other tasks look like Mystery Path, and get the same policy."""
    grid = variant == "grid"
    return mystery_path(variant)._replace(
        name=f"mortar_mayhem_{variant}",
        environment=f"keras_agalite/MortarMayhem-{'Grid-' if grid else ''}v0",
    )


def searing_spotlights() -> Architecture:
    return mystery_path("continuous")._replace(
        name="searing_spotlights",
        environment="keras_agalite/SearingSpotlights-v0",
    )


def vizdoom_two_colors() -> Architecture:
    return Architecture(
        name="vizdoom_two_colors",
        environment="keras_agalite/ViZDoomTwoColors-v0",
        observation_space=spaces.Box(0, 255, (60, 80, 3), np.uint8),
        action_space=spaces.Discrete(5),
        encoder=("ConvEncoder", {"units": 256}),
        head_units=256,
    )


def craftax(variant: str) -> Architecture:
    symbolic = variant == "symbolic"
    size, actions = (8268, 43) if symbolic else (1345, 17)
    kind = "Symbolic-v1" if symbolic else "Classic-Symbolic-v1"
    return Architecture(
        name=f"craftax_{variant}",
        environment=f"keras_agalite/Craftax-{kind}",
        observation_space=spaces.Box(-np.inf, np.inf, (size,), np.float32),
        action_space=spaces.Discrete(actions),
        encoder=("MLPEncoder", {"units": [128], "activation": "relu"}),
        head_units=128,
        head_activation="relu",
        eta=8,
    )


def minigrid_memory(size: int) -> Architecture:
    """MiniGrid-Memory, with half the paper's blocks and widths."""
    random = "Random" if size == 17 else ""
    return Architecture(
        name=f"minigrid_memory_{size}",
        environment=f"keras_agalite/MiniGridMemory-S{size}{random}-v0",
        observation_space=spaces.Box(0, 255, (7, 7, 3), np.uint8),
        action_space=spaces.Discrete(7),
        encoder=("GridEncoder", {"categories": [11, 6, 4], "units": 128}),
        head_units=64,
        blocks=_SMALL,
        hidden_dim=64,
    )


def _popgym_spaces() -> dict[str, tuple[list[Any], list[Any]]]:
    """Observations and actions of POPGym's tasks: easy, medium, hard."""
    discrete, multi = spaces.Discrete, spaces.MultiDiscrete
    cart = np.array([4.8, 24 * 2 * np.pi / 360], np.float32)
    cart_pole: Any = [spaces.Box(-cart, cart)] * 3, [discrete(2)] * 3
    torque = spaces.Box(-2.0, 2.0, (1,), np.float32)
    pendulum: Any = [spaces.Box(-1.0, 1.0, (2,), np.float32)] * 3, [torque] * 3
    suits: Any = [discrete(4)] * 3, [discrete(4)] * 3
    return {
        "Autoencode": ([multi([2, 4])] * 3, [discrete(4)] * 3),
        "Battleship": ([discrete(2)] * 3, [multi([n, n]) for n in (8, 10, 12)]),
        "Concentration": (
            [multi([3] * 52), multi([3] * 104), multi([14] * 52)],
            [discrete(n) for n in (52, 104, 52)],
        ),
        "CountRecall": (
            [multi([n, n]) for n in (2, 4, 13)],
            [discrete(n) for n in (27, 27, 17)],
        ),
        "HigherLower": ([discrete(13)] * 3, [discrete(2)] * 3),
        "MineSweeper": (
            [discrete(n) for n in (3, 7, 10)],
            [multi([n, n]) for n in (4, 6, 8)],
        ),
        "MultiarmedBandit": ([discrete(2)] * 3, [discrete(n) for n in (10, 20, 30)]),
        "NoisyPositionOnlyCartPole": cart_pole,
        "NoisyPositionOnlyPendulum": pendulum,
        "PositionOnlyCartPole": cart_pole,
        "PositionOnlyPendulum": pendulum,
        "RepeatFirst": suits,
        "RepeatPrevious": suits,
        "VelocityOnlyCartPole": (
            [spaces.Box(-np.inf, np.inf, (2,), np.float32)] * 3,
            [discrete(2)] * 3,
        ),
    }


# Those whose observations are answers to the last action, which is added to them.
_POPGYM_ANSWERS = ("Battleship", "Concentration", "MineSweeper", "MultiarmedBandit")
_LEVELS = ("Easy", "Medium", "Hard")


def popgym_tasks() -> tuple[str, ...]:
    return tuple(name + level for name in _popgym_spaces() for level in _LEVELS)


def popgym(task: str) -> Architecture:
    """A task of POPGym, with half the paper's blocks."""
    level = next(level for level in _LEVELS if task.endswith(level))
    name = task.removesuffix(level)
    observations, actions = _popgym_spaces()[name]
    observation: Any = observations[_LEVELS.index(level)]
    action = actions[_LEVELS.index(level)]
    if name in _POPGYM_ANSWERS:
        added = {"previous_action": spaces.flatdim(action), "previous_reward": 1}
        parts = {
            key: spaces.Box(-np.inf, np.inf, (size,), np.float32)
            for key, size in added.items()
        }
        observation = spaces.Dict({"observation": observation, **parts})
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", task).lower()
    return Architecture(
        name=f"popgym_{words}",
        environment=f"popgym:{task}",
        observation_space=observation,
        action_space=action,
        encoder=("MLPEncoder", {"units": [], "activation": "tanh"}),
        head_units=128,
        blocks=_SMALL,
    )
