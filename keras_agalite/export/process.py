"""Exports in a process of the backend that owns the format."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from keras_agalite.export.formats import FORMATS

if TYPE_CHECKING:
    from keras_agalite.models import MemoryPolicy


_ERRORS = {"ValueError": ValueError, "ImportError": ImportError}


def export_policy(
    policy: "MemoryPolicy | str | Path",
    path: str | Path,
    format: str = "onnx",
    python: str | Path | None = None,
) -> Path:
    """Writes a policy as a program of one step that runs without Keras.

    The step takes the observation, `start` and the state, and gives the most likely
    action, the parameters of the action distribution, the value and the next state.
    The work is done on the CPU, in a process of the backend that owns the format:
    PyTorch for ONNX and `.pt2`, TensorFlow for SavedModel and LiteRT.

    Args:
        policy: A float32 policy of parts that a preset can hold, or what
            `MemoryPolicy.from_preset` takes.
        path: The folder to write: the program, `policy.onnx`, `policy.pt2`,
            `policy.tflite` or `saved_model`, and `export.json`, which names its
            inputs and outputs. It is there whole or not at all.
        format: "onnx", "pt2", "saved_model" or "litert".
        python: The interpreter of the process, if not this one: of an environment
            with this package and the backend that owns the format.

    Returns:
        The path of the program.

    Raises:
        ValueError: If the format is unknown, the path exists, there is no such
            preset, or the policy cannot be exported.
        ImportError: If the packages that the format needs are not installed.
        ChildProcessError: If the process failed otherwise; with its last lines.
    """
    if format not in FORMATS:
        raise ValueError(
            f"Expected a format of {', '.join(FORMATS)}. Received: format={format!r}"
        )
    path = Path(path)
    if path.exists():
        raise ValueError(
            f"Expected the path of a folder that does not exist. Received: {path}"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as scratch:
        whole, preset = Path(scratch) / "export", policy
        if not isinstance(policy, str | Path):
            preset = Path(scratch) / "preset"
            policy.save_to_preset(preset)
        _run(str(python or sys.executable), str(preset), whole, format)
        whole.rename(path)
    return path / FORMATS[format].file


def _run(python: str, preset: str, folder: Path, format: str) -> None:
    backend = FORMATS[format].backend
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [python, "-m", "keras_agalite.export", preset, str(folder), format]
    run = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False
    )
    if run.returncode == 2:
        report = run.stdout.strip().rpartition("\n")[2]
        if report.startswith("{"):
            error = json.loads(report)
            raise _ERRORS[error["type"]](error["message"])
    if run.returncode:
        raise ChildProcessError(
            f"The export to {format} in a process of {backend} ({python}) ended with "
            f"exit code {run.returncode}: {run.stderr.strip()[-2000:]}"
        )


def main(preset: str, folder: str, format: str) -> int:
    """Exports a preset in this process; its errors are one line of JSON."""
    try:
        check_packages(format)
        from keras_agalite.export.step import write
        from keras_agalite.models import MemoryPolicy

        write(MemoryPolicy.from_preset(preset), Path(folder), format)
    except (ValueError, ImportError) as error:
        kind = "ImportError" if isinstance(error, ImportError) else "ValueError"
        print(json.dumps({"type": kind, "message": str(error)}))
        return 2
    return 0


def check_packages(format: str) -> None:
    """Raises an ImportError if this environment lacks what the format needs."""
    _, backend, packages, extra = FORMATS[format]
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"The format {format} is exported by {backend} and needs "
            f"{', '.join(packages)}. Received: no {', '.join(missing)} in "
            f'{sys.executable}. Use pip install "keras-agalite[{extra}]", or name '
            "another environment's interpreter with `python` (--python PATH)"
        )
