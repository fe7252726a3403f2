"""A sweep becomes a folder of zoo/: the median seed, with all seeds on its card."""

import json
import shutil
from pathlib import Path

import pytest

from training.__main__ import main
from training.recipe import load_recipe

pytestmark = pytest.mark.once

ZOO = Path("zoo/tmaze_10")
SUCCESSES = ([1, 1, 1, 1], [0, 0, 0, 1], [0, 1, 1, 1])


@pytest.fixture
def sweep(tmp_path):
    for seed, successes in enumerate(SUCCESSES):
        run = tmp_path / "sweep" / f"seed_{seed}"
        shutil.copytree(ZOO, run / "preset")
        recipe = load_recipe(ZOO / "recipe.toml", [f"seed={seed}"])
        for folder in (run, run / "preset"):
            (folder / "recipe.toml").write_text(recipe.to_toml())
        released = json.loads((ZOO / "evaluation.json").read_text())
        evaluation = {
            **released,
            "successes": successes,
            "success_rate": sum(successes) / 4,
            "returns": [4.0 * x for x in successes],
            "mean_return": float(sum(successes)),
            "trained_steps": 1000 * (seed + 1),
        }
        for folder in (run, run / "preset"):
            (folder / "evaluation.json").write_text(json.dumps(evaluation))
    return tmp_path / "sweep"


def test_the_median_seed_is_released_and_all_are_told(sweep, tmp_path):
    folder = tmp_path / "zoo" / "tmaze_10"

    assert main(["release", str(sweep), str(folder)]) == 0

    assert load_recipe(folder / "recipe.toml").seed == 2
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert evaluation["successes"] == SUCCESSES[2]
    rates = {x["seed"]: x["success_rate"] for x in evaluation["training_seeds"]}
    assert rates == {0: 1.0, 1: 0.25, 2: 0.75}
    low, high = evaluation["intervals"]["success_rate"]
    assert 0.0 <= low < 2 / 3 < high <= 1.0
    card = (folder / "README.md").read_text()
    assert "3 training seeds; this is the median one, seed 2." in card
    assert "| 1 | 0.250 | 1 |" in card
    assert "Over training seeds, success rate: 0.667, 95% bootstrap interval" in card
    assert "training/recipes/tmaze_10.toml --seeds 3" in card
    assert "| 75.0% | 3.00 |" in (tmp_path / "zoo" / "README.md").read_text()


def test_a_run_that_was_evaluated_in_one_episode(sweep, tmp_path):
    run, folder = sweep / "seed_0", tmp_path / "zoo" / "tmaze_10"
    file = run / "preset" / "evaluation.json"
    one = {"episodes": 1, "std_return": None, "returns": [4.0], "successes": [True]}
    file.write_text(json.dumps(json.loads(file.read_text()) | one))

    assert main(["release", str(run), str(folder)]) == 0

    assert "- mean return: 4.00\n" in (folder / "README.md").read_text()


def test_an_unfinished_run_is_not_released(sweep, tmp_path, capsys):
    (sweep / "seed_1" / "preset" / "model.weights.h5").unlink()

    assert main(["release", str(sweep), str(tmp_path / "zoo" / "tmaze_10")]) == 2

    assert "seed_1, without model.weights.h5" in capsys.readouterr().err
    assert not (tmp_path / "zoo").exists()
