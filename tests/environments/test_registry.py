import os
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from keras_agalite import environments
from keras_agalite.environments import _maze, functional_vector
from keras_agalite.previous import trial_space

pytestmark = pytest.mark.once

DISCRETE = {n: spaces.Discrete(n) for n in (2, 4, 5, 6, 7, 17, 43)}
MOVES = spaces.MultiDiscrete([3, 3])
IMAGE_64, IMAGE_84 = (
    spaces.Box(0, 255, (side, side, 3), np.uint8) for side in (64, 84)
)
MAZE = spaces.Box(-1.0, 1.0, (4,), np.float32)
SCREEN = spaces.Box(0, 255, (60, 80, 3), np.uint8)
VIEW = spaces.Box(0, 255, (7, 7, 3), np.uint8)
CUE, CLASSIC, CRAFTAX, SUITS = (
    spaces.Box(0.0, high, (size,), np.float32)
    for size, high in ((16, 1.0), (1345, np.inf), (8268, np.inf), (4, 1.0))
)
# Observations are -1, 0, 1 and the time that is left.
CHAIN = spaces.Box(-1.0, 1.0, (3,), np.float32)
PUSH = spaces.Box(-1.0, 1.0, (2,), np.float32)
PLANE, GRID = (
    trial_space(space, action)
    for space, action in (
        (spaces.Box(-np.inf, np.inf, (2,), np.float32), PUSH),
        (spaces.Box(0.0, 1.0, (10,), np.float32), spaces.Discrete(5)),
    )
)
# Name -> id, time limit and spaces, all as released: none may change unseen.
ENVIRONMENTS = {
    "tmaze": ("TMaze-v0", 1000, CUE, DISCRETE[4]),
    "passive_tmaze": ("PassiveTMaze-v0", None, MAZE, DISCRETE[4]),
    "memory_maze_9x9": ("MemoryMaze-9x9-v0", 1000, IMAGE_64, DISCRETE[6]),
    "memory_maze_11x11": ("MemoryMaze-11x11-v0", 2000, IMAGE_64, DISCRETE[6]),
    "memory_maze_13x13": ("MemoryMaze-13x13-v0", 3000, IMAGE_64, DISCRETE[6]),
    "memory_maze_15x15": ("MemoryMaze-15x15-v0", 4000, IMAGE_64, DISCRETE[6]),
    "mystery_path_grid": ("MysteryPath-Grid-v0", 128, IMAGE_84, DISCRETE[4]),
    "mystery_path": ("MysteryPath-v0", 512, IMAGE_84, MOVES),
    "mortar_mayhem_grid": ("MortarMayhem-Grid-v0", 119, IMAGE_84, DISCRETE[4]),
    "mortar_mayhem": ("MortarMayhem-v0", 275, IMAGE_84, MOVES),
    "searing_spotlights": ("SearingSpotlights-v0", 256, IMAGE_84, MOVES),
    "vizdoom_two_colors": ("ViZDoomTwoColors-v0", 525, SCREEN, DISCRETE[5]),
    "minigrid_memory_7": ("MiniGridMemory-S7-v0", 245, VIEW, DISCRETE[7]),
    "minigrid_memory_9": ("MiniGridMemory-S9-v0", 405, VIEW, DISCRETE[7]),
    "minigrid_memory_11": ("MiniGridMemory-S11-v0", 605, VIEW, DISCRETE[7]),
    "minigrid_memory_13": ("MiniGridMemory-S13-v0", 845, VIEW, DISCRETE[7]),
    "minigrid_memory_13_random": (
        "MiniGridMemory-S13Random-v0",
        845,
        VIEW,
        DISCRETE[7],
    ),
    "minigrid_memory_17_random": (
        "MiniGridMemory-S17Random-v0",
        1445,
        VIEW,
        DISCRETE[7],
    ),
    "craftax_symbolic": ("Craftax-Symbolic-v1", 100_000, CRAFTAX, DISCRETE[43]),
    "craftax_classic": ("Craftax-Classic-Symbolic-v1", 10_000, CLASSIC, DISCRETE[17]),
    "memory_chain": ("MemoryChain-v0", None, CHAIN, DISCRETE[2]),
    "repeat_first_easy": ("RepeatFirst-Easy-v0", 52, SUITS, DISCRETE[4]),
    "repeat_first_medium": ("RepeatFirst-Medium-v0", 416, SUITS, DISCRETE[4]),
    "repeat_first_hard": ("RepeatFirst-Hard-v0", 832, SUITS, DISCRETE[4]),
    "repeat_previous_easy": ("RepeatPrevious-Easy-v0", 52, SUITS, DISCRETE[4]),
    "repeat_previous_medium": ("RepeatPrevious-Medium-v0", 104, SUITS, DISCRETE[4]),
    "repeat_previous_hard": ("RepeatPrevious-Hard-v0", 156, SUITS, DISCRETE[4]),
    "point_direction_trials": ("PointDirectionTrials-v0", None, PLANE, PUSH),
    "point_speed_trials": ("PointSpeedTrials-v0", None, PLANE, PUSH),
    "hidden_goal_trials": ("HiddenGoalTrials-v0", None, GRID, DISCRETE[5]),
    "fast_memory_maze_9x9": ("FastMemoryMaze-9x9-v0", 1000, IMAGE_64, DISCRETE[6]),
    "fast_memory_maze_11x11": ("FastMemoryMaze-11x11-v0", 2000, IMAGE_64, DISCRETE[6]),
    "fast_memory_maze_13x13": ("FastMemoryMaze-13x13-v0", 3000, IMAGE_64, DISCRETE[6]),
    "fast_memory_maze_15x15": ("FastMemoryMaze-15x15-v0", 4000, IMAGE_64, DISCRETE[6]),
}
PACKAGES = [
    "memory_maze",
    "dm_control",
    "mujoco",
    "memory_gym",
    "pygame",
    "minigrid",
    "craftax",
    "gymnax",
    "popgym",
    "vizdoom",
    "jax",
    "tensorflow",
    "torch",
    "keras",
]


def test_the_ids_and_time_limits_are_as_released():
    found = {
        row.name: (row.id_suffix, row.max_episode_steps)
        for row in environments.list_environments()
        if row.form == row.name
    }

    assert found == {name: row[:2] for name, row in ENVIRONMENTS.items()}
    for id_suffix, steps, *_ in ENVIRONMENTS.values():
        spec = gymnasium.spec(f"keras_agalite/{id_suffix}")
        assert spec.max_episode_steps == steps


@pytest.mark.parametrize("module", ["keras_agalite.environments", "keras_agalite"])
def test_importing_and_listing_loads_no_package(module):
    code = f"""
import sys, {module}
import gymnasium
gymnasium.spec("keras_agalite/Craftax-Symbolic-v1")
print(*set(sys.modules) & set({PACKAGES}))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert result.stdout.strip() == ""


@pytest.mark.parametrize(
    ("name", "length"), [("tmaze_10", 10), ("tmaze_25", 25), ("tmaze", 10)]
)
def test_make_by_a_short_name(name, length):
    env = environments.make(name)

    assert env.spec.id == "keras_agalite/TMaze-v0"
    assert env.unwrapped.corridor_length == length


def test_make_passes_arguments_on():
    env = environments.make("tmaze_10", num_distractors=0, max_episode_steps=5)

    assert env.observation_space.shape == (10,)
    assert env.spec.max_episode_steps == 5


@pytest.mark.parametrize(
    "name",
    [
        "CartPole-v1",
        "keras_agalite/TMaze-v0",
        "keras_agalite.environments:keras_agalite/TMaze-v0",
    ],
)
def test_make_by_an_id(name):
    assert environments.make(name).spec.id == name.split(":")[-1]


@pytest.mark.parametrize(
    "name", ["nope", "Nope-v0", "tmaze_", "tmaze_x", "memory_maze_8x8", ""]
)
@pytest.mark.parametrize("make", [environments.make, environments.make_vec])
def test_an_unknown_name_lists_the_legal_ones(make, name):
    with pytest.raises(ValueError, match=f"Received: name={name!r}") as error:
        make(name)

    for row in environments.list_environments():
        assert f"{row.form}, " in str(error.value)
    for form in ("tmaze_<corridor_length>", "gymnax:<name>", "popgym:<task>"):
        assert form in str(error.value)


def test_make_vec():
    vector = environments.make_vec("tmaze_12", 3)

    assert vector.num_envs == 3
    assert vector.envs[0].unwrapped.corridor_length == 12


@pytest.mark.parametrize(
    ("name", "missing", "command"),
    [
        (
            "memory_maze_9x9",
            ["memory_maze", "dm_control", "mujoco"],
            'pip install memory-maze "dm-control>=1.0.50" "mujoco>=3.17,<4"',
        ),
        ("mystery_path_grid", ["memory_gym"], "pip install --no-deps memory-gym"),
        (
            "mystery_path",
            ["memory_gym", "pygame"],
            "pip install --no-deps memory-gym pygame-ce",
        ),
        ("mortar_mayhem", ["memory_gym"], "pip install --no-deps memory-gym"),
        ("searing_spotlights", ["memory_gym"], "pip install --no-deps memory-gym"),
        ("vizdoom_two_colors", ["vizdoom"], "pip install --no-deps vizdoom"),
        (
            "mujoco_positions:Hopper-v5",
            ["mujoco"],
            'pip install "mujoco>=3.17,<4"',
        ),
        ("popgym:MineSweeperHard", ["popgym"], "pip install --no-deps popgym"),
        ("minigrid_memory_7", ["minigrid"], "pip install --no-deps minigrid"),
        (
            "minigrid_memory_7",
            ["minigrid", "pygame"],
            "pip install --no-deps minigrid pygame-ce",
        ),
        ("craftax_symbolic", ["jax", "craftax"], "pip install jax craftax"),
        ("craftax_classic", ["jax", "craftax"], "pip install jax craftax"),
        ("repeat_first_easy", ["jax"], "pip install jax"),
        (
            "memory_chain",
            ["jax", "gymnax", "flax", "seaborn", "six"],
            'pip install jax "gymnax>=1.0.1,<2" flax seaborn six',
        ),
        (
            "fast_memory_maze_9x9",
            ["jax", "labmaze", "PIL"],
            "pip install jax labmaze pillow",
        ),
    ],
)
def test_a_missing_package_is_told_with_the_command(
    name, missing, command, monkeypatch
):
    if "pygame" not in missing:
        # Whether it is installed or not: a module that is there.
        monkeypatch.setitem(sys.modules, "pygame", gymnasium)
    for package in missing:
        monkeypatch.setitem(sys.modules, package, None)
    functional_vector._make_cached.cache_clear()  # of other tests

    with pytest.raises(ImportError) as error:
        environments.make(name)

    assert str(error.value).endswith(f"not installed here. Install with: {command}")
    assert error.value.name == missing[0]


def test_arguments_are_checked_before_packages():
    with pytest.raises(ValueError, match="Received: size='8x8'"):
        gymnasium.make("keras_agalite/MemoryMaze-9x9-v0", size="8x8")
    with pytest.raises(ValueError, match="Received: size='S8'"):
        gymnasium.make("keras_agalite/MiniGridMemory-S7-v0", size="S8")
    with pytest.raises(ValueError, match=r"AutoencodeEasy.* task='Autoencode'"):
        environments.make("popgym:Autoencode")
    for name in ("tmaze", "repeat_first_easy"):
        with pytest.raises(ValueError, match="Received: num_envs=0"):
            environments.make_vec(name, 0)


@pytest.mark.parametrize(
    ("given", "egl", "osmesa", "chosen"),
    [
        ("", True, True, "egl"),
        ("", False, True, "osmesa"),
        ("osmesa", True, True, "osmesa"),
        ("glfw", False, False, "glfw"),
    ],
)
def test_mujoco_draws_with_what_works(given, egl, osmesa, chosen, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", given)
    monkeypatch.setattr(_maze.sys, "platform", "linux")
    monkeypatch.setattr(_maze, "has_egl_device", lambda: egl)
    monkeypatch.setattr(_maze.ctypes.util, "find_library", lambda name: osmesa)

    _maze.choose_renderer()

    assert os.environ["MUJOCO_GL"] == chosen


def test_where_nothing_draws_the_error_names_the_packages(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(_maze.sys, "platform", "linux")
    monkeypatch.setattr(_maze, "has_egl_device", lambda: False)
    monkeypatch.setattr(_maze.ctypes.util, "find_library", lambda name: None)

    with pytest.raises(RuntimeError, match="apt-get install -y libegl1 libosmesa6"):
        _maze.choose_renderer()
