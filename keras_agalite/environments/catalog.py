"""The table of environments, from which ids, names and installation follow.

A new environment is a row of `ENVIRONMENTS` beside its module. This module is data: it
imports nothing of this package, and none of the environments' packages.
"""

import re
import string
from collections.abc import Iterable
from typing import Any, NamedTuple

NAMESPACE = "keras_agalite"
# Importing it registers the ids.
MODULE = "keras_agalite.environments"
# Entry points of environments that are written in JAX alone.
SINGLE = "functional_vector:make_single"
VECTOR = "functional_vector:make_vector"


class Requirement(NamedTuple):
    """Packages that an environment needs.

    Attributes:
        packages: Module that is imported -> what pip installs for it.
        no_deps: Whether pip must leave out the dependencies that the packages declare,
            since they conflict with those of others.
    """

    packages: dict[str, str]
    no_deps: bool = False

    def command(self, modules: Iterable[str] | None = None) -> str:
        """The pip command that installs these modules; all of them if None."""
        chosen = self.packages if modules is None else modules
        packages = [self.packages[module] for module in chosen]
        # In double quotes, which every shell knows.
        quoted = [f'"{p}"' if re.search(r"[<>\[]", p) else p for p in packages]
        return " ".join(["pip install", *["--no-deps"] * self.no_deps, *quoted])


# By the name of their file in training/requirements, where there is one. A file pins
# the versions that were tested and says why.
REQUIREMENTS = {
    "craftax": Requirement({"jax": "jax", "craftax": "craftax"}),
    # gymnax imports seaborn and six, the second without asking pip for it.
    "gymnax": Requirement(
        {
            "jax": "jax",
            "gymnax": "gymnax>=1.0.1,<2",
            "flax": "flax",
            "seaborn": "seaborn",
            "six": "six",
        }
    ),
    "jax": Requirement({"jax": "jax"}),
    "labmaze": Requirement({"jax": "jax", "labmaze": "labmaze", "PIL": "pillow"}),
    # It pins an old gymnasium and pygame that it does not need.
    "memory_gym": Requirement(
        {"memory_gym": "memory-gym", "pygame": "pygame-ce"}, no_deps=True
    ),
    "memory_maze": Requirement(
        {
            "memory_maze": "memory-maze",
            "dm_control": "dm-control>=1.0.50",
            "mujoco": "mujoco>=3.17,<4",
        }
    ),
    # No environment, but data sets of them: training/recordings/minari.py.
    "minari": Requirement({"minari": "minari[hdf5]", "h5py": "h5py", "PIL": "pillow"}),
    # TF-Agents brings pygame and MiniGrid pygame-ce, both in the folder pygame.
    "minigrid": Requirement(
        {"minigrid": "minigrid", "pygame": "pygame-ce"}, no_deps=True
    ),
    "mujoco": Requirement({"mujoco": "mujoco>=3.17,<4"}),
    "popgym": Requirement({"popgym": "popgym"}, no_deps=True),
    "vizdoom": Requirement({"vizdoom": "vizdoom"}, no_deps=True),
}


class EnvironmentInfo(NamedTuple):
    """An environment, or a family of them whose name holds an argument.

    Attributes:
        name: What `make` takes. `{field}` stands for any text and `{field:d}` for a
            number, which becomes the argument `field`.
        id_suffix: The gymnasium id after "keras_agalite/".
        entry_point: "module:callable" in `keras_agalite.environments`.
        vector_entry_point: The same for a vector of environments that one program
            steps; None if gymnasium steps them one by one.
        functional: "module:class" of the functional form, in
            `keras_agalite.environments.functional`; None if there is none.
        max_episode_steps: gymnasium's time limit; None where the environment has its
            own.
        arguments: Arguments of the entry point, or of the functional class where the
            environment is written in JAX alone.
        requirement: Key of `REQUIREMENTS`; None if nothing is needed.
    """

    name: str
    id_suffix: str
    entry_point: str
    vector_entry_point: str | None = None
    functional: str | None = None
    max_episode_steps: int | None = None
    arguments: dict[str, Any] = {}
    requirement: str | None = None

    @property
    def id(self) -> str:
        """The gymnasium id."""
        return f"{NAMESPACE}/{self.id_suffix}"

    @property
    def form(self) -> str:
        """The name as messages show it, such as `tmaze_<corridor_length>`."""
        return re.sub(r"{(\w+)[^}]*}", r"<\1>", self.name)

    @property
    def install(self) -> str | None:
        """The pip command for what the environment needs; None if that is nothing."""
        key = self.requirement
        return None if key is None else REQUIREMENTS[key].command()

    def parse(self, name: str) -> dict[str, Any] | None:
        """The arguments that a name holds; None if it is not a name of this row."""
        pattern, numbers = "", []
        for text, field, kind, _ in string.Formatter().parse(self.name):
            pattern += re.escape(text)
            if field is not None:
                pattern += rf"(?P<{field}>{'[0-9]+' if kind == 'd' else '.+'})"
                if kind == "d":
                    numbers.append(field)
        match = re.fullmatch(pattern, name)
        if match is None:
            return None
        return {
            field: int(value) if field in numbers else value
            for field, value in match.groupdict().items()
        }


def _in_jax(
    name: str,
    id_suffix: str,
    functional: str,
    max_episode_steps: int | None = None,
    requirement: str = "jax",
    **arguments: Any,
) -> EnvironmentInfo:
    """The row of an environment that is written in JAX alone."""
    steps = max_episode_steps
    return EnvironmentInfo(
        name, id_suffix, SINGLE, VECTOR, functional, steps, arguments, requirement
    )


# Size -> cells of a side, and whether the length of the corridor is drawn.
MINIGRID_MEMORY_SIZES = {
    "S7": (7, False),
    "S9": (9, False),
    "S11": (11, False),
    "S13": (13, False),
    "S13Random": (13, True),
    "S17Random": (17, True),
}
# What a point mass hides.
POINT_HIDDEN = ("direction", "speed")
# Size -> steps of an episode.
MEMORY_MAZE_STEPS = {"9x9": 1000, "11x11": 2000, "13x13": 3000, "15x15": 4000}
_TMAZE = EnvironmentInfo("tmaze", "TMaze-v0", "tmaze:TMaze", None, "tmaze:TMaze", 1000)
_PASSIVE = EnvironmentInfo(
    "passive_tmaze",
    "PassiveTMaze-v0",
    "passive_tmaze:PassiveTMaze",
    functional="passive_tmaze:PassiveTMaze",
)

ENVIRONMENTS = (
    _TMAZE,
    _TMAZE._replace(name="tmaze_{corridor_length:d}"),
    _PASSIVE,
    _PASSIVE._replace(name="passive_tmaze_{corridor_length:d}"),
    *(
        EnvironmentInfo(
            f"memory_maze_{size}",
            f"MemoryMaze-{size}-v0",
            "memory_maze:MemoryMaze",
            max_episode_steps=steps,
            arguments={"size": size},
            requirement="memory_maze",
        )
        for size, steps in MEMORY_MAZE_STEPS.items()
    ),
    EnvironmentInfo(
        "mystery_path_grid",
        "MysteryPath-Grid-v0",
        "mystery_path:MysteryPath",
        max_episode_steps=128,
        arguments={"grid": True},
        requirement="memory_gym",
    ),
    EnvironmentInfo(
        "mystery_path",
        "MysteryPath-v0",
        "mystery_path:MysteryPath",
        max_episode_steps=512,
        requirement="memory_gym",
    ),
    EnvironmentInfo(
        "mortar_mayhem_grid",
        "MortarMayhem-Grid-v0",
        "mortar_mayhem:MortarMayhem",
        max_episode_steps=119,
        arguments={"grid": True},
        requirement="memory_gym",
    ),
    EnvironmentInfo(
        "mortar_mayhem",
        "MortarMayhem-v0",
        "mortar_mayhem:MortarMayhem",
        max_episode_steps=275,
        requirement="memory_gym",
    ),
    EnvironmentInfo(
        "searing_spotlights",
        "SearingSpotlights-v0",
        "searing_spotlights:SearingSpotlights",
        max_episode_steps=256,
        requirement="memory_gym",
    ),
    EnvironmentInfo(
        "vizdoom_two_colors",
        "ViZDoomTwoColors-v0",
        "vizdoom_two_colors:ViZDoomTwoColors",
        max_episode_steps=525,
        requirement="vizdoom",
    ),
    *(
        EnvironmentInfo(
            f"minigrid_memory_{cells}{'_random' if random_length else ''}",
            f"MiniGridMemory-{size}-v0",
            "minigrid_memory:MiniGridMemory",
            max_episode_steps=5 * cells**2,
            arguments={"size": size},
            requirement="minigrid",
        )
        for size, (cells, random_length) in MINIGRID_MEMORY_SIZES.items()
    ),
    _in_jax(
        "craftax_symbolic",
        "Craftax-Symbolic-v1",
        "craftax:Craftax",
        100_000,
        requirement="craftax",
    ),
    _in_jax(
        "craftax_classic",
        "Craftax-Classic-Symbolic-v1",
        "craftax:Craftax",
        10_000,
        requirement="craftax",
        classic=True,
    ),
    _in_jax(
        "memory_chain", "MemoryChain-v0", "gymnax:MemoryChain", requirement="gymnax"
    ),
    *(
        _in_jax(
            f"repeat_first_{level}",
            f"RepeatFirst-{level.title()}-v0",
            "repeat:RepeatFirst",
            52 * num_decks,
            num_decks=num_decks,
        )
        for level, num_decks in (("easy", 1), ("medium", 8), ("hard", 16))
    ),
    *(
        _in_jax(
            f"repeat_previous_{level}",
            f"RepeatPrevious-{level.title()}-v0",
            "repeat:RepeatPrevious",
            52 * num_decks,
            k=k,
            num_decks=num_decks,
        )
        for level, k, num_decks in (("easy", 4, 1), ("medium", 32, 2), ("hard", 64, 3))
    ),
    *(
        _in_jax(
            f"fast_memory_maze_{size}",
            f"FastMemoryMaze-{size}-v0",
            "memory_maze:MemoryMaze",
            steps,
            requirement="labmaze",
            size=size,
        )
        for size, steps in MEMORY_MAZE_STEPS.items()
    ),
    *(
        _in_jax(
            f"point_{hidden}_trials",
            f"Point{hidden.title()}Trials-v0",
            "trials:point_trials",
            hidden=hidden,
        )
        for hidden in POINT_HIDDEN
    ),
    _in_jax("hidden_goal_trials", "HiddenGoalTrials-v0", "trials:hidden_goal_trials"),
    _in_jax("gymnax:{name}", "Gymnax-v0", "gymnax:Gymnax", requirement="gymnax"),
    EnvironmentInfo("popgym:{task}", "POPGym-v0", "popgym:make", requirement="popgym"),
    EnvironmentInfo(
        "mujoco_positions:{name}",
        "MuJoCoPositions-v0",
        "mujoco_positions:make",
        requirement="mujoco",
    ),
)


def resolve(name: str) -> tuple[EnvironmentInfo, dict[str, Any]] | None:
    """The row of an environment, and the arguments that its name holds.

    Args:
        name: A name of the table, or our gymnasium id, with or without the module.

    Returns:
        `(row, arguments)`; None if the table has no such environment.
    """
    identifier = name.removeprefix(f"{MODULE}:")
    for row in ENVIRONMENTS:
        if row.id == identifier:
            return row, {}
        if (arguments := row.parse(name)) is not None:
            return row, arguments
    return None
