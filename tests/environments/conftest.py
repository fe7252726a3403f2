import ctypes.util
import importlib.util

import pytest

CAN_DRAW = any(map(ctypes.util.find_library, ("EGL", "OSMesa")))


def pytest_collection_modifyitems(config, items):
    """Leaves out the tests of environments whose packages are not installed.

    Memory Maze needs one of Debian's libegl1 and libosmesa6 as well.
    """

    def is_missing(item):
        needs = [mark.args[0] for mark in item.iter_markers("environments")]
        if "memory_maze" in needs and not CAN_DRAW:
            return True
        return any(importlib.util.find_spec(package) is None for package in needs)

    missing = [item for item in items if is_missing(item)]
    if missing:
        config.hook.pytest_deselected(items=missing)
        items[:] = [item for item in items if item not in missing]


@pytest.fixture
def make():
    """`keras_agalite.environments.make`, closing what it made."""
    from keras_agalite import environments

    made = []

    def make(name, **arguments):
        made.append(environments.make(name, **arguments))
        return made[-1]

    yield make
    for env in made:
        env.close()
