"""An engine needs its backend; evaluation works on every backend."""

import importlib.util
import signal

import keras

# A shell that runs the tests in the background ignores Ctrl-C for all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

BACKEND = keras.backend.backend()

collect_ignore = []
if BACKEND != "tensorflow" or importlib.util.find_spec("tf_agents") is None:
    collect_ignore += ["test_tf_agents_engine.py"]
if BACKEND != "jax":
    collect_ignore += ["test_ppo.py", "test_jax_engine.py", "test_teacher.py"]
if set(collect_ignore) >= {"test_tf_agents_engine.py", "test_jax_engine.py"}:
    collect_ignore += [
        "test_faults.py",
        "test_before_training.py",
        "test_fine_tuning.py",
    ]
