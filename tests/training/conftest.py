"""The TF-Agents engine needs TensorFlow; evaluation works on every backend."""

import importlib.util

import keras

if (
    importlib.util.find_spec("tf_agents") is None
    or keras.backend.backend() != "tensorflow"
):
    collect_ignore = ["test_tf_agents_engine.py"]
