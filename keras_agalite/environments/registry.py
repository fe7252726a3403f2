"""One door to every environment: our ids, short names for them, and `make`."""

import re
from typing import Any

import gymnasium

from keras_agalite.environments import _functional, memory_maze, minigrid_memory

MODULE = "keras_agalite.environments"
CRAFTAX = {
    "craftax_symbolic": ("Craftax-Symbolic-v1", 100_000),
    "craftax_classic_symbolic": ("Craftax-Classic-Symbolic-v1", 10_000),
}
# Short name -> id. `register` fills it.
NAMES: dict[str, str] = {}
TMAZE = re.compile(r"tmaze_(\d+)")
GYMNAX = re.compile(r"gymnax:(.+)")
POPGYM = re.compile(r"popgym:(.+)")
MUJOCO = re.compile(r"mujoco_positions:(.+)")
PATTERNS = (
    "tmaze_<corridor length>",
    "gymnax:<name in gymnax>",
    "popgym:<task of POPGym>",
    "mujoco_positions:<id of a robot>",
)


def register() -> None:
    """Registers our ids with gymnasium. No environment's package is imported."""
    _add("tmaze", "TMaze-v0", "tmaze:TMaze", 1000)
    for size, steps in memory_maze.STEPS.items():
        name, entry = f"memory_maze_{size}", "memory_maze:MemoryMaze"
        _add(name, f"MemoryMaze-{size}-v0", entry, steps, size=size)
    entry = "mystery_path:MysteryPath"
    _add("mystery_path_grid", "MysteryPath-Grid-v0", entry, 128, grid=True)
    _add("mystery_path", "MysteryPath-v0", entry, 512)
    entry = "mortar_mayhem:MortarMayhem"
    _add("mortar_mayhem_grid", "MortarMayhem-Grid-v0", entry, 119, grid=True)
    _add("mortar_mayhem", "MortarMayhem-v0", entry, 275)
    entry = "searing_spotlights:SearingSpotlights"
    _add("searing_spotlights", "SearingSpotlights-v0", entry, 256)
    entry = "vizdoom_two_colors:ViZDoomTwoColors"
    _add("vizdoom_two_colors", "ViZDoomTwoColors-v0", entry, 525)
    _register("POPGym-v0", "popgym:make", None, {})
    _register("MuJoCoPositions-v0", "mujoco_positions:make", None, {})
    for size, (cells, _) in minigrid_memory.SIZES.items():
        name = "minigrid_memory_" + size[1:].replace("Random", "_random")
        entry = "minigrid_memory:MiniGridMemory"
        _add(name, f"MiniGridMemory-{size}-v0", entry, 5 * cells**2, size=size)
    for short, (name, steps) in CRAFTAX.items():
        _add(short, name, "craftax:CraftaxEnv", steps, name=name)
    entry = "_functional:make_single"
    for short, (own, _, _, limit) in _functional.ENTRIES.items():
        _add(short, own, entry, limit, functional=short)
    own, _, _, limit = _functional.GYMNAX
    _register(own, entry, limit, {"functional": f"keras_agalite/{own}"})


# Where one program steps all worlds: entry point of one -> entry point of many.
VECTORS = {
    "craftax:CraftaxEnv": "craftax:CraftaxVectorEnv",
    "_functional:make_single": "_functional:make_vector",
}


def _add(short: str, own: str, entry: str, steps: int | None, **arguments: Any) -> None:
    NAMES[short] = _register(own, entry, steps, arguments)


def _register(
    own: str, entry: str, steps: int | None, arguments: dict[str, Any]
) -> str:
    identifier = f"keras_agalite/{own}"
    if identifier not in gymnasium.registry:
        many = f"{MODULE}.{VECTORS[entry]}" if entry in VECTORS else None
        gymnasium.register(
            identifier,
            entry_point=f"{MODULE}.{entry}",
            vector_entry_point=many,
            max_episode_steps=steps,
            kwargs=arguments,
        )
    return identifier


def resolve(name: str) -> tuple[str, dict[str, Any]]:
    """The gymnasium id that `name` stands for, and its arguments."""
    if name in NAMES:
        return NAMES[name], {}
    if corridor := TMAZE.fullmatch(name):
        return NAMES["tmaze"], {"corridor_length": int(corridor[1])}
    if name == "craftax":
        return NAMES["craftax_symbolic"], {}
    if of_gymnax := GYMNAX.fullmatch(name):
        return f"keras_agalite/{_functional.GYMNAX.own}", {"name": of_gymnax[1]}
    if of_popgym := POPGYM.fullmatch(name):
        return "keras_agalite/POPGym-v0", {"task": of_popgym[1]}
    if robot := MUJOCO.fullmatch(name):
        return "keras_agalite/MuJoCoPositions-v0", {"name": robot[1]}
    if ":" not in name:
        try:
            gymnasium.spec(name)
        except gymnasium.error.Error as error:
            forms = ", ".join([*NAMES, *PATTERNS])
            raise ValueError(
                f"`name` must be one of {forms}, a registered gymnasium id, or "
                f'"module:id" where importing the module registers it. '
                f"Received: name={name!r}"
            ) from error
    return name, {}


def make(name: str, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """Makes an environment, as `gymnasium.make` does, by a short name or any id.

    The package of an environment is imported here, not before.

    Args:
        name: A short name: `tmaze_<corridor length>`, `memory_maze_9x9` (11x11, 13x13,
            15x15), `mystery_path_grid`, `mystery_path`, `mortar_mayhem_grid`,
            `mortar_mayhem`, `searing_spotlights`, `vizdoom_two_colors`,
            `minigrid_memory_11` (7, 9, 13, 13_random, 17_random), `craftax_symbolic`,
            `craftax_classic_symbolic`, `memory_chain`, `repeat_first_easy` and
            `repeat_previous_easy` (medium, hard), `fast_memory_maze_9x9` (11x11, 13x13,
            15x15), `gymnax:<name>`, `popgym:<task>`, `mujoco_positions:<id>`; or an id
            that gymnasium knows, or "module:id".
        **kwargs: Goes to `gymnasium.make`.

    Raises:
        ValueError: If the name means nothing; the message lists the legal forms.
        ImportError: If a package is missing; the message has the pip command.

    Example:
        >>> env = keras_agalite.environments.make("tmaze_10")
    """
    identifier, arguments = resolve(name)
    return gymnasium.make(identifier, **{**arguments, **kwargs})


def make_vec(
    name: str, num_envs: int = 1, **kwargs: Any
) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    """Makes a vector of environments, as `gymnasium.make_vec` does, by name.

    Craftax gives a `CraftaxVectorEnv`, which steps all its worlds in one compiled
    call, and those that are written in JAX alone (`memory_chain`, `repeat_...`,
    `fast_memory_maze_...`, `gymnax:...`) a `FunctionalVectorEnv`, which does the
    same; the others a `SyncVectorEnv`, or with `vectorization_mode="async"` a process
    each. All of them reset a finished environment in the step after its last.

    Args:
        name: As for `make`.
        num_envs: Number of environments.
        **kwargs: Goes to `gymnasium.make_vec`.
    """
    identifier, arguments = resolve(name)
    return gymnasium.make_vec(identifier, num_envs, **{**arguments, **kwargs})
