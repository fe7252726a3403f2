import os
import subprocess
import sys

import gymnasium
import pytest

from keras_agalite import environments
from keras_agalite.environments import CraftaxVectorEnv, memory_maze
from keras_agalite.environments.registry import NAMES, PATTERNS

pytestmark = pytest.mark.once

# Short name -> id and longest episode.
IDS = {
    "tmaze": ("TMaze-v0", 1000),
    "memory_maze_9x9": ("MemoryMaze-9x9-v0", 1000),
    "memory_maze_11x11": ("MemoryMaze-11x11-v0", 2000),
    "memory_maze_13x13": ("MemoryMaze-13x13-v0", 3000),
    "memory_maze_15x15": ("MemoryMaze-15x15-v0", 4000),
    "mystery_path_grid": ("MysteryPath-Grid-v0", 128),
    "mystery_path": ("MysteryPath-v0", 512),
    "mortar_mayhem_grid": ("MortarMayhem-Grid-v0", 119),
    "mortar_mayhem": ("MortarMayhem-v0", 275),
    "searing_spotlights": ("SearingSpotlights-v0", 256),
    "vizdoom_two_colors": ("ViZDoomTwoColors-v0", 525),
    "minigrid_memory_7": ("MiniGridMemory-S7-v0", 245),
    "minigrid_memory_9": ("MiniGridMemory-S9-v0", 405),
    "minigrid_memory_11": ("MiniGridMemory-S11-v0", 605),
    "minigrid_memory_13": ("MiniGridMemory-S13-v0", 845),
    "minigrid_memory_13_random": ("MiniGridMemory-S13Random-v0", 845),
    "minigrid_memory_17_random": ("MiniGridMemory-S17Random-v0", 1445),
    "craftax_symbolic": ("Craftax-Symbolic-v1", 100_000),
    "craftax_classic_symbolic": ("Craftax-Classic-Symbolic-v1", 10_000),
}
# The same for those that are written in JAX alone.
FUNCTIONAL_IDS = {
    "memory_chain": ("MemoryChain-v0", None),
    "repeat_first_easy": ("RepeatFirst-Easy-v0", 52),
    "repeat_first_medium": ("RepeatFirst-Medium-v0", 416),
    "repeat_first_hard": ("RepeatFirst-Hard-v0", 832),
    "repeat_previous_easy": ("RepeatPrevious-Easy-v0", 52),
    "repeat_previous_medium": ("RepeatPrevious-Medium-v0", 104),
    "repeat_previous_hard": ("RepeatPrevious-Hard-v0", 156),
    "fast_memory_maze_9x9": ("FastMemoryMaze-9x9-v0", 1000),
    "fast_memory_maze_11x11": ("FastMemoryMaze-11x11-v0", 2000),
    "fast_memory_maze_13x13": ("FastMemoryMaze-13x13-v0", 3000),
    "fast_memory_maze_15x15": ("FastMemoryMaze-15x15-v0", 4000),
}
ALL_IDS = IDS | FUNCTIONAL_IDS
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


def test_the_names_and_ids():
    ids = {short: f"keras_agalite/{name}" for short, (name, _) in ALL_IDS.items()}
    assert ids == NAMES


@pytest.mark.parametrize(("name", "steps"), ALL_IDS.values())
def test_the_longest_episode_is_in_the_spec(name, steps):
    assert gymnasium.spec(f"keras_agalite/{name}").max_episode_steps == steps


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


@pytest.mark.parametrize("name", ["nope", "Nope-v0", "tmaze_", "memory_maze_8x8", ""])
@pytest.mark.parametrize("make", [environments.make, environments.make_vec])
def test_an_unknown_name_lists_the_legal_ones(make, name):
    with pytest.raises(ValueError, match=f"Received: name={name!r}") as error:
        make(name)

    assert all(short in str(error.value) for short in NAMES)
    assert all(pattern in str(error.value) for pattern in PATTERNS)


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
        ("minigrid_memory_7", ["minigrid", "pygame"], "pip install minigrid"),
        ("craftax_symbolic", ["craftax"], "pip install craftax"),
        ("craftax_classic_symbolic", ["craftax"], "pip install craftax"),
        ("repeat_first_easy", ["jax"], "pip install jax"),
        ("memory_chain", ["jax"], "pip install jax"),
        ("fast_memory_maze_9x9", ["jax"], "pip install jax"),
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
    with pytest.raises(ValueError, match="Received: name='Craftax'"):
        CraftaxVectorEnv(2, "Craftax")
    with pytest.raises(ValueError, match="Received: num_envs=0"):
        CraftaxVectorEnv(0)


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
    monkeypatch.setattr(memory_maze.sys, "platform", "linux")
    monkeypatch.setattr(memory_maze, "has_egl_device", lambda: egl)
    monkeypatch.setattr(memory_maze.ctypes.util, "find_library", lambda name: osmesa)

    memory_maze.choose_renderer()

    assert os.environ["MUJOCO_GL"] == chosen


def test_where_nothing_draws_the_error_names_the_packages(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(memory_maze.sys, "platform", "linux")
    monkeypatch.setattr(memory_maze, "has_egl_device", lambda: False)
    monkeypatch.setattr(memory_maze.ctypes.util, "find_library", lambda name: None)

    with pytest.raises(RuntimeError, match="apt-get install -y libegl1 libosmesa6"):
        memory_maze.choose_renderer()
