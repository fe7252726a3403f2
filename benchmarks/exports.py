"""`python -m benchmarks.exports PRESET`: a step in ONNX Runtime beside PyTorch's.

Runs on torch, which owns the format, in interleaved rounds of one process.
"""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.exports", description=__doc__)
    parser.add_argument("preset", nargs="?", help="default: the paper's network, fresh")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args(arguments)
    import onnxruntime
    import torch

    from benchmarks.measure import Work, interleave, median_ratio
    from keras_agalite.export.step import Step, write

    policy = _policy(options.preset)
    step = Step(policy)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "export"
        write(policy, folder, "onnx")
        threads = onnxruntime.SessionOptions()
        threads.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(folder / "policy.onnx", threads)
    print("batch  onnxruntime ms  act ms  act over onnxruntime")
    for batch in options.batch:
        makers = {"onnxruntime": _onnx(session, step), "act": _act(policy)}
        works = {
            name: Work(make(batch, step.sample(batch)), list, 0.0, None)
            for name, make in makers.items()
        }
        times = interleave(works, options.rounds, 10, lambda: None)
        medians = [statistics.median(ms) for ms in times.values()]
        ratio = median_ratio(times["act"], times["onnxruntime"])
        print(f"{batch:5}  {medians[0]:14.3f}  {medians[1]:6.3f}  {ratio:20.2f}")
    return 0


def _policy(preset: str | None) -> Any:
    from gymnasium import spaces

    from keras_agalite import AGaLiTe, MemoryPolicy, MLPEncoder

    if preset:
        return MemoryPolicy.from_preset(preset)
    space = spaces.Box(-1.0, 1.0, (16,))
    return MemoryPolicy(MLPEncoder(space), AGaLiTe(), spaces.Discrete(4))


def _onnx(session: Any, step: Any) -> Any:
    """Steps of the session, NumPy in and out; the state stays NumPy."""
    names = [x.name for x in session.get_outputs()]
    states = [x.name for x in step.states]

    def make(batch: int, inputs: dict[str, Any]) -> Any:
        def run() -> None:
            out = dict(zip(names, session.run(None, inputs), strict=True))
            inputs.update({name: out[f"next_{name}"] for name in states})

        return run

    return make


def _act(policy: Any) -> Any:
    """Steps of `policy.act`, NumPy in and out; the state stays the backend's."""

    def make(batch: int, inputs: dict[str, Any]) -> Any:
        observation = policy.sample_observation(batch, seed=0)
        held = [policy.initial_state(batch)]

        def run() -> None:
            _, held[0] = policy.act(
                observation, held[0], inputs["start"], deterministic=True
            )

        return run

    return make


if __name__ == "__main__":
    sys.exit(main())
