"""The factory functions of the zoo."""

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from keras_agalite.environments.popgym import TASKS
from keras_agalite.environments.registry import resolve
from keras_agalite.layers.catalog import MEMORIES
from keras_agalite.models import MemoryPolicy, Policy
from keras_agalite.presets import Preset, find_preset, released_presets
from keras_agalite.presets.offline import OfflinePreset, find_any
from keras_agalite.zoo import specs
from keras_agalite.zoo.specs import PolicySpec

Weights = str | Path | None


def tmaze_policy(
    corridor_length: int = 10, memory: str = "agalite", weights: Weights = "auto"
) -> MemoryPolicy:
    """A policy for `keras_agalite/TMaze-v0`, with six distractors.

    Args:
        corridor_length: Number of positions of the corridor, at least 2.
        memory: Short name of the memory, such as `"agalite"`, `"gtrxl"` or `"gru"`;
            `keras_agalite.layers.MEMORIES` lists all. Policies of one environment
            have about the same number of weights.
        weights: `"auto"` loads released weights if there are any; else the weights are
            fresh, and a warning says so. `"pretrained"` insists on released weights.
            None gives fresh weights. Anything else is the folder or the address of a
            preset, or a `.weights.h5` file.

    Returns:
        A `MemoryPolicy`.

    Raises:
        ValueError: If an argument has none of these values, if no weights are released
            for `"pretrained"`, or if the weights do not fit.

    Example:

    >>> policy = tmaze_policy(10)
    >>> policy.action_space
    Discrete(4)
    """
    _check_length("corridor_length", corridor_length, 2)
    return _policy(specs.tmaze(corridor_length), memory, weights)


def memory_chain_policy(
    memory_length: int = 100, memory: str = "agalite", weights: Weights = "auto"
) -> MemoryPolicy:
    """A policy for MemoryChain of bsuite, in gymnax's form, with one bit.

    Args:
        memory_length: Steps between the bit and the answer, at least 1.
        memory: Short name of the memory, such as `"agalite"`, `"gtrxl"` or `"gru"`;
            `keras_agalite.layers.MEMORIES` lists all. Policies of one environment
            have about the same number of weights.
        weights: `"auto"` loads released weights if there are any; else the weights are
            fresh, and a warning says so. `"pretrained"` insists on released weights.
            None gives fresh weights. Anything else is the folder or the address of a
            preset, or a `.weights.h5` file.

    Returns:
        A `MemoryPolicy`.

    Raises:
        ValueError: If an argument has none of these values, if no weights are released
            for `"pretrained"`, or if the weights do not fit.

    Example:

    >>> policy = memory_chain_policy(100)
    >>> policy.observation_space.shape
    (3,)
    """
    _check_length("memory_length", memory_length, 1)
    return _policy(specs.memory_chain(memory_length), memory, weights)


def memory_maze_policy(
    size: str = "9x9", memory: str = "agalite", weights: Weights = "auto"
) -> MemoryPolicy:
    """A policy for Memory Maze, which sees the image alone.

    Args:
        size: Size of the maze: `"9x9"`, `"11x11"`, `"13x13"` or `"15x15"`.
        memory: Short name of the memory, such as `"agalite"`, `"gtrxl"` or `"gru"`;
            `keras_agalite.layers.MEMORIES` lists all. Policies of one environment
            have about the same number of weights.
        weights: `"auto"` loads released weights if there are any; else the weights are
            fresh, and a warning says so. `"pretrained"` insists on released weights.
            None gives fresh weights. Anything else is the folder or the address of a
            preset, or a `.weights.h5` file.

    Returns:
        A `MemoryPolicy`.

    Raises:
        ValueError: If an argument has none of these values, if no weights are released
            for `"pretrained"`, or if the weights do not fit.

    Example:

    >>> policy = memory_maze_policy("9x9")
    >>> observation = policy.sample_observation(1, seed=0)
    >>> action, state = policy.act(observation, deterministic=True)
    """
    _check("size", size, specs.MAZE_SIZES)
    return _policy(specs.memory_maze(size), memory, weights)


def mystery_path_policy(
    variant: str = "grid", memory: str = "agalite", weights: Weights = "auto"
) -> MemoryPolicy:
    """A policy for Mystery Path of memory-gym.

    Args:
        variant: `"grid"`, with 4 actions, or `"continuous"`, with 3 x 3.
        memory: Short name of the memory, such as `"agalite"`, `"gtrxl"` or `"gru"`;
            `keras_agalite.layers.MEMORIES` lists all. Policies of one environment
            have about the same number of weights.
        weights: `"auto"` loads released weights if there are any; else the weights are
            fresh, and a warning says so. `"pretrained"` insists on released weights.
            None gives fresh weights. Anything else is the folder or the address of a
            preset, or a `.weights.h5` file.

    Returns:
        A `MemoryPolicy`.

    Raises:
        ValueError: If an argument has none of these values, if no weights are released
            for `"pretrained"`, or if the weights do not fit.

    Example:

    >>> policy = mystery_path_policy("continuous", weights=None)
    >>> policy.action_space
    MultiDiscrete([3 3])
    """
    _check("variant", variant, specs.VARIANTS)
    return _policy(specs.mystery_path(variant), memory, weights)


def mortar_mayhem_policy(
    variant: str = "grid", memory: str = "agalite", weights: Weights = "auto"
) -> MemoryPolicy:
    """A policy for Mortar Mayhem of memory-gym.

    Args:
        variant: `"grid"`, with 4 actions, or `"continuous"`, with 3 x 3.
        memory: Short name of the memory, such as `"agalite"`, `"gtrxl"` or `"gru"`;
            `keras_agalite.layers.MEMORIES` lists all. Policies of one environment
            have about the same number of weights.
        weights: `"auto"` loads released weights if there are any; else the weights are
            fresh, and a warning says so. `"pretrained"` insists on released weights.
            None gives fresh weights. Anything else is the folder or the address of a
            preset, or a `.weights.h5` file.

    Returns:
        A `MemoryPolicy`.

    Raises:
        ValueError: If an argument has none of these values, if no weights are released
            for `"pretrained"`, or if the weights do not fit.

    Example:

    >>> policy = mortar_mayhem_policy(memory="gru", weights=None)
    """
    _check("variant", variant, specs.VARIANTS)
    return _policy(specs.mortar_mayhem(variant), memory, weights)


def searing_spotlights_policy(
    memory: str = "agalite", weights: Weights = "auto"
) -> MemoryPolicy:
    """A policy for Searing Spotlights of memory-gym.

    Args:
        memory: Short name of the memory, such as `"agalite"`, `"gtrxl"` or `"gru"`;
            `keras_agalite.layers.MEMORIES` lists all. Policies of one environment
            have about the same number of weights.
        weights: `"auto"` loads released weights if there are any; else the weights are
            fresh, and a warning says so. `"pretrained"` insists on released weights.
            None gives fresh weights. Anything else is the folder or the address of a
            preset, or a `.weights.h5` file.

    Returns:
        A `MemoryPolicy`.

    Raises:
        ValueError: If an argument has none of these values, if no weights are released
            for `"pretrained"`, or if the weights do not fit.

    Example:

    >>> policy = searing_spotlights_policy(weights=None)
    """
    return _policy(specs.searing_spotlights(), memory, weights)


def vizdoom_two_colors_policy(
    memory: str = "agalite", weights: Weights = "auto"
) -> MemoryPolicy:
    """A policy for Two Colors in ViZDoom.

    Args:
        memory: Short name of the memory, such as `"agalite"`, `"gtrxl"` or `"gru"`;
            `keras_agalite.layers.MEMORIES` lists all. Policies of one environment
            have about the same number of weights.
        weights: `"auto"` loads released weights if there are any; else the weights are
            fresh, and a warning says so. `"pretrained"` insists on released weights.
            None gives fresh weights. Anything else is the folder or the address of a
            preset, or a `.weights.h5` file.

    Returns:
        A `MemoryPolicy`.

    Raises:
        ValueError: If an argument has none of these values, if no weights are released
            for `"pretrained"`, or if the weights do not fit.

    Example:

    >>> policy = vizdoom_two_colors_policy(weights=None)
    """
    return _policy(specs.vizdoom_two_colors(), memory, weights)


def popgym_policy(
    task: str = "RepeatPreviousEasy",
    memory: str = "agalite",
    weights: Weights = "auto",
) -> MemoryPolicy:
    """A policy for a task of POPGym.

    Args:
        task: POPGym's name of the task, such as `"RepeatPreviousEasy"`.
        memory: Short name of the memory, such as `"agalite"`, `"gtrxl"` or `"gru"`;
            `keras_agalite.layers.MEMORIES` lists all. Policies of one environment
            have about the same number of weights.
        weights: `"auto"` loads released weights if there are any; else the weights are
            fresh, and a warning says so. `"pretrained"` insists on released weights.
            None gives fresh weights. Anything else is the folder or the address of a
            preset, or a `.weights.h5` file.

    Returns:
        A `MemoryPolicy`.

    Raises:
        ValueError: If an argument has none of these values, if no weights are released
            for `"pretrained"`, or if the weights do not fit.

    Example:

    >>> policy = popgym_policy("CountRecallHard", weights=None)
    >>> policy.action_space
    Discrete(17)
    """
    _check("task", task, TASKS)
    return _policy(specs.popgym(task), memory, weights)


def craftax_policy(
    variant: str = "symbolic", memory: str = "agalite", weights: Weights = "auto"
) -> MemoryPolicy:
    """A policy for Craftax with symbolic observations.

    Args:
        variant: `"symbolic"` for Craftax, `"classic"` for Craftax-Classic.
        memory: Short name of the memory, such as `"agalite"`, `"gtrxl"` or `"gru"`;
            `keras_agalite.layers.MEMORIES` lists all. Policies of one environment
            have about the same number of weights.
        weights: `"auto"` loads released weights if there are any; else the weights are
            fresh, and a warning says so. `"pretrained"` insists on released weights.
            None gives fresh weights. Anything else is the folder or the address of a
            preset, or a `.weights.h5` file.

    Returns:
        A `MemoryPolicy`.

    Raises:
        ValueError: If an argument has none of these values, if no weights are released
            for `"pretrained"`, or if the weights do not fit.

    Example:

    >>> policy = craftax_policy("classic", weights=None)
    >>> policy.action_space
    Discrete(17)
    """
    _check("variant", variant, specs.CRAFTAX)
    return _policy(specs.craftax(variant), memory, weights)


def minigrid_memory_policy(
    size: int | str = 11, memory: str = "agalite", weights: Weights = "auto"
) -> MemoryPolicy:
    """A policy for MiniGrid-Memory.

    Args:
        size: 7, 9, 11 or 13; `"13_random"` or `"17_random"` for corridors of random
            length.
        memory: Short name of the memory, such as `"agalite"`, `"gtrxl"` or `"gru"`;
            `keras_agalite.layers.MEMORIES` lists all. Policies of one environment
            have about the same number of weights.
        weights: `"auto"` loads released weights if there are any; else the weights are
            fresh, and a warning says so. `"pretrained"` insists on released weights.
            None gives fresh weights. Anything else is the folder or the address of a
            preset, or a `.weights.h5` file.

    Returns:
        A `MemoryPolicy`.

    Raises:
        ValueError: If an argument has none of these values, if no weights are released
            for `"pretrained"`, or if the weights do not fit.

    Example:

    >>> policy = minigrid_memory_policy(11)
    >>> policy.observation_space.shape
    (7, 7, 3)
    """
    _check("size", size, specs.MINIGRID_SIZES)
    return _policy(specs.minigrid_memory(size), memory, weights)


def mujoco_positions_policy(
    name: str = "Hopper-v5", memory: str = "agalite", weights: Weights = "auto"
) -> MemoryPolicy:
    """A policy for a robot of MuJoCo that sees its positions, not its velocities.

    It normalises what it sees.

    Args:
        name: Gymnasium id of the robot: `"Ant-v5"`, `"HalfCheetah-v5"`,
            `"Hopper-v5"`, `"Humanoid-v5"`, `"HumanoidStandup-v5"`,
            `"InvertedPendulum-v5"`, `"Swimmer-v5"` or `"Walker2d-v5"`.
        memory: Short name of the memory, such as `"agalite"`, `"gtrxl"` or `"gru"`;
            `keras_agalite.layers.MEMORIES` lists all. Policies of one environment
            have about the same number of weights.
        weights: `"auto"` loads released weights if there are any; else the weights are
            fresh, and a warning says so. `"pretrained"` insists on released weights.
            None gives fresh weights. Anything else is the folder or the address of a
            preset, or a `.weights.h5` file.

    Returns:
        A `MemoryPolicy`.

    Raises:
        ValueError: If an argument has none of these values, if no weights are released
            for `"pretrained"`, or if the weights do not fit.

    Example:

    >>> policy = mujoco_positions_policy("Walker2d-v5", weights=None)
    >>> policy.action_space.shape
    (6,)
    """
    _check("name", name, specs.ROBOTS)
    return _policy(specs.mujoco_positions(name), memory, weights)


def trials_policy(
    family: str = "hidden_goal", memory: str = "agalite", weights: Weights = "auto"
) -> MemoryPolicy:
    """A policy for trials: several episodes of one task, which it has to find out.

    Give it `start` once a trial.

    Args:
        family: The tasks: `"point_direction"`, `"point_speed"` or `"hidden_goal"`.
        memory: Short name of the memory, such as `"agalite"`, `"gtrxl"` or `"gru"`;
            `keras_agalite.layers.MEMORIES` lists all. Policies of one environment
            have about the same number of weights.
        weights: `"auto"` loads released weights if there are any; else the weights are
            fresh, and a warning says so. `"pretrained"` insists on released weights.
            None gives fresh weights. Anything else is the folder or the address of a
            preset, or a `.weights.h5` file.

    Returns:
        A `MemoryPolicy`.

    Raises:
        ValueError: If an argument has none of these values, if no weights are released
            for `"pretrained"`, or if the weights do not fit.

    Example:

    >>> policy = trials_policy("hidden_goal", memory="trmrl", weights=None)
    >>> policy.action_space
    Discrete(5)
    """
    _check("family", family, specs.FAMILIES)
    return _policy(specs.trials(family), memory, weights)


def offline_policy(
    name: str = "passive_tmaze_28_rate", weights: str | None = "auto"
) -> Policy:
    """A released policy that learnt from recordings, such as a RATE.

    It sees the previous action and reward as well; `keras_agalite.rollout` and
    `keras_agalite.evaluate` add them.

    Args:
        name: Name of the policy; `list_policies()` has all.
        weights: `"auto"` and `"pretrained"` load the released weights; None gives
            fresh ones.

    Returns:
        A policy of the class that its preset names.

    Raises:
        ValueError: If no such policy is released, or `weights` is something else.

    Example:

    >>> policy = offline_policy()
    >>> policy.target_return
    1.0
    """
    names = tuple(
        found
        for found in released_presets()
        if isinstance(find_any(found), OfflinePreset)
    )
    _check("name", name, names)
    _check("weights", weights, ("auto", "pretrained", None))
    return Policy.from_preset(name, load_weights=weights is not None)


class PolicyInfo(NamedTuple):
    """A line of `list_policies()`.

    Attributes:
        name: Name of the policy; `MemoryPolicy.from_preset(name)` loads a released one.
        memory: Short name of its memory.
        environment: Name of its environment, for `keras_agalite.environments.make`.
        environment_arguments: Keyword arguments for `make`.
        previous_action_reward: Whether the environment is to be wrapped in
            `keras_agalite.environments.PreviousActionReward`.
        num_weights: Number of weights.
        score: What its evaluation in this environment measured, such as
            `{"success_rate": 1.0, "mean_return": 3.1}`; None if no weights are
            released.
    """

    name: str
    memory: str
    environment: str
    environment_arguments: dict[str, Any]
    previous_action_reward: bool
    num_weights: int
    score: dict[str, float] | None


def list_policies() -> list[PolicyInfo]:
    """Lists the policies of the zoo: released ones first, then those without weights.

    Of the policies with a length in their names (T-Maze, MemoryChain), one without
    weights is listed at most.

    Returns:
        A list of `PolicyInfo`.

    Example:

    >>> info = list_policies()[0]
    >>> env = keras_agalite.environments.make(
    ...     info.environment, **info.environment_arguments
    ... )
    >>> policy = keras_agalite.MemoryPolicy.from_preset(info.name)
    """
    released = {name: _released_info(name) for name in released_presets()}
    rest = [
        _info(spec, "agalite", spec.preset().num_weights, None)
        for name, spec in specs.known_specs().items()
        if name not in released
    ]
    return [*released.values(), *rest]


def _released_info(name: str) -> PolicyInfo:
    preset = find_any(name)
    if isinstance(preset, OfflinePreset):
        # Its recipe has its sizes; the zoo has no specification of it.
        found = json.loads((find_preset(name) / "evaluation.json").read_text("utf-8"))
        return PolicyInfo(
            name,
            preset.kind,
            found["environment"],
            found["environment_arguments"],
            True,
            preset.num_weights,
            _scores(found),
        )
    memory: str = preset.memory.cls.short_name
    spec = specs.find_spec(name.removesuffix(_suffix(memory)))
    return _info(spec, memory, preset.num_weights, _score(spec, find_preset(name)))


def _info(
    spec: PolicySpec, memory: str, num_weights: int, score: dict[str, float] | None
) -> PolicyInfo:
    return PolicyInfo(
        spec.name + _suffix(memory),
        memory,
        spec.environment,
        dict(spec.environment_arguments),
        spec.previous_action_reward,
        num_weights,
        score,
    )


def _score(spec: PolicySpec, folder: Path) -> dict[str, float] | None:
    """What was measured in the spec's environment, and in no other."""

    def meaning(name: str, arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        identifier, more = resolve(name)
        return identifier, {**more, **arguments}

    expected = meaning(spec.environment, spec.environment_arguments)
    for path in sorted(folder.glob("evaluation*.json")):
        found = json.loads(path.read_text("utf-8"))
        if meaning(found["environment"], found["environment_arguments"]) == expected:
            return _scores(found)
    return None


def _scores(evaluation: dict[str, Any]) -> dict[str, float]:
    keys = ("success_rate", "mean_return")
    return {key: evaluation[key] for key in keys if key in evaluation}


def _suffix(memory: str) -> str:
    return "" if memory == "agalite" else f"_{memory}"


def _policy(spec: PolicySpec, memory: str, weights: Weights) -> MemoryPolicy:
    _check("memory", memory, tuple(MEMORIES))
    name = spec.name + _suffix(memory)
    is_released = name in released_presets()
    if weights == "pretrained" and not is_released:
        raise ValueError(
            f"No weights are released for {name}; there are "
            f"{', '.join(released_presets())}. Received: weights='pretrained'"
        )
    if weights in ("auto", "pretrained") and is_released:
        return MemoryPolicy.from_preset(name)
    if weights is None or weights == "auto":
        if weights == "auto":
            warnings.warn(
                f"No weights are released for {name}: the policy has fresh weights "
                "and knows nothing yet. weights=None makes one without this warning.",
                stacklevel=3,
            )
        return spec.preset(memory).policy(load_weights=False)
    if str(weights).endswith(".h5"):
        return dataclasses.replace(spec.preset(memory), weights=Path(weights)).policy()
    preset = Preset.find(weights)
    _check_spaces(preset, spec, weights)
    return preset.policy()


def _check_spaces(preset: Preset, spec: PolicySpec, weights: Any) -> None:
    for what in ("observation_space", "action_space"):
        expected, received = getattr(spec, what), getattr(preset, what)
        if expected != received:
            raise ValueError(
                f"Expected a policy with the {what} {expected}. Received: "
                f"weights={str(weights)!r} with {received}"
            )


def _check_length(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or value < least:
        raise ValueError(
            f"`{name}` must be an integer of at least {least}. Received: "
            f"{name}={value!r}"
        )


def _check(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, allowed))}. Received: "
            f"{name}={value!r}"
        )
