import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TF-Agents runs on Keras 2; this must be set before Keras is imported.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import keras
import pytest


def pytest_configure(config):
    # Keras's torch backend with NumPy 2.
    config.addinivalue_line(
        "filterwarnings", "ignore:__array__ implementation:DeprecationWarning"
    )


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)
