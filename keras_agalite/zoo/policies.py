"""The factory functions of the zoo."""

import json
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from keras_agalite.models import MemoryPolicy, presets
from keras_agalite.models.sizes import count_parameters
from keras_agalite.zoo import architectures
from keras_agalite.zoo.architectures import MEMORY_NAMES, Architecture

MAZE_SIZES = ("9x9", "11x11", "13x13", "15x15")
MYSTERY_PATHS = ("grid", "continuous")
CRAFTAX = ("symbolic", "classic")
MINIGRID_SIZES = (7, 9, 11, 13, 17)

Weights = str | Path | None

_ARGUMENTS = """
    Args:
        {argument}memory: `"agalite"`, `"galite"`, `"gtrxl"`, `"shm"`, `"ffm"`,
            `"gated_delta_net"`, `"lru"`, `"mingru"`, `"gru"`, `"lstm"` or
            `"memoryless"`, at about the same number of weights.
        weights: `"auto"`: released weights if there are any, else fresh ones and a
            warning that says so. `"pretrained"`: released weights, or an error. None:
            fresh weights. Else a preset's folder or address, or a weights file.

    Returns:
        A `MemoryPolicy`.

    Raises:
        ValueError: If an argument is none of these, nothing is released for
            `"pretrained"`, or the weights do not fit.
    """


def tmaze_policy(
    corridor_length: int = 10, memory: str = "agalite", weights: Weights = "auto"
) -> MemoryPolicy:
    """A policy for `keras_agalite/TMaze-v0`, with six distractors."""
    _check_length("corridor_length", corridor_length, 2)
    return _policy(architectures.tmaze(corridor_length), memory, weights)


def memory_chain_policy(
    memory_length: int = 100, memory: str = "agalite", weights: Weights = "auto"
) -> MemoryPolicy:
    """A policy for MemoryChain of bsuite, in gymnax's form, with one bit."""
    _check_length("memory_length", memory_length, 1)
    return _policy(architectures.memory_chain(memory_length), memory, weights)


def memory_maze_policy(
    size: str = "9x9", memory: str = "agalite", weights: Weights = "auto"
) -> MemoryPolicy:
    """A policy for Memory Maze, which sees the image alone."""
    _check("size", size, MAZE_SIZES)
    return _policy(architectures.memory_maze(size), memory, weights)


def mystery_path_policy(
    variant: str = "grid", memory: str = "agalite", weights: Weights = "auto"
) -> MemoryPolicy:
    """A policy for Mystery Path of memory-gym."""
    _check("variant", variant, MYSTERY_PATHS)
    return _policy(architectures.mystery_path(variant), memory, weights)


def mortar_mayhem_policy(
    variant: str = "grid", memory: str = "agalite", weights: Weights = "auto"
) -> MemoryPolicy:
    """A policy for Mortar Mayhem of memory-gym."""
    _check("variant", variant, MYSTERY_PATHS)
    return _policy(architectures.mortar_mayhem(variant), memory, weights)


def searing_spotlights_policy(
    memory: str = "agalite", weights: Weights = "auto"
) -> MemoryPolicy:
    """A policy for Searing Spotlights of memory-gym."""
    return _policy(architectures.searing_spotlights(), memory, weights)


def vizdoom_two_colors_policy(
    memory: str = "agalite", weights: Weights = "auto"
) -> MemoryPolicy:
    """A policy for Two Colors in ViZDoom."""
    return _policy(architectures.vizdoom_two_colors(), memory, weights)


def popgym_policy(
    task: str = "RepeatPreviousEasy",
    memory: str = "agalite",
    weights: Weights = "auto",
) -> MemoryPolicy:
    """A policy for a task of POPGym."""
    _check("task", task, architectures.popgym_tasks())
    return _policy(architectures.popgym(task), memory, weights)


def craftax_policy(
    variant: str = "symbolic", memory: str = "agalite", weights: Weights = "auto"
) -> MemoryPolicy:
    """A policy for Craftax with symbolic observations."""
    _check("variant", variant, CRAFTAX)
    return _policy(architectures.craftax(variant), memory, weights)


def minigrid_memory_policy(
    size: int = 11, memory: str = "agalite", weights: Weights = "auto"
) -> MemoryPolicy:
    """A policy for MiniGrid-Memory."""
    _check("size", size, MINIGRID_SIZES)
    return _policy(architectures.minigrid_memory(size), memory, weights)


for _function, _argument in (
    (tmaze_policy, "corridor_length: Number of positions of the corridor."),
    (memory_chain_policy, "memory_length: Steps between the bit and the answer."),
    (searing_spotlights_policy, ""),
    (vizdoom_two_colors_policy, ""),
    (memory_maze_policy, 'size: `"9x9"`, `"11x11"`, `"13x13"` or `"15x15"`.'),
    (mystery_path_policy, 'variant: `"grid"` or `"continuous"`.'),
    (mortar_mayhem_policy, 'variant: `"grid"` or `"continuous"`.'),
    (popgym_policy, 'task: POPGym\'s name, such as `"RepeatPreviousEasy"`.'),
    (craftax_policy, 'variant: `"symbolic"` or `"classic"`.'),
    (minigrid_memory_policy, "size: 7, 9, 11, 13 or 17."),
):
    _argument = f"{_argument}\n        " if _argument else ""
    _function.__doc__ = f"{_function.__doc__}\n{_ARGUMENTS.format(argument=_argument)}"


class PolicyInfo(NamedTuple):
    """A line of `list_policies()`.

    Attributes:
        name: Name of the policy; `MemoryPolicy.from_preset(name)` loads a released one.
        environment: Gymnasium id, or short name.
        memory: Name of the memory.
        parameters: Number of weights.
        score: What its evaluation measured, such as `{"success_rate": 1.0}`; None if
            no weights are released.
    """

    name: str
    environment: str
    memory: str
    parameters: int
    score: dict[str, float] | None


def list_policies() -> list[PolicyInfo]:
    """All policies of the zoo: the released ones, and those one can train."""
    released = {name: _released_info(name) for name in presets.released_presets()}
    known = [
        architectures.tmaze(10),
        architectures.memory_chain(100),
        *map(architectures.memory_maze, MAZE_SIZES),
        *map(architectures.mystery_path, MYSTERY_PATHS),
        *map(architectures.mortar_mayhem, MYSTERY_PATHS),
        architectures.searing_spotlights(),
        architectures.vizdoom_two_colors(),
        *map(architectures.craftax, CRAFTAX),
        *map(architectures.minigrid_memory, MINIGRID_SIZES),
        *map(architectures.popgym, architectures.popgym_tasks()),
    ]
    rest = [
        PolicyInfo(a.name, a.environment, "agalite", count_parameters(a.config()), None)
        for a in known
        if a.name not in released
    ]
    return [*released.values(), *rest]


def _released_info(name: str) -> PolicyInfo:
    folder = presets.find_preset(name)
    config = presets.read_config(folder / presets.CONFIG)
    evaluation = json.loads((folder / "evaluation.json").read_text())
    keys = ("success_rate", "mean_return")
    return PolicyInfo(
        name,
        evaluation["environment"],
        config["memory"]["class"].lower(),
        count_parameters(config),
        {key: evaluation[key] for key in keys if key in evaluation},
    )


def _policy(architecture: Architecture, memory: str, weights: Weights) -> MemoryPolicy:
    _check("memory", memory, MEMORY_NAMES)
    suffix = "" if memory == "agalite" else f"_{memory}"
    name = architecture.name + suffix
    is_released = name in presets.released_presets()
    if weights == "pretrained" and not is_released:
        raise ValueError(
            f"No weights are released for {name}; there are "
            f"{', '.join(presets.released_presets())}. Received: weights='pretrained'"
        )
    if weights in ("auto", "pretrained") and is_released:
        return MemoryPolicy.from_preset(name)
    config = architecture.config(memory)
    if weights is None or weights == "auto":
        if weights == "auto":
            warnings.warn(
                f"No weights are released for {name}: the policy has fresh weights "
                "and knows nothing yet. weights=None makes one without this warning.",
                stacklevel=3,
            )
        return presets.policy_from_config(config)
    if str(weights).endswith(".h5"):
        return presets.load_weights(config, Path(weights))
    return _fitting(MemoryPolicy.from_preset(weights), architecture, weights)


def _fitting(
    policy: MemoryPolicy, architecture: Architecture, weights: Any
) -> MemoryPolicy:
    for what in ("observation_space", "action_space"):
        expected, received = getattr(architecture, what), getattr(policy, what)
        if (expected.shape, expected.dtype) != (received.shape, received.dtype):
            raise ValueError(
                f"Expected a policy with the {what} {expected}. Received: "
                f"weights={str(weights)!r} with {received}"
            )
    return policy


def _check_length(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or value < least:
        raise ValueError(
            f"`{name}` must be at least {least}. Received: {name}={value!r}"
        )


def _check(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, allowed))}. Received: "
            f"{name}={value!r}"
        )
