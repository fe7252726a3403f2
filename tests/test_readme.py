"""The README's programs run as they stand."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

pytestmark = pytest.mark.process

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
HEADER = "import gymnasium, keras, numpy as np, keras_agalite\n"


def runs_here(block):
    if "tf_agents" not in block:
        return True
    has_tf_agents = importlib.util.find_spec("tf_agents") is not None
    return has_tf_agents and keras.backend.backend() == "tensorflow"


def test_the_readme_has_its_programs():
    assert len(BLOCKS) == 4


@pytest.mark.parametrize("block", [block for block in BLOCKS if runs_here(block)])
def test_a_program_of_the_readme_runs(block, tmp_path):
    # The later ones go on from the imports of the first.
    header = "" if "\nimport gymnasium" in f"\n{block}" else HEADER
    environment = {**os.environ, "PYTHONPATH": str(README.parent)}
    environment.pop("TF_USE_LEGACY_KERAS", None)
    run = subprocess.run(
        [sys.executable, "-c", header + block],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    if "from_preset" in block:
        results = run.stdout.split()
        assert len(results) >= 9
        assert set(results) == {"right"}
