"""TF-Agents' parts: training needs TensorFlow, collecting works on every backend."""

import importlib.util

import keras

if importlib.util.find_spec("tf_agents") is None:
    collect_ignore_glob = ["test_*.py"]
elif keras.backend.backend() != "tensorflow":
    collect_ignore = [
        f"test_{name}.py"
        for name in (
            "environment",
            "every_space",
            "networks",
            "ppo_agent",
            "replicas",
            "tools",
        )
    ]
