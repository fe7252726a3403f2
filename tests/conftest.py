import ctypes.util
import gc
import itertools
import os
import signal
import types
import zlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TF-Agents runs on Keras 2; this must be set before Keras is imported.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What JAX compiles is kept, for the next run and for the processes that tests start.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/keras-agalite-jax")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
# Nobody reads in its programs where each operation comes from.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")

import pytest

from keras_agalite.environments._packages import is_installed
from keras_agalite.environments.catalog import REQUIREMENTS

CAN_DRAW = any(map(ctypes.util.find_library, ("EGL", "OSMesa")))


def pytest_configure(config):
    # Below nohup it is ignored, also by the programs that tests start and hang up.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    for warning in (
        # Keras's torch backend with NumPy 2.
        "ignore:__array__ implementation:DeprecationWarning",
        # Two processes at one program: the second reads a file half written.
        "ignore:Error reading persistent compilation cache entry:UserWarning",
    ):
        config.addinivalue_line("filterwarnings", warning)


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


def pytest_collection_finish():
    """Has the garbage collector look less often, and not at what was imported."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


def pytest_runtest_setup(item):
    """Numbers what is traced from the test's name on, whatever ran before it.

    XLA's persistent cache knows TensorFlow's functions by their names, which end in a
    count, and layers by Keras's, which do too.
    """
    import keras  # not above: the process that deals tests to others needs none

    if keras.backend.backend() == "tensorflow":
        from keras.src.utils import naming
        from tensorflow.python.framework import ops

        naming.reset_uids()  # `clear_session` would empty the cache of kernels
        first = zlib.crc32(item.nodeid.encode()) << 24
        ops.uid = itertools.count(first).__next__


@pytest.fixture(autouse=True)
def _seed(request):
    """Seeds what draws at random: TensorFlow itself for TF-Agents alone.

    Its seed empties its cache of kernels, and Keras would import it on any backend.
    """
    import keras
    from keras.src.utils import rng_utils

    with pytest.MonkeyPatch.context() as patch:
        draws = request.path.parent.name in ("integrations", "training")
        if keras.backend.backend() != "tensorflow" or not draws:
            patch.setattr(rng_utils, "tf", types.SimpleNamespace(available=False))
        keras.utils.set_random_seed(0)


@pytest.fixture(scope="module")
def quick_compilation():
    """Small programs that run once: less optimisation, less time, children included."""
    import keras

    name = "jax_disable_most_optimizations"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name.upper(), "1")
        if keras.backend.backend() != "jax":
            yield
            return
        import jax

        jax.config.update(name, True)
        yield
        jax.config.update(name, False)
