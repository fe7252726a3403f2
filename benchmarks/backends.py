"""The same work on the three backends, in turns, a process each.

`python -m benchmarks.backends act|learn [--batch N ...] [--rounds N]`. torch needs an
environment of its own: `--torch-python` is its interpreter. TensorFlow learns with
XLA, as Keras's `fit` does.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

BACKENDS = ("jax", "tensorflow", "torch")


def measure(
    backend: str, interpreter: str, work: str, batches: list[str]
) -> list[float]:
    """Milliseconds of AGaLiTe's own form for each batch size."""
    command = [interpreter, "-m", "benchmarks", work, "--backend", backend]
    command += ["--forms", "ours", "--batch", *batches]
    if (backend, work) == ("tensorflow", "learn"):
        command.append("--jit-compile")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        command += ["--json", str(file)]
        subprocess.run(command, check=True, capture_output=True)
        rows = json.loads(file.read_text())["rows"]
    return [row["median_ms"] for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.backends", description=__doc__)
    parser.add_argument("work", choices=("act", "learn"))
    parser.add_argument("--batch", nargs="+", help="default: 1 128 to act, 16 to learn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--torch-python", default=".venv-torch/bin/python")
    options = parser.parse_args()
    batches = options.batch or {"act": ["1", "128"], "learn": ["16"]}[options.work]
    times: dict[str, list[list[float]]] = {backend: [] for backend in BACKENDS}
    for number in range(options.rounds):
        for backend, rounds in times.items():
            python = options.torch_python if backend == "torch" else sys.executable
            rounds.append(measure(backend, python, options.work, batches))
            cells = "  ".join(f"{ms:10.3f} ms" for ms in rounds[-1])
            print(f"round {number + 1}  {backend:10} {cells}", flush=True)
    for backend in BACKENDS[1:]:
        for i, batch in enumerate(batches):
            pairs = zip(times[backend], times["jax"], strict=True)
            ratio = statistics.median(a[i] / b[i] for a, b in pairs)
            print(f"{backend} / jax, batch {batch}: {ratio:.2f}, median of the rounds")


if __name__ == "__main__":
    main()
