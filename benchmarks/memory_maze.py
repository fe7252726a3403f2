"""Steps per second of the fast Memory Maze with images, and of the real one.

`python -m benchmarks.memory_maze [--size 9x9] [--num-envs 64 256] [--samples 1 2 4]`.
Both run in this process, in turns; random actions. Where the real one is not
installed, or cannot draw, the fast one runs alone.
"""

import argparse
import time
from typing import Any

import jax
import numpy as np

from keras_agalite.environments.functional import reset_envs, step_envs
from keras_agalite.environments.functional.memory_maze import MemoryMaze


class Fast:
    """Many mazes; `steps` control steps of all of them are one call."""

    def __init__(self, size: str, num_envs: int, samples: int, image: bool) -> None:
        env = MemoryMaze(
            size, 500, samples=samples, image=image, global_observables=not image
        )
        self.num_envs = num_envs

        def step(states: Any, key: Any) -> Any:
            keys = jax.random.split(key, self.num_envs)
            actions = jax.random.randint(key, (self.num_envs,), 0, 6)
            states, _ = step_envs(env, keys, states, actions)
            seen = env.observe_all(states.state)
            return states, jax.tree.map(lambda x: x.reshape(-1)[::997].sum(), seen)

        def run(states: Any, key: Any, steps: int) -> Any:
            return jax.lax.scan(step, states, jax.random.split(key, steps))

        self.run = jax.jit(run, static_argnums=2)
        keys = jax.random.split(jax.random.key(0), num_envs)
        self.states = jax.jit(lambda k: reset_envs(env, k))(keys)

    def __call__(self, steps: int) -> int:
        self.states, seen = self.run(self.states, jax.random.key(1), steps)
        jax.block_until_ready(seen)
        return steps * self.num_envs


class Real:
    def __init__(self, size: str) -> None:
        from keras_agalite import environments

        self.env: Any = environments.make(f"memory_maze_{size}").unwrapped
        self.env.reset(seed=0)
        self.random = np.random.default_rng(0)

    def __call__(self, steps: int) -> int:
        for action in self.random.integers(6, size=steps):
            self.env.step(action)
        return steps


def timed(work: Any, steps: int) -> tuple[float, float]:
    """Steps per second of wall-clock and of CPU time."""
    begin, cpu = time.perf_counter(), time.process_time()
    number = work(steps)
    wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
    return number / wall, number / cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="9x9")
    parser.add_argument("--num-envs", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="of the fast one a call")
    options = parser.parse_args()
    works: dict[str, tuple[Any, int]] = {}
    try:
        works["real"] = Real(options.size), 100
    except (ImportError, RuntimeError) as error:
        print(error)
    for number in options.num_envs:
        for samples in options.samples:
            fast = Fast(options.size, number, samples, True)
            works[f"{number} mazes, samples={samples}"] = fast, options.steps
        fast = Fast(options.size, number, 1, False)
        works[f"{number} mazes, no images"] = fast, options.steps
    for work, steps in works.values():
        work(steps)  # compiles
    rates = {name: [] for name in works}
    for _ in range(options.rounds):
        for name, work in works.items():
            rates[name].append(timed(*work))
    best = {name: np.median(np.array(rate), 0) for name, rate in rates.items()}
    print(f"size {options.size}, {jax.default_backend()}, {options.rounds} rounds")
    print("| environment | steps/s | per CPU second | times the real one, CPU |")
    print("|---|---|---|---|")
    for name, (wall, cpu) in best.items():
        times = f"{cpu / best['real'][1]:.1f}" if "real" in best else ""
        print(f"| {name} | {wall:.0f} | {cpu:.0f} | {times} |")


if __name__ == "__main__":
    main()
