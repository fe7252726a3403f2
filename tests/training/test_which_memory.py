"""The page "Which memory?" follows from its list and from what is kept of its runs."""

import dataclasses
import json

import pytest

from benchmarks import which_memory as benchmark
from keras_agalite.presets.weights_file import count_numbers
from training.__main__ import main
from training.analysis import which_memory, which_memory_page
from training.analysis.which_memory import (
    CELLS,
    MEMORIES,
    OURS,
    RIVAL,
    SEEDS,
    TASKS,
    Cell,
    Memory,
    Task,
    read_kept,
)
from training.recipe import load_recipe

pytestmark = pytest.mark.once

TINY = """
policy = "tmaze_10"
engine = "jax"
memory_arguments = {hidden_dim = 8, num_layers = 1}
num_environments = 4
num_minibatches = 2
num_epochs = 1
sequence_length = 16
evaluation_episodes = 3
environment_arguments = {corridor_length = 2}
"""


@pytest.mark.parametrize("task", TASKS)
def test_the_weights_of_a_task_are_equal_within_a_tenth(task):
    weights = {name: Cell(task, name).num_weights() for name in MEMORIES}
    assert len(weights) == 7
    for name, number in weights.items():
        assert abs(number / weights[OURS] - 1) <= 0.1, name


@pytest.mark.parametrize("task", TASKS)
def test_the_recipes_of_a_task_differ_in_the_memory_alone(task):
    recipes = {name: Cell(task, name).recipe(seed=1) for name in MEMORIES}
    same = {
        dataclasses.replace(x, memory="agalite", memory_arguments={}).to_toml()
        for x in recipes.values()
    }
    assert len(same) == 1
    windows = {
        name: recipes[name].memory_arguments["memory_length"]
        for name in (RIVAL, "GTrXL, quarter")
    }
    assert windows[RIVAL] >= TASKS[task].steps
    assert windows["GTrXL, quarter"] == TASKS[task].steps // 4


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """An experiment of one cell, whose run takes seconds."""
    recipe = tmp_path / which_memory.RECIPES / "tiny.toml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text(TINY)
    cell = Cell("tiny", "small")
    monkeypatch.setattr(which_memory, "ROOT", tmp_path)
    monkeypatch.setattr(which_memory, "STEPS", 320)
    monkeypatch.setattr(which_memory, "CELLS", [cell])
    monkeypatch.setitem(TASKS, "tiny", Task("tiny", "success_rate", 2, 2))
    monkeypatch.setitem(MEMORIES, "small", Memory("memoryless"))
    monkeypatch.chdir(tmp_path)
    return cell


def test_runs_are_gathered(tiny, tmp_path, capsys, quick_compilation):
    file = tmp_path / "kept.json"
    benchmark.main(["commands", "--kept", str(file)])
    line = capsys.readouterr().out.strip()
    assert line == tiny.command
    # A sweep of one seed, in this process.
    words = line.removeprefix("python -m training sweep ").split()
    at = words.index("--seeds")
    del words[at : at + 2]
    words[-1] += "/seed_0"
    assert main(["train", *words, "--set", "seed=0"]) == 0

    for _ in range(2):  # the second time changes nothing
        benchmark.main(["gather", "--kept", str(file)])
        kept = read_kept(file)
        (run,) = kept["runs"]

    folder = tmp_path / which_memory.RUNS / tiny.folder / "seed_0"
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert run["score"] == evaluation["success_rate"]
    assert (run["task"], run["memory"], run["seed"]) == ("tiny", "small", 0)
    assert 0 <= kept["random"]["tiny"] <= 1
    rows = [json.loads(x) for x in (folder / "curve.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 320
    assert run["curve"][-1] == pytest.approx(rows[-1]["success_rate"], abs=1e-4)
    assert count_numbers(folder / "preset" / "model.weights.h5") == tiny.num_weights()

    recipe = load_recipe(folder / "recipe.toml", ["learning_rate=0.5"])
    (folder / "recipe.toml").write_text(recipe.to_toml())
    with pytest.raises(ValueError, match=r"Expected a run of .*seed_0, which was"):
        benchmark.main(["gather", "--kept", str(file)])


def test_the_policy_of_a_functional_task_has_the_counted_weights():
    from training.envs.make import make_spaces
    from training.learning.policy import make_policy

    cell = Cell("RepeatPrevious Medium", "none")
    policy = make_policy(cell.recipe(), *make_spaces(cell.recipe()))
    assert policy.count_params() == cell.num_weights()


def kept_of(scores, costs=()):
    """What is kept of runs with these scores, by task and memory."""
    runs = [
        {"task": task, "memory": name, "seed": seed, "score": score, "curve": []}
        for (task, name), values in scores.items()
        for seed, score in enumerate(values)
    ]
    return {"runs": runs, "random": {}, "costs": list(costs)}


def test_the_page_says_first_where_agalite_loses():
    kept = kept_of(
        {
            ("T-Maze 50", OURS): [1.0] * 3,
            ("T-Maze 50", "GRU"): [1.0],
            ("Autoencode Easy", OURS): [0.1, 0.2, 0.3],
            ("Autoencode Easy", "MinGRU"): [0.5, 0.6, 0.7],
            ("Autoencode Easy", "none"): [0.9],
            ("Autoencode Easy", "GRU"): [-0.5],
            ("Concentration Easy", "GRU"): [0.5],
        }
    )
    autoencode, *others = which_memory_page.losses(kept).splitlines()
    assert autoencode == (
        "- **Autoencode Easy:** AGaLiTe has return 0.20 (0.10 to 0.30; 3 seeds). "
        "Higher: MinGRU 0.60 (0.50 to 0.70; 3 seeds), better with probability 1.00 "
        "(1.00 to 1.00); none 0.90 (1 seed). Not run: GaLiTe; GTrXL, whole; GTrXL, "
        "quarter."
    )
    assert others == [
        "- **T-Maze 50:** AGaLiTe has success 1.00 (1.00 to 1.00; 3 seeds). None of "
        "the others that were run (1) scores higher. Not run: GaLiTe; GTrXL, whole; "
        "GTrXL, quarter; MinGRU; none.",
        "- **RepeatPrevious Medium:** AGaLiTe was not run.",
        "- **Concentration Easy:** AGaLiTe was not run.",
        "- **Costs** were not measured.",
    ]
    head, rows = which_memory_page.table(kept)
    cells = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert cells["none"]["Autoencode Easy, return"] == "0.90 (1 seed)"
    assert cells["none"]["T-Maze 50, success"] == "not run"


def test_the_page_says_how_much_is_done(tmp_path, capsys):
    kept = kept_of({cell: [0.0] * SEEDS for cell in CELLS})
    assert which_memory_page.progress(kept).startswith("All 84 runs are done")
    kept["runs"].pop()
    assert which_memory_page.progress(kept).startswith("**83 of 84 runs are done**")
    file = tmp_path / "kept.json"
    file.write_text(json.dumps(kept))
    benchmark.main(["commands", "--kept", str(file)])
    assert capsys.readouterr().out.strip() == CELLS[-1].command


def test_costs_are_measured_and_claims_follow_from_them(
    monkeypatch, tmp_path, quick_compilation
):
    small = {"num_layers": 1, "hidden_dim": 8}
    heads = {"num_heads": 1, "head_dim": 8, "intermediate_dim": 8}
    memories = {  # the cheapest to compile stands for AGaLiTe
        OURS: ("memoryless", small),
        RIVAL: ("gtrxl", {**small, **heads, "memory_length": 64}),
    }
    monkeypatch.setattr(benchmark, "settings", lambda: {"page": memories})
    monkeypatch.setattr(benchmark, "LEARN", (2, 3))
    file = tmp_path / "kept.json"
    benchmark.main(["costs", "--rounds", "1", "--kept", str(file)])

    kept = read_kept(file)
    ours, theirs = kept["costs"]
    assert (ours["window"], theirs["window"]) == (None, 64)
    assert theirs["state_bytes"] == 4 * (64 * 8 + 1)
    for work in which_memory_page.WORKS:
        assert ours[work]["ratio"] == 1
        ratio = theirs[work]["ms"] / ours[work]["ms"]
        assert theirs[work]["ratio"] == pytest.approx(ratio, rel=0.01)
    theirs["act_1"]["ratio"], theirs["act_16"]["ratio"] = 2.0, 1.25
    cheaper, smaller, _ = which_memory_page.claims(kept).splitlines()
    assert cheaper.startswith('- "At least 40% cheaper." Holds in 0 of 1 cases.')
    assert "by 50% and 20% with the sizes of this page and a window of 64." in cheaper
    assert '"Less than half the memory." Holds in all cases.' in smaller


def test_the_claim_about_scores_compares_what_was_run():
    scores = {("T-Maze 50", OURS): [1.0], ("Autoencode Easy", OURS): [0.5]}
    scores["T-Maze 50", RIVAL] = [0.5]
    assert which_memory_page.claims(kept_of(scores)).splitlines()[-1] == (
        '- "Similar or better." T-Maze 50, success: AGaLiTe 1.00 (1 seed); GTrXL, '
        "whole 0.50 (1 seed); GTrXL, quarter not run. Not measured in RepeatPrevious "
        "Medium, Autoencode Easy, Concentration Easy."
    )


def test_the_settings_that_are_measured_have_their_windows():
    for name, windows in (("paper", (128, 32)), ("page", (104, 26))):
        memories = benchmark.settings()[name]
        assert list(memories) == list(MEMORIES)
        found = (memories[x][1]["memory_length"] for x in (RIVAL, "GTrXL, quarter"))
        assert tuple(found) == windows


def test_the_figure_is_drawn_of_what_is_kept(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="matplotlib brings Pillow")

    def drawn_of(file):
        return image.open(file).text["Description"]

    kept = read_kept()
    figure = which_memory.ROOT / which_memory_page.FIGURE
    expected = which_memory_page.fingerprint(kept)
    assert drawn_of(figure) == expected, "run `python -m benchmarks.which_memory page`"
    which_memory_page.plot(tmp_path / "figure.png", {**kept, "runs": kept["runs"][1:]})
    assert drawn_of(tmp_path / "figure.png") != expected
