import ctypes.util

import keras
import pytest

from keras_agalite.environments._packages import is_installed
from keras_agalite.environments.catalog import REQUIREMENTS

# Programs in JAX, whatever Keras runs on: once is enough, and once in full.
collect_ignore = []
if keras.backend.backend() != "jax":
    collect_ignore += ["test_functional.py"]

CAN_DRAW = any(map(ctypes.util.find_library, ("EGL", "OSMesa")))


def pytest_collection_modifyitems(config, items):
    """Leaves out the tests of environments whose packages are not installed.

    `@pytest.mark.environments(key)` names them by their key in `REQUIREMENTS`. Memory
    Maze needs one of Debian's libegl1 and libosmesa6 as well.
    """

    def is_missing(item):
        needs = [mark.args[0] for mark in item.iter_markers("environments")]
        if "memory_maze" in needs and not CAN_DRAW:
            return True
        packages = {package for key in needs for package in REQUIREMENTS[key].packages}
        return not all(map(is_installed, packages))

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
