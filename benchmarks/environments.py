"""Steps per second of the environments that are installed, with a random policy.

`python -m benchmarks.environments [NAME ...]`; resets count. Each environment runs in
a process of its own. With `--compare` Memory Maze runs against memory-maze as it is
shipped, in turns of one process.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_agalite import environments


def measure(name: str, number: int, seconds: float) -> dict[str, float]:
    """Steps per second of wall-clock and of CPU time, and milliseconds per reset."""
    if number > 1:
        env: Any = environments.make_vec(name, number)
    else:
        env = environments.make(name)
    env.action_space.seed(0)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    begin = time.perf_counter()
    env.reset()
    reset = time.perf_counter() - begin
    steps, begin, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begin < seconds:
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        steps += number
        if number == 1 and (terminated or truncated):
            env.reset()
    wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
    env.close()
    return {"wall": steps / wall, "cpu": steps / cpu, "reset": 1e3 * reset}


def compare(size: str, rounds: int = 10, steps: int = 50) -> None:
    """Prints how many times as fast as memory-maze our Memory Maze steps and resets."""
    env: Any = environments.make(f"memory_maze_{size}").unwrapped
    shipped = getattr(env.maze.tasks, f"memory_maze_{size}")(
        seed=0, image_only_obs=True
    )
    env.reset(seed=0)
    shipped.reset()
    forms: dict[str, Any] = {"ours": env, "memory-maze": shipped}
    stepping: dict[str, list[float]] = {name: [] for name in forms}
    resetting: dict[str, list[float]] = {name: [] for name in forms}

    def timed(work: Callable[[], Any]) -> float:
        begin = time.process_time()
        work()
        return time.process_time() - begin

    for actions in np.random.default_rng(0).integers(6, size=(rounds, steps)):
        for name, form in forms.items():

            def walk(form: Any = form, actions: Any = actions) -> None:
                for action in actions:
                    form.step(action)

            stepping[name].append(timed(walk) / steps)
            resetting[name].append(timed(form.reset))
    for what, times in (("step", stepping), ("reset", resetting)):
        middle = {name: 1e3 * statistics.median(times[name]) for name in forms}
        pairs = zip(times["memory-maze"], times["ours"], strict=True)
        ratios = sorted(shipped / ours for shipped, ours in pairs)
        print(
            f"Memory Maze {size} {what}: {middle['memory-maze']:.2f} ms shipped, "
            f"{middle['ours']:.2f} ms ours; {statistics.median(ratios):.2f} times as "
            f"fast ({ratios[0]:.2f} to {ratios[-1]:.2f}, {rounds} rounds, CPU time)"
        )
    env.close()
    shipped.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--seconds", type=float, default=5.0, help="of stepping")
    parser.add_argument("--num-envs", type=int, default=256, help="of Craftax")
    parser.add_argument("--compare", action="store_true", help="Memory Maze alone")
    options = parser.parse_args()
    if options.compare:
        for size in ("9x9", "15x15"):
            compare(size)
        return
    print("| environment | number | steps/s | steps per CPU second | reset, ms |")
    print("|---|---|---|---|---|")
    rows = environments.list_environments()
    # A name with an argument in it stands for many.
    names = [row.name for row in rows if row.form == row.name]
    for name in options.names or names:
        for number in (1, options.num_envs) if "craftax" in name else (1,):
            # A new process: no thread pool or context of the one before.
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                work = (name, number, options.seconds)
                try:
                    row = pool.apply(measure, work)
                except ImportError as error:
                    print(f"| {name} | {error} | | | |")
                    break
                figures = f"{row['wall']:.0f} | {row['cpu']:.0f} | {row['reset']:.1f}"
                print(f"| {name} | {number} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
