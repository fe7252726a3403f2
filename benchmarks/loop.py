"""Where the time of a training loop in compiled environments goes.

`KERAS_BACKEND=jax python -m benchmarks.loop [RECIPE] [--set key=value] [--rounds 20]`,
without a RECIPE fast_memory_maze_9x9_explorer. Each part is a program of its own here,
called in turns on environments that a first iteration has moved; figures are medians.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from training.engines.jax import Run
from training.learning.collect import act, row_keys
from training.recipe import load_recipe

RECIPE = "training/recipes/fast_memory_maze_9x9_explorer.toml"


def parts_of_a_step(run: Run) -> dict[str, Callable[[], Any]]:
    """What one step of all environments consists of, as calls of compiled programs."""
    ppo, collector = run.ppo, run.collector
    learner, (envs, memory_state, teacher_state) = run.state
    keys = row_keys(0, 1, 1, run.recipe.num_environments)
    observation = jax.jit(collector._observe)(envs.state)
    choose = jax.jit(lambda *x: act(ppo, *x))
    policy = (
        learner.all_weights,
        observation,
        memory_state,
        envs.start,
        jnp.int32(0),
    )
    action = ppo.policy.actor.clip(choose(*policy)[0])
    work: dict[str, tuple[Any, Any]] = {
        "observations": (jax.jit(collector._observe), (envs.state,)),
        "policy": (choose, policy),
        "environments": (jax.jit(collector._step), (keys, envs, action)),
    }
    if run.recipe.is_taught:
        asked = (envs.state, teacher_state, envs.start)
        work["teacher"] = (jax.jit(collector._ask_teacher), asked)
    return {
        name: lambda f=f, x=x: jax.block_until_ready(f(*x))
        for name, (f, x) in work.items()
    }


def seconds(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", default=RECIPE)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--rounds", type=int, default=20, help="of the parts of a step")
    parser.add_argument("--iterations", type=int, default=3, help="of the whole loop")
    options = parser.parse_args()
    recipe = load_recipe(options.recipe, options.set)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(recipe, Path(folder) / "run")
    if run.vector is not None:
        parser.error(f"the environments of {recipe.environment} are not compiled")
    jax.block_until_ready(run.iterate()())  # compiles, and moves the environments

    works = parts_of_a_step(run)
    for work in works.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(options.rounds):
        for name, work in works.items():
            times[name].append(seconds(work))
    whole = statistics.median(
        seconds(lambda: run.iterate()()) for _ in range(options.iterations)
    )
    length = recipe.sequence_length
    step = {name: statistics.median(x) for name, x in times.items()}
    rest = whole / length - sum(step.values())
    print(f"{recipe.num_environments} environments, sequences of {length} steps\n")
    print("| part | ms a step of all environments | share |")
    print("|---|---|---|")
    for name, x in {**step, "learning and the rest": rest}.items():
        print(f"| {name} | {1e3 * x:.1f} | {x * length / whole:.0%} |")
    print(f"\n{recipe.steps_per_iteration / whole:,.0f} steps/s")


if __name__ == "__main__":
    main()
