"""What it costs to fine-tune a policy: trained weights, memory and time of an update.

`KERAS_BACKEND=jax python -m benchmarks.fine_tuning [RECIPE] [--set key=value]
[--rounds 10]`, without a RECIPE tmaze_70_jax. A recipe needs an `initial_preset` and a
functional environment. The memory is what XLA allocates beside inputs and outputs for
the gradient of one minibatch and the step of the optimizer.
"""

import argparse
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

import jax

from benchmarks.loop import seconds
from training.engines.jax import Run
from training.recipe import FINE_TUNING, load_recipe

RECIPE = "training/recipes/tmaze_70_jax.toml"


def compile_update(run: Run) -> tuple[Any, tuple[Any, ...]]:
    """An update of the optimizer on the first minibatch, compiled, and its inputs."""
    learner, state = run.state
    ppo = run.ppo

    def prepare(learner: Any, state: Any) -> Any:
        _, experience, _ = run.collector.collect(learner, state)
        return ppo.begin(learner.statistics, experience)[0]

    batch = jax.jit(prepare)(learner, state)
    inputs = (
        learner.weights,
        learner.optimizer,
        batch,
        ppo.order(learner.iteration)[0],
        *ppo.fixed(learner),
    )
    return jax.jit(ppo.update).lower(*inputs).compile(), inputs


def measure(run: Run, rounds: int) -> tuple[int, int, float]:
    """Trained weights, bytes of memory and seconds of an update."""
    update, inputs = compile_update(run)

    def work() -> None:
        jax.block_until_ready(update(*inputs))

    work()
    median = statistics.median(seconds(work) for _ in range(rounds))
    trained = sum(math.prod(v.shape) for v in run.ppo.variables)
    return trained, update.memory_analysis().temp_size_in_bytes, median


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", default=RECIPE)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    print("| `fine_tune` | trained weights | memory of an update | time of an update |")
    print("|---|---|---|---|")
    for fine_tune in FINE_TUNING:
        recipe = load_recipe(options.recipe, [*options.set, f"fine_tune={fine_tune}"])
        with tempfile.TemporaryDirectory() as folder:
            run = Run(recipe, Path(folder) / "run")
        if run.vector is not None:
            parser.error(f"the environments of {recipe.environment} are not compiled")
        trained, size, time = measure(run, options.rounds)
        print(
            f"| `{fine_tune}` | {trained:,} | {size / 2**20:.1f} MiB | "
            f"{1e3 * time:.0f} ms |",
            flush=True,
        )


if __name__ == "__main__":
    main()
