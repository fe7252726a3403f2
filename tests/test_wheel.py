"""The wheel holds the library and the released policies, and needs no checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PROGRAM = """
import sys
import keras_agalite
from keras_agalite.models.presets import released_folder, released_presets
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
