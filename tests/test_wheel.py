"""The wheel holds the library and the released policies, and needs no checkout."""

import glob
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.once, pytest.mark.process]

ROOT = Path(__file__).parent.parent

PROGRAM = """
import sys
import keras_agalite
from keras_agalite.presets import released_folder, released_presets
assert keras_agalite.__file__.startswith(sys.argv[1]), keras_agalite.__file__
assert str(released_folder()).startswith(sys.argv[1])
names = released_presets()
assert "tmaze_10" in names
for name in names:
    policy = keras_agalite.MemoryPolicy.from_preset(name)
    observation = policy.sample_observation(2, seed=0)
    policy.act(observation, policy.initial_state(2), seed=0)
print("loaded", *names)
from keras_agalite.__main__ import main
assert main(["evaluate", "tmaze_10", "--episodes", "2"]) == 0
assert "training" not in sys.modules
"""


# Those besides ours for which the classifiers speak.
OTHER_PYTHONS = ("3.12", "3.13")


def interpreter(version):
    """A Python of this version that runs and makes environments, or None."""
    versions = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    found = [
        shutil.which(f"python{version}"),
        *sorted(glob.glob(f"{versions}/versions/{version}.*/bin/python")),
    ]
    for python in filter(None, found):
        # pyenv puts names of versions on the path that are not selected.
        run = [python, "-c", "import venv"]
        if subprocess.run(run, check=False, capture_output=True).returncode == 0:
            return python
    return None


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    (file,) = folder.glob("*.whl")
    return file


def test_the_wheel_holds_the_package_and_the_zoo_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "keras_agalite/py.typed" in names
    assert "keras_agalite/zoo/data/tmaze_10/model.weights.h5" in names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"keras_agalite"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_every_released_policy_loads_from_the_wheel(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "site")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "tmaze_10" in run.stdout


@pytest.mark.parametrize("version", OTHER_PYTHONS)
def test_the_wheel_works_under_another_python(version, wheel, tmp_path):
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    # Our pip installs there, and nothing is compiled that is not imported.
    venv = [python, "-m", "venv", "--without-pip", tmp_path / "venv"]
    subprocess.run(venv, check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q"]
    subprocess.run([*pip, "--no-compile", f"{wheel}[jax]"], check=True)

    evaluate = [python, "-W", "error", "-m", "keras_agalite", "evaluate", "tmaze_10"]
    run = subprocess.run(
        [*evaluate, "--episodes", "10", "--json", "result.json"],
        cwd=tmp_path,
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["success_rate"] == 1
    shutil.rmtree(tmp_path / "venv")  # 670 MB
