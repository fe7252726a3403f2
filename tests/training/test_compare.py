"""Finished runs are compared and reported by commands."""

import json
import re
import shutil
from pathlib import Path

import pytest

from training.__main__ import main
from training.analysis.results import finished_runs
from training.recipe import load_recipe

pytestmark = pytest.mark.once

ZOO = Path("zoo/tmaze_10")


@pytest.fixture
def sweeps(tmp_path):
    """Two sweeps: one of a released policy, and one that pretends to be its memoryless
    sister; of the scores only those of other than greedy actions are measured."""
    for memory, scores in (
        ("agalite", (1.0, 0.9, 1.0)),
        ("memoryless", (0.5, 0.6, 0.5)),
    ):
        for seed, score in enumerate(scores):
            run = tmp_path / memory / f"seed_{seed}"
            shutil.copytree(ZOO, run / "preset")
            changed = [f"seed={seed}", f"memory={memory}", "evaluation_episodes=4"]
            recipe = load_recipe(ZOO / "recipe.toml", changed)
            (run / "recipe.toml").write_text(recipe.to_toml())
            rows = [
                {"step": step, "mean_return": step / 100 * score, "success_rate": None}
                for step in range(0, 2000, 100)
            ]
            (run / "curve.jsonl").write_text("\n".join(map(json.dumps, rows)))
            evaluation = {"success_rate": score, "mean_return": 3 * score}
            (run / "evaluation.json").write_text(json.dumps(evaluation))
            if seed:
                text = (run / "evaluation.json").read_text()
                (run / "evaluation_sampled.json").write_text(text)
    return [str(tmp_path / name) for name in ("agalite", "memoryless")]


def test_runs_are_compared_with_seeds_as_the_unit(sweeps, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    file, plot = tmp_path / "comparison.json", tmp_path / "comparison.png"
    arguments = ["compare", *sweeps, "--json", str(file), "--plot", str(plot)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert re.search(r"agalite +3 +greedy +0\.967 +0\.900 to 1\.000", out)
    assert "a seed of agalite is better than one of memoryless with prob" in out
    assert plot.read_bytes().startswith(b"\x89PNG")
    result = json.loads(file.read_text())
    (task,) = result["tasks"]
    assert task == "keras_agalite/TMaze-v0 (corridor_length 10, num_distractors 6)"
    assert 0.0 <= result["tasks"][task]["random"] <= 1.0
    assert result["groups"]["memoryless"]["greedy"]["scores"] == {task: [0.5, 0.6, 0.5]}
    (pair,) = (p for p in result["improvement"] if p["actions"] == "greedy")
    assert (pair["value"], pair["low"]) == (1.0, 1.0)
    # Measured once, and kept beside the run.
    measured = json.loads(
        (Path(sweeps[0]) / "seed_0/evaluation_sampled.json").read_text()
    )
    assert (measured["actions"], measured["episodes"]) == ("sampled", 4)
    kept = Path(sweeps[0]) / "seed_0" / "evaluation_random.json"
    assert json.loads(kept.read_text())["actions"] == "random"


@pytest.mark.process
def test_a_report_is_one_file_with_all_in_it(sweeps, tmp_path):
    pytest.importorskip("matplotlib")
    (Path(sweeps[0]) / "seed_1" / "machine.json").write_text(
        '{"processor": "<abacus>"}'
    )
    file = tmp_path / "report.html"
    assert main(["report", *sweeps, "--out", str(file)]) == 0
    page = file.read_text()
    assert page.count("data:image/png;base64,") == 2
    assert page.count("data:image/gif;base64,") == 4
    for text in (
        "agalite and memoryless in keras_agalite/TMaze-v0",
        "agalite, seeds 0, 1, 2",
        "memory = &quot;agalite&quot;",
        "&lt;abacus&gt;",
        "10 steps, return 3.10, success",
    ):
        assert text in page, text
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_what_the_memory_holds_is_what_the_policy_computes(sweeps):
    pytest.importorskip("matplotlib")
    import keras
    import numpy as np

    from training.analysis.memory_panel import draw_panel, play

    run = finished_runs([Path(sweeps[0])])[0]
    policy = run.policy()
    episode = play(policy, run.recipe, 1_000_000)
    assert episode.norms.shape == (10, len(policy.state_size))
    assert len(episode.frames) == 11
    assert (np.diff(episode.norms, axis=0) != 0).any()
    value = policy.critic_output(
        policy.critic_hidden(keras.ops.convert_to_tensor(episode.readout[None]))
    )
    value = keras.ops.convert_to_numpy(value)[0, :, 0]
    assert value[-1] == pytest.approx(4.0, abs=0.5)  # the goal is the next step
    panel, left, right = draw_panel(episode)
    assert 0 < left < right < panel.width


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--by", "colour"], "`--by` must be a key of a recipe"),
        (["--by", "environment", "{broken}"], "Expected finished runs"),
    ],
)
def test_what_it_refuses(sweeps, tmp_path, capsys, arguments, message):
    pytest.importorskip("matplotlib")
    (tmp_path / "broken").mkdir()
    arguments = [text.format(broken=tmp_path / "broken") for text in arguments]
    key, *more = arguments[1:]
    assert main(["compare", *sweeps, *more, "--by", key]) == 2
    assert message in capsys.readouterr().err


def test_groups_need_the_same_tasks(sweeps, capsys):
    pytest.importorskip("matplotlib")
    file = Path(sweeps[1]) / "seed_0" / "recipe.toml"
    file.write_text(
        file.read_text().replace("corridor_length = 10", "corridor_length = 9")
    )
    assert main(["compare", *sweeps]) == 2
    assert "memory=agalite without keras_agalite/TMaze-v0 (corridor_length 9" in (
        capsys.readouterr().err
    )


def test_a_run_that_was_continued_is_measured_anew(sweeps):
    run = finished_runs([Path(sweeps[0])])[1]
    file = run.folder / "evaluation.json"
    evaluation = json.loads(file.read_text())
    assert run.evaluation("sampled")["success_rate"] == evaluation["success_rate"]
    file.write_text(json.dumps({**evaluation, "trained_steps": 5}))
    assert run.evaluation("sampled")["episodes"] == 4
    assert run.evaluation("sampled")["trained_steps"] == 5
