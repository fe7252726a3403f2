"""What the zoo's policies are made of, whatever their memory.

Settings are those of Pramanik et al. (TMLR 2024, arXiv 2310.15719) where the paper has
any; docs/zoo.md says where it has none.
"""

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from keras_agalite.environments.catalog import (
    MEMORY_MAZE_STEPS,
    MINIGRID_MEMORY_SIZES,
    POINT_HIDDEN,
)
from keras_agalite.environments.popgym import LEVELS, TASKS
from keras_agalite.layers.catalog import memory_class
from keras_agalite.layers.checks import MAX_SIZE
from keras_agalite.models.catalog import encoder_class
from keras_agalite.presets import Preset
from keras_agalite.presets.config import Part
from keras_agalite.previous import previous_space, trial_space

MAZE_SIZES = tuple(MEMORY_MAZE_STEPS)
VARIANTS = ("grid", "continuous")
CRAFTAX = ("symbolic", "classic")
MINIGRID_SIZES: tuple[int | str, ...] = tuple(
    f"{cells}_random" if random_length else cells
    for cells, random_length in MINIGRID_MEMORY_SIZES.values()
)

# Widths are multiples of this.
_STEP = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class PolicySpec:
    """A policy for one environment, whatever its memory.

    Sizes are those of the policy with AGaLiTe. One with another memory is as wide as
    it must be to have nearly as many weights.

    Attributes:
        name: Name of the policy with AGaLiTe.
        environment: Name of the environment, for `keras_agalite.environments.make`.
        environment_arguments: Its arguments.
        previous_action_reward: Whether the environment is wrapped in
            `PreviousActionReward`.
        normalize_observations: Whether the policy brings the floats that it sees to
            mean 0 and deviation 1.
        observation_space: What the policy sees, a wrapper's part included.
        action_space: What it chooses from.
        encoder: Short name of the encoder: `"mlp"`, `"grid"`, `"conv"`, `"resnet"`.
        encoder_arguments: Its arguments, without the observation space.
        head_units: Width of the hidden layers of actor and critic.
        head_activation: Their activation.
        num_layers: Blocks of the memory.
        num_heads: Attention heads of a block.
        head_dim: Width of a head.
        hidden_dim: Width of the stream.
        eta: Feature expansion.
    """

    name: str
    environment: str
    environment_arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    previous_action_reward: bool = False
    normalize_observations: bool = False
    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]
    encoder: str
    encoder_arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    head_units: int
    head_activation: str = "tanh"
    num_layers: int = 4
    num_heads: int = 4
    head_dim: int = 64
    hidden_dim: int = 128
    eta: int = 4

    def with_spaces(
        self,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
    ) -> "PolicySpec":
        """The same policy for another environment's spaces."""
        return dataclasses.replace(
            self, observation_space=observation_space, action_space=action_space
        )

    def memory_arguments(self, memory: str = "agalite") -> dict[str, Any]:
        """The arguments of the memory's constructor.

        Args:
            memory: Short name of a memory.

        Raises:
            ValueError: If no memory has the name.
        """
        return dict(self.preset(memory).memory.arguments)

    def config(self, memory: str = "agalite") -> dict[str, Any]:
        """The configuration of a preset with this memory, as JSON has it.

        Args:
            memory: Short name of a memory.

        Raises:
            ValueError: If no memory has the name.
        """
        return self.preset(memory).to_config()

    def preset(self, memory: str = "agalite") -> Preset:
        """The policy with this memory, from which `policy()` builds a fresh one.

        Args:
            memory: Short name of a memory. AGaLiTe has the spec's own width; another
                memory has the multiple of 8 that brings the policy's number of weights
                nearest to AGaLiTe's.

        Raises:
            ValueError: If no memory has the name.
        """
        preset = self._preset("agalite", self.hidden_dim)
        if memory == "agalite":
            return preset
        target = preset.num_weights

        def weights(width: int) -> int:
            return self._preset(memory, width).num_weights

        # The number of weights grows with the width: double it, then bisect.
        low, high = _STEP, 2 * _STEP
        while weights(high) < target and high < MAX_SIZE:
            low, high = high, 2 * high
        while high - low > _STEP:
            middle = (low + high) // (2 * _STEP) * _STEP
            low, high = (middle, high) if weights(middle) < target else (low, middle)
        width = min(low, high, key=lambda width: abs(weights(width) - target))
        return self._preset(memory, width)

    def _preset(self, memory: str, width: int) -> Preset:
        cls = memory_class(memory)
        arguments = cls.zoo_config(
            width,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            head_dim=self.head_dim,
            eta=self.eta,
        )
        encoder = {
            "observation_space": self.observation_space,
            **self.encoder_arguments,
        }
        return Preset(
            Part(encoder_class(self.encoder), "float32", encoder),
            Part(cls, "float32", arguments),
            self.action_space,
            self.head_units,
            self.head_activation,
            normalize_observations=self.normalize_observations,
        )


_SMALL: dict[str, Any] = {"num_layers": 2, "num_heads": 2, "head_dim": 32}
_VECTOR: dict[str, Any] = {
    "encoder": "mlp",
    "encoder_arguments": {"units": [], "activation": "tanh"},
}
_IMAGE: dict[str, Any] = {
    "encoder": "conv",
    "encoder_arguments": {"units": 64},
    "head_units": 64,
    **_SMALL,
}


def _pixels(height: int, width: int) -> spaces.Box:
    return spaces.Box(0, 255, (height, width, 3), np.uint8)


def tmaze(corridor_length: int) -> PolicySpec:
    """T-Maze; up to a corridor of 200 with half the paper's blocks and widths."""
    bits = max(8, (corridor_length - 1).bit_length())
    sizes = {**_SMALL, "hidden_dim": 64} if corridor_length <= 200 else {}
    return PolicySpec(
        name=f"tmaze_{corridor_length}",
        environment="tmaze",
        environment_arguments={
            "corridor_length": corridor_length,
            "num_distractors": 6,
        },
        observation_space=spaces.Box(0.0, 1.0, (8 + bits,), np.float32),
        action_space=spaces.Discrete(4),
        head_units=64 if corridor_length <= 200 else 128,
        **_VECTOR,
        **sizes,
    )


def memory_chain(memory_length: int) -> PolicySpec:
    """MemoryChain of one bit: time left, index, bit."""
    return PolicySpec(
        name=f"memory_chain_{memory_length}",
        environment="memory_chain",
        environment_arguments={"memory_length": memory_length},
        observation_space=spaces.Box(-1.0, 1.0, (3,), np.float32),
        action_space=spaces.Discrete(2),
        head_units=64,
        hidden_dim=64,
        **_VECTOR,
        **_SMALL,
    )


def memory_maze(size: str) -> PolicySpec:
    """Memory Maze, seen as its image alone, with half the paper's blocks."""
    name = f"memory_maze_{size}"
    return PolicySpec(
        name=name,
        environment=name,
        observation_space=_pixels(64, 64),
        action_space=spaces.Discrete(6),
        encoder="conv",
        encoder_arguments={"units": 256},
        head_units=256,
        num_layers=2,
    )


def _memory_gym(task: str, variant: str) -> PolicySpec:
    """Memory Gym's tasks: a smaller network than the paper's for Mystery Path."""
    grid = variant == "grid"
    name = f"{task}_grid" if grid else task
    return PolicySpec(
        name=name,
        environment=name,
        observation_space=_pixels(84, 84),
        action_space=spaces.Discrete(4) if grid else spaces.MultiDiscrete([3, 3]),
        eta=8,
        **_IMAGE,
    )


def mystery_path(variant: str) -> PolicySpec:
    """Mystery Path of memory-gym."""
    return _memory_gym("mystery_path", variant)


def mortar_mayhem(variant: str) -> PolicySpec:
    """Mortar Mayhem of memory-gym."""
    return _memory_gym("mortar_mayhem", variant)


def searing_spotlights() -> PolicySpec:
    """Searing Spotlights of memory-gym."""
    return _memory_gym("searing_spotlights", "continuous")


def vizdoom_two_colors() -> PolicySpec:
    """Two Colors in ViZDoom."""
    return PolicySpec(
        name="vizdoom_two_colors",
        environment="vizdoom_two_colors",
        observation_space=_pixels(60, 80),
        action_space=spaces.Discrete(5),
        **_IMAGE,
    )


def craftax(variant: str) -> PolicySpec:
    """Craftax and Craftax-Classic, symbolic: a smaller memory than the paper's."""
    size, actions = (8268, 43) if variant == "symbolic" else (1345, 17)
    name = f"craftax_{variant}"
    return PolicySpec(
        name=name,
        environment=name,
        observation_space=spaces.Box(-np.inf, np.inf, (size,), np.float32),
        action_space=spaces.Discrete(actions),
        encoder="mlp",
        encoder_arguments={"units": [128], "activation": "relu"},
        head_units=128,
        head_activation="relu",
        eta=8,
        **_SMALL,
    )


def minigrid_memory(size: int | str) -> PolicySpec:
    """MiniGrid-Memory, with half the paper's blocks and widths."""
    name = f"minigrid_memory_{size}"
    return PolicySpec(
        name=name,
        environment=name,
        observation_space=spaces.Box(0, 255, (7, 7, 3), np.uint8),
        action_space=spaces.Discrete(7),
        encoder="grid",
        encoder_arguments={"categories": [11, 6, 4], "units": 128},
        head_units=64,
        hidden_dim=64,
        **_SMALL,
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


def popgym(task: str) -> PolicySpec:
    """A task of POPGym, with half the paper's blocks and widths."""
    level = next(level for level in LEVELS if task.endswith(level))
    name = task.removesuffix(level)
    observations, actions = _popgym_spaces()[name]
    observation: Any = observations[LEVELS.index(level)]
    action = actions[LEVELS.index(level)]
    if name in _POPGYM_ANSWERS:
        observation = previous_space(observation, action)
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", task).lower()
    return PolicySpec(
        name=f"popgym_{words}",
        environment=f"popgym:{task}",
        observation_space=observation,
        action_space=action,
        head_units=64,
        hidden_dim=64,
        **_VECTOR,
        **_SMALL,
    )


# Robot -> its positions, its actions and the bound of each.
_ROBOTS = {
    "Ant": (13, 8, 1.0),
    "HalfCheetah": (8, 6, 1.0),
    "Hopper": (5, 3, 1.0),
    "Humanoid": (22, 17, 0.4),
    "HumanoidStandup": (22, 17, 0.4),
    "InvertedPendulum": (2, 1, 3.0),
    "Swimmer": (3, 2, 1.0),
    "Walker2d": (8, 6, 1.0),
}
ROBOTS = tuple(f"{robot}-v5" for robot in _ROBOTS)


def mujoco_positions(name: str) -> PolicySpec:
    """A robot without its velocities; half the paper's blocks and widths."""
    robot = name.removesuffix("-v5")
    positions, actions, bound = _ROBOTS[robot]
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", robot).lower()
    return PolicySpec(
        name=f"mujoco_positions_{words}",
        environment=f"mujoco_positions:{name}",
        normalize_observations=True,
        observation_space=spaces.Box(-np.inf, np.inf, (positions,), np.float32),
        action_space=spaces.Box(-bound, bound, (actions,), np.float32),
        head_units=64,
        hidden_dim=64,
        **_VECTOR,
        **_SMALL,
    )


# What an episode shows, and the actions.
_PLANE = (
    spaces.Box(-np.inf, np.inf, (2,), np.float32),
    spaces.Box(-1.0, 1.0, (2,), np.float32),
)
_TASKS: dict[str, tuple[Any, Any]] = {
    **{f"point_{hidden}": _PLANE for hidden in POINT_HIDDEN},
    "hidden_goal": (spaces.Box(0.0, 1.0, (10,), np.float32), spaces.Discrete(5)),
}
FAMILIES = tuple(_TASKS)


def trials(family: str) -> PolicySpec:
    """Trials of several episodes of one task, with a quarter of the paper's width."""
    observation, action = _TASKS[family]
    return PolicySpec(
        name=f"{family}_trials",
        environment=f"{family}_trials",
        observation_space=trial_space(observation, action),
        action_space=action,
        head_units=64,
        num_layers=2,
        num_heads=2,
        head_dim=16,
        hidden_dim=32,
        **_VECTOR,
    )


@functools.cache
def known_specs() -> dict[str, PolicySpec]:
    """Every policy of the zoo by name; of those with a length, one each."""
    specs = (
        tmaze(10),
        memory_chain(100),
        *map(memory_maze, MAZE_SIZES),
        *map(mystery_path, VARIANTS),
        *map(mortar_mayhem, VARIANTS),
        searing_spotlights(),
        vizdoom_two_colors(),
        *map(craftax, CRAFTAX),
        *map(minigrid_memory, MINIGRID_SIZES),
        *map(mujoco_positions, ROBOTS),
        *map(trials, FAMILIES),
        *map(popgym, TASKS),
    )
    return {spec.name: spec for spec in specs}


# Policies with a length in their names, and the least of each.
_LENGTHS: dict[str, tuple[Callable[[int], PolicySpec], int]] = {
    "tmaze": (tmaze, 2),
    "memory_chain": (memory_chain, 1),
}
FORMS = (
    "tmaze_<corridor length>",
    "memory_chain_<memory length>",
    "mujoco_positions_<robot>",
    "popgym_<task>",
)


def find_spec(name: str) -> PolicySpec:
    """The specification of a policy of the zoo.

    Args:
        name: `tmaze_<corridor length>`, `memory_chain_<memory length>`, or one of the
            names that `list_policies()` lists, such as `"memory_maze_9x9"` or
            `"popgym_repeat_first_easy"`.

    Returns:
        A `PolicySpec`.

    Raises:
        ValueError: If no policy has the name; the message lists the legal forms.

    Example:

    >>> spec = find_spec("tmaze_50")
    >>> spec.environment, spec.environment_arguments
    ('tmaze', {'corridor_length': 50, 'num_distractors': 6})
    """
    if name in known_specs():
        return known_specs()[name]
    stem, _, length = name.rpartition("_")
    if stem in _LENGTHS and re.fullmatch("[1-9][0-9]{0,8}", length):
        make, least = _LENGTHS[stem]
        if int(length) >= least:
            return make(int(length))
    families = tuple(form.partition("<")[0] for form in FORMS)
    fixed = [known for known in known_specs() if not known.startswith(families)]
    raise ValueError(
        f"Expected the name of a policy of the zoo: {', '.join([*FORMS, *fixed])}, as "
        f"keras_agalite.zoo.list_policies() lists them. Received: name={name!r}"
    )
