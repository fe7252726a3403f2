"""No two modules import each other, not even by a way around or inside a function."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("keras_agalite", "training", "benchmarks")
# The one way up: a policy is read from files, and written to them, by the rooms that
# know the files, which themselves build policies.
WAY_UP = {
    ("keras_agalite.models.base", "from_preset"),
    ("keras_agalite.models.base", "presets"),
    ("keras_agalite.models.base", "save_to_preset"),
    ("keras_agalite.models.base", "export"),
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {
    module_name(path): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imports_of(module: str, way_up: set[tuple[str, str]]) -> Iterator[str]:
    """The modules of ours that a module imports, wherever else in its text."""
    nodes: list[ast.AST] = [ast.parse(SOURCES[module].read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in SOURCES)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found = whole if whole in SOURCES else node.module
                if found in SOURCES:
                    yield found
        elif isinstance(node, ast.FunctionDef) and (module, node.name) in way_up:
            continue
        nodes += ast.iter_child_nodes(node)


def make_graph(way_up: set[tuple[str, str]] = WAY_UP) -> dict[str, set[str]]:
    return {module: set(imports_of(module, way_up)) for module in SOURCES}


def find_circle(graph: dict[str, set[str]]) -> list[str] | None:
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


def test_no_modules_import_each_other_in_a_circle():
    graph = make_graph()

    assert len(graph) > 100
    assert find_circle(graph) is None


def test_a_circle_would_be_found():
    graph = make_graph()
    graph["keras_agalite.environments.catalog"].add("keras_agalite.environments")

    assert set(find_circle(graph)) >= {
        "keras_agalite.environments.catalog",
        "keras_agalite.environments",
    }


@pytest.mark.parametrize("method", sorted(WAY_UP))
def test_the_way_up_is_no_wider_than_it_must_be(method):
    assert find_circle(make_graph(WAY_UP - {method}))
