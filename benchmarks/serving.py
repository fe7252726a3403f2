"""`python -m benchmarks.serving PRESET`: what each batch size of `act` costs.

For each size, in one process: seconds until it is compiled, bytes by which the process
has grown then, and the time of a step with NumPy states in and out. Linux only.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving", description=__doc__
    )
    parser.add_argument("preset", nargs="?", default="memory_maze_9x9")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args(arguments)
    import keras
    import numpy as np

    from keras_agalite import MemoryPolicy

    policy = MemoryPolicy.from_preset(options.preset)
    # What is loaded with the first program is no part of a size.
    policy.act(policy.sample_observation(3, seed=0), deterministic=True)
    for size in options.sizes:
        observation = policy.sample_observation(size, seed=0)
        state = [np.zeros((size, n), "float32") for n in policy.state_size]
        before, times = _resident_bytes(), []
        for _ in range(1 + options.rounds):
            begin = time.perf_counter()
            _, new = policy.act(observation, state, deterministic=True)
            state = [keras.ops.convert_to_numpy(x) for x in new]
            times.append(time.perf_counter() - begin)
        print(
            f"{keras.backend.backend()} size {size}: compiled in {times[0]:.1f} s, "
            f"{(_resident_bytes() - before) / 1e6:.1f} MB, a step "
            f"{1000 * statistics.median(times[1:]):.2f} ms"
        )
    return 0


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
