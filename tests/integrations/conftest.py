"""TF-Agents' parts: training needs TensorFlow, collecting works on every backend."""

import importlib.util

import keras

training = (
    "environment",
    "every_space",
    "networks",
    "ppo_agent",
    "replicas",
    "tools",
)
if importlib.util.find_spec("tf_agents") is None:
    collect_ignore = [f"test_{name}.py" for name in (*training, "py_policy")]
elif keras.backend.backend() != "tensorflow":
    collect_ignore = [f"test_{name}.py" for name in training]
