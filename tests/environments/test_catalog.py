"""The table of environments, and what follows from it."""

import importlib
import re
from pathlib import Path

import gymnasium
import pytest

from keras_agalite import environments
from keras_agalite.environments import catalog
from keras_agalite.environments.catalog import ENVIRONMENTS, REQUIREMENTS

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[2]
FILES = {path.stem: path for path in (ROOT / "training/requirements").glob("*.txt")}
# Where a file is of use, and none of those that others bring along.
WITHOUT_FILE = {"jax", "labmaze", "mujoco"}


def packages(text):
    """The packages of a requirements file, or of a pip command."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    words = re.findall(r'[^\s"]+', " ".join(lines))
    return {re.split("[<>=]", word)[0] for word in words}


def test_names_are_taken_once():
    names = [row.name for row in ENVIRONMENTS]
    by_id = {}
    for row in ENVIRONMENTS:
        by_id.setdefault(row.id, []).append(row)

    assert len(names) == len(set(names))
    for rows in by_id.values():  # what is registered under an id does not differ
        assert len({repr(row._replace(name="")) for row in rows}) == 1


@pytest.mark.parametrize(
    ("name", "identifier", "arguments"),
    [
        ("tmaze", "TMaze-v0", {}),
        ("tmaze_12", "TMaze-v0", {"corridor_length": 12}),
        ("keras_agalite/TMaze-v0", "TMaze-v0", {}),
        ("keras_agalite.environments:keras_agalite/TMaze-v0", "TMaze-v0", {}),
        ("mystery_path", "MysteryPath-v0", {}),
        ("mystery_path_grid", "MysteryPath-Grid-v0", {}),
        ("craftax_classic", "Craftax-Classic-Symbolic-v1", {}),
        ("gymnax:CartPole-v1", "Gymnax-v0", {"name": "CartPole-v1"}),
        ("popgym:MineSweeperHard", "POPGym-v0", {"task": "MineSweeperHard"}),
        (
            "mujoco_positions:Hopper-v5",
            "MuJoCoPositions-v0",
            {"name": "Hopper-v5"},
        ),
    ],
)
def test_a_name_holds_its_arguments(name, identifier, arguments):
    row, found = catalog.resolve(name)

    assert (row.id_suffix, found) == (identifier, arguments)
    assert environments.registry.resolve(name) == (row.id, arguments)


@pytest.mark.parametrize(
    "name", ["", "tmaze_", "tmaze_1x", "tmaze_²", "gymnax:", "popgym", "CartPole-v1"]
)
def test_other_names_are_not_in_the_table(name):
    assert catalog.resolve(name) is None


@pytest.mark.parametrize("row", ENVIRONMENTS, ids=lambda row: row.form)
def test_what_a_row_names_is_there(row):
    for entry_point in filter(None, (row.entry_point, row.vector_entry_point)):
        module, _, name = entry_point.partition(":")
        module = importlib.import_module(f"keras_agalite.environments.{module}")
        assert callable(getattr(module, name))
    if row.functional:
        module, _, name = row.functional.partition(":")
        folder = ROOT / "keras_agalite/environments/functional"
        assert (folder / f"{module}.py").exists() or (folder / module).is_dir()
    assert row.requirement is None or row.requirement in REQUIREMENTS
    vector = gymnasium.spec(row.id).vector_entry_point
    assert (vector is None) == (row.vector_entry_point is None)
    assert environments.functional.has_functional(row.id) == bool(row.functional)


def test_files_of_requirements_install_what_the_messages_say():
    assert set(FILES) == set(REQUIREMENTS) - WITHOUT_FILE
    for key, path in FILES.items():
        text, command = path.read_text(), REQUIREMENTS[key].command()
        how = "pip install --no-deps" if REQUIREMENTS[key].no_deps else "pip install"
        named = packages(command) - {"pip", "install", "--no-deps"}
        assert command.startswith(how)
        # Each file says how to use it, under its own name.
        assert f" -r {path.name}" in text.splitlines()[0]
        if REQUIREMENTS[key].no_deps:
            assert "--no-deps" in text.splitlines()[0]
        # Some packages come along with others, and pygame-ce is a pygame.
        brought = {"jax", "flax"}
        named = {"pygame" if name == "pygame-ce" else name for name in named}
        assert named - brought <= packages(text)


def test_the_list_says_what_each_environment_needs():
    rows = {row.name: row for row in environments.list_environments()}

    assert rows["tmaze"].install is None
    assert rows["craftax_symbolic"].install == "pip install jax craftax"
    assert rows["popgym:{task}"].install == "pip install --no-deps popgym"
    assert rows["memory_maze_9x9"].install == (
        'pip install memory-maze "dm-control>=1.0.50" "mujoco>=3.17,<4"'
    )
    assert rows["memory_maze_9x9"].id == "keras_agalite/MemoryMaze-9x9-v0"
    assert rows["tmaze_{corridor_length:d}"].form == "tmaze_<corridor_length>"
