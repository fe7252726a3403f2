"""Seconds of the processor until a policy has chosen its first action.

Each policy is loaded in a process of its own, which compiles all that it needs anew.
"""

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

# Name of the policy, and whether its weights are loaded or drawn.
POLICIES = (
    ("memory_maze_9x9", True),
    ("memory_maze_9x9", False),
    ("craftax_symbolic", False),
    ("tmaze_1000", False),
)
STAGES = ("backend", "import", "load", "first_act")


def load(progress: Callable[[str, int, int], None]) -> list[dict[str, Any]]:
    """One row for each policy, with the seconds of each stage.

    `backend` is the import of JAX, TensorFlow or torch itself; `total` is all that
    comes after it.
    """
    rows = []
    for i, (name, released) in enumerate(POLICIES):
        progress(f"loading {name}", i, len(POLICIES))
        # A cache of compiled programs would hide what a first use costs.
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("JAX_COMPILATION_CACHE")
        }
        result = subprocess.run(
            [sys.executable, "-m", "benchmarks.load", name, str(int(released))],
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        seconds = json.loads(result.stdout.splitlines()[-1])
        row = {
            "work": "load",
            "policy": name,
            "weights": "released" if released else "fresh",
            "backend_name": os.environ.get("KERAS_BACKEND", "default"),
            **seconds,
            "total": sum(seconds[stage] for stage in STAGES[1:]),
        }
        rows.append(row)
    progress("", 0, 0)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown, in seconds of the processor."""
    columns = ("policy", "weights", *STAGES, "total")
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for row in rows:
        cells = [row["policy"], row["weights"]]
        cells += [f"{row[stage]:.2f}" for stage in (*STAGES, "total")]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _measure(name: str, released: bool) -> dict[str, float]:
    """Loads a policy and acts once, in a fresh process."""
    times = [time.process_time()]
    __import__(os.environ.get("KERAS_BACKEND", "tensorflow"))
    times.append(time.process_time())
    import keras_agalite
    from keras_agalite import zoo

    times.append(time.process_time())
    if released:
        policy = keras_agalite.MemoryPolicy.from_preset(name)
    else:
        policy = zoo.find_spec(name).preset().policy(load_weights=False)
    times.append(time.process_time())
    policy.act(policy.sample_observation(1, seed=0), start=[True], seed=0)
    times.append(time.process_time())
    seconds = [later - earlier for earlier, later in itertools.pairwise(times)]
    return dict(zip(STAGES, seconds, strict=True))


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], bool(int(sys.argv[2])))))
