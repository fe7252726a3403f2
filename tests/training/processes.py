"""Runs in processes of their own, and what they left: for the tests of both engines."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np

import keras_agalite
from training.recipe import Recipe

SMALL = Recipe(
    name="small",
    environment="keras_agalite/TMaze-v0",
    environment_arguments={"corridor_length": 4},
    total_steps=400,
    memory_arguments={
        "num_layers": 1,
        "hidden_dim": 8,
        "num_heads": 1,
        "head_dim": 4,
        "intermediate_dim": 8,
        "eta": 2,
        "r": 2,
    },
    head_units=8,
    num_environments=4,
    sequence_length=10,
    num_epochs=2,
    num_minibatches=2,
    checkpoint_interval=120,
    evaluation_episodes=8,
    jit_compile=False,  # it takes seconds
)


# All that a run measures of itself: kept in its checkpoints, and repeated.
MEASURED = {
    "normalize_observations": True,
    "scale_rewards": True,
    "validation_interval": 160,
    "validation_episodes": 4,
}


def curve_steps(run):
    lines = (run / "curve.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def curve_rows(run):
    """What a run recorded, but for how long it took."""
    return [
        {k: v for k, v in row.items() if not k.endswith("steps_per_second")}
        for row in run.curve.rows
    ]


def check_the_choice(run, run_dir):
    """The run's preset is the policy of its best validation; the last lies beside."""
    rows = [row for row in run.curve.rows if "validation_mean_return" in row]
    keys = ("validation_success_rate", "validation_mean_return")
    scores = [tuple(row[key] for key in keys if key in row) for row in rows]
    best = max(range(len(rows)), key=lambda i: (scores[i], i))
    assert run.validation.best.step == rows[best]["step"]
    last = run.policy.get_weights()
    result = run.finish()
    assert result["validation"]["step"] == rows[best]["step"]
    assert_same_weights(weights_of(run_dir / "preset_last"), last)
    chosen = weights_of(run_dir / "preset")
    assert_same_weights(chosen, run.validation.best.weights)
    is_last = rows[best]["step"] == run.step
    assert is_last == all((a == b).all() for a, b in zip(chosen, last, strict=True))
    return [row["step"] for row in rows]


def weights_of(preset):
    return keras_agalite.MemoryPolicy.from_preset(preset).get_weights()


def assert_same_weights(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def in_a_process(recipe_file, run_dir, *options, log=None, **environment):
    """A run in a process of its own, so that it can be killed or see more devices."""
    command = [sys.executable, "-m", "training", "train", str(recipe_file)]
    with (log or run_dir.parent / f"{run_dir.name}.log").open("w") as output:
        return subprocess.Popen(
            [*command, "--run-dir", str(run_dir), *options],
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
        )


def log_of(run_dir):
    return (run_dir.parent / f"{run_dir.name}.log").read_text()


def checkpointed_weights(run_dir):
    newest = sorted((run_dir / "checkpoints").glob("*.npz"))[-1]
    with np.load(newest) as arrays:
        kept = ("weights", "statistics")
        names = [k for k in arrays.files if any(part in k for part in kept)]
        return newest.name, [arrays[k] for k in names]


def run_killed_at_random(tmp_path, recipe, kills):
    """Kills a run, and starts it again; in the end it is the one not killed."""
    file = tmp_path / "recipe.toml"
    file.write_text(recipe.to_toml())
    random = np.random.default_rng()
    folder, killed = tmp_path / "killed", 0
    for _ in range(kills):
        process = in_a_process(file, folder)
        curve, size = folder / "curve.jsonl", float("inf")
        while process.poll() is None:
            before, size = size, curve.stat().st_size if curve.exists() else 0
            if size > before:  # it is at work: at any moment of that
                time.sleep(random.random() * 0.3)
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.01)
        killed += process.wait() == -signal.SIGKILL
    assert killed > 0, log_of(folder)
    # Not in this process, whose other tests may have set up its backend differently.
    for each in (folder, tmp_path / "whole"):
        assert in_a_process(file, each).wait() == 0, log_of(each)
    name, weights = checkpointed_weights(folder)
    expected_name, expected = checkpointed_weights(tmp_path / "whole")
    assert name == expected_name
    assert_same_weights(weights, expected)
