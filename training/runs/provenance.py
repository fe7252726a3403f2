"""The machine and the versions that a run was made with."""

import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import keras

import keras_agalite
from training.atomic_write import write_text

PACKAGES = (
    "keras",
    "tensorflow",
    "tf-agents",
    "jax",
    "torch",
    "gymnasium",
    "numpy",
)


def describe() -> dict[str, Any]:
    """What matters of this machine and its software, as plain values."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "accelerators": _accelerators(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "backend": keras.backend.backend(),
        "packages": {
            "keras-agalite": keras_agalite.__version__,
            **{name: v for name in PACKAGES if (v := _version(name))},
        },
        "commit": _commit(),
    }


def write_machine(folder: Path) -> None:
    """Notes the machine and the versions in the folder of a run."""
    write_text(folder / "machine.json", json.dumps(describe(), indent=2) + "\n")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor(file: Path = Path("/proc/cpuinfo")) -> str:
    lines = file.read_text().splitlines() if file.is_file() else []
    names = [x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")]
    return names[0] if names else platform.machine()


def _accelerators() -> list[str]:
    match keras.backend.backend():
        case "jax":
            import jax

            devices = [d for d in jax.local_devices() if d.platform != "cpu"]
            return [device.device_kind for device in devices]
        case "tensorflow":
            import tensorflow

            return [d.name for d in tensorflow.config.list_physical_devices("GPU")]
    return []


def _commit() -> str | None:
    describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    command = ["git", "-C", str(Path(__file__).parent), *describe]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
