"""A sweep becomes a folder of zoo/: the median seed, with all seeds on its card."""

import json
import shutil
from pathlib import Path

import pytest

from training.__main__ import main
from training.recipe import load_recipe
from training.release.baselines import not_beaten

pytestmark = pytest.mark.once

ZOO = Path("zoo/tmaze_10")
SUCCESSES = ([1, 1, 1, 1], [0, 0, 0, 1], [0, 1, 1, 1])


def make_sweep(folder, successes_of_seeds, **keys):
    for seed, successes in enumerate(successes_of_seeds):
        run = folder / f"seed_{seed}"
        shutil.copytree(ZOO, run / "preset")
        changed = [f"{key}={value}" for key, value in {**keys, "seed": seed}.items()]
        recipe = load_recipe(ZOO / "recipe.toml", changed)
        released = json.loads((ZOO / "evaluation.json").read_text())
        evaluation = {
            **released,
            "successes": successes,
            "success_rate": sum(successes) / 4,
            "returns": [4.0 * x for x in successes],
            "mean_return": float(sum(successes)),
            "trained_steps": 1000 * (seed + 1),
        }
        for part in (run, run / "preset"):
            (part / "recipe.toml").write_text(recipe.to_toml())
            (part / "evaluation.json").write_text(json.dumps(evaluation))
    return folder


@pytest.fixture
def sweep(tmp_path):
    return make_sweep(tmp_path / "sweep", SUCCESSES)


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


def test_of_equal_seeds_the_first_is_released(tmp_path):
    sweep = make_sweep(tmp_path / "sweep", ([1, 1, 1, 1], [0, 0, 1, 1], [1, 1, 1, 1]))
    folder = tmp_path / "zoo" / "tmaze_10"

    assert main(["release", str(sweep), str(folder)]) == 0

    assert load_recipe(folder / "recipe.toml").seed == 0


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


def validated(sweep, seed, success_rate):
    file = sweep / f"seed_{seed}" / "evaluation.json"
    chosen = {
        "step": 500, "success_rate": success_rate, "mean_return": 1.0,
        "actions": "sampled", "episodes": 50, "seed": 2_000_000, "interval": 250,
    }  # fmt: skip
    evaluation = json.loads(file.read_text()) | {"validation": chosen}
    file.write_text(json.dumps(evaluation))
    return evaluation


def test_the_validation_chooses_the_seed(sweep, tmp_path):
    folder = tmp_path / "zoo" / "tmaze_10"
    for seed, rate in enumerate((0.5, 0.6, 0.7)):
        validated(sweep, seed, rate)

    assert main(["release", str(sweep), str(folder)]) == 0

    assert load_recipe(folder / "recipe.toml").seed == 1
    card = (folder / "README.md").read_text()
    assert "The weights are those of step 500." in card
    assert "sampled actions, were the best in 50 episodes (seeds from 2000000" in card
    assert "every 250 steps: success rate 0.600." in card


@pytest.mark.parametrize(
    ("success_rate", "mean_return", "is_better"),
    [
        ([0.0, 0.0], [0.2, 0.3], True),  # nobody succeeds: the returns decide
        ([0.0, 0.0], [0.1, 0.3], False),
        ([0.1, 0.2], [0.0, 0.1], True),
        ([0.0, 0.1], [0.0, 0.1], False),
    ],
)
def test_what_is_better_than_a_baseline(success_rate, mean_return, is_better):
    mine = {"success_rate": success_rate, "mean_return": mean_return}
    never = {"success_rate": [0.0, 0.0], "mean_return": [0.0, 0.1]}
    baselines = {"random": {"intervals": never}}
    evaluation = {"intervals": mine, "baselines": baselines}
    assert not_beaten(evaluation) == ([] if is_better else ["random"])


def test_a_higher_return_with_less_success_is_not_better():
    mine = {"success_rate": [0.1, 0.2], "mean_return": [0.5, 0.6]}
    often = {"success_rate": [0.3, 0.4], "mean_return": [0.0, 0.1]}
    baselines = {"random": {"intervals": often}}
    assert not_beaten({"intervals": mine, "baselines": baselines}) == ["random"]


@pytest.mark.parametrize("better", [True, False])
def test_a_policy_is_released_if_it_is_above_its_baselines(tmp_path, better, capsys):
    folder = tmp_path / "zoo" / "tmaze_10"
    few = {"evaluation_episodes": 16}  # of random actions
    scores = [[1, 1, 1, 1]] * 2 if better else [[0, 1, 0, 0], [0, 0, 1, 0]]
    mine = make_sweep(tmp_path / "mine", scores, **few)
    others = {"memory": "memoryless", "memory_arguments": "{hidden_dim = 8}", **few}
    other = make_sweep(tmp_path / "other", [[0, 0, 1, 0], [0, 0, 0, 0]], **others)

    arguments = ["release", str(mine), str(folder), "--memoryless"]
    assert main([*arguments, str(mine)]) == 2
    assert "with memory=agalite" in capsys.readouterr().err
    assert not folder.exists()
    assert main([*arguments, str(other)]) == 0

    evaluation = json.loads((folder / "evaluation.json").read_text())
    memoryless = evaluation["baselines"]["memoryless"]
    assert memoryless["success_rate"] == 0.125
    low, high = memoryless["intervals"]["success_rate"]
    assert 0.0 == low < 0.125 < high < 1.0
    random = evaluation["baselines"]["random"]
    assert random["episodes"] == 16
    assert random["seed"] == evaluation["seed"]
    assert (folder / "model.weights.h5").is_file() == better
    assert (folder / "config.json").is_file() == better
    card, page = ((x / "README.md").read_text() for x in (folder, folder.parent))
    first = card.splitlines()[2]
    assert ("No weights are released" in first) != better
    assert ("no weights are released" in page) != better
    assert ("training evaluate tmaze_10" in card) == better
    assert f"| the same recipe without a memory | 0.125 ({low:.3f} to" in card
    settings = "--set memory=memoryless --set memory_arguments='{hidden_dim = 8}'"
    assert f"--seeds 2 {settings} --run-dir runs/tmaze_10_memoryless" in card
