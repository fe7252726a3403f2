"""The probe of memory asks what it says, and reports what was answered."""

import json

import gymnasium
import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.recall import COPIED, DISTANCES, QUESTION, TASKS, Learner

pytestmark = pytest.mark.once

RANDOM = np.random.default_rng(0)
DISTANCE = np.array([4, 9, 64, 30])


@pytest.mark.parametrize(("task", "shown"), [("first", 1), ("copy", COPIED)])
def test_each_symbol_is_asked_for_so_many_steps_after_it_was_shown(task, shown):
    inputs, answers, due = TASKS[task](RANDOM, DISTANCE)
    for row, distance in enumerate(DISTANCE):
        asked = np.arange(distance, distance + shown)
        np.testing.assert_array_equal(np.nonzero(due[row])[0], asked)
        assert (inputs[row, asked, QUESTION] == 1).all()
        symbols = inputs[row, asked - distance].argmax(-1)
        np.testing.assert_array_equal(answers[row, asked], symbols)
        # One thing a step until the last question, no other symbol, then nothing.
        assert (inputs[row, : asked[-1] + 1].sum(-1) == 1).all()
        assert inputs[row, asked[-1] + 1 :].sum() == 0
        assert inputs[row, shown:, :8].sum() == 0


def test_the_corridor_is_that_of_the_environment():
    inputs, answers, due = TASKS["tmaze"](RANDOM, DISTANCE)
    for row, distance in enumerate(DISTANCE):
        env = gymnasium.make(
            "keras_agalite/TMaze-v0", corridor_length=int(distance) + 1
        )
        seed = 0
        while (observation := env.reset(seed=seed)[0])[0] != inputs[row, 0, 0]:
            seed += 1
        for step in range(distance + 1):
            # Without the distractors, which are random.
            np.testing.assert_array_equal(inputs[row, step, :10], observation[:10])
            goal = answers[row, step] if due[row, step] else 3
            observation, _, terminated, _, info = env.step(int(goal))
        assert terminated
        assert info["success"]
        assert inputs[row, distance + 1 :].sum() == 0


def test_a_fresh_start_is_the_same_for_the_same_seed():
    learner = Learner("gru")
    outputs = []
    for seed in (0, 1, 0):
        learner.restart(seed)
        outputs.append(learner.accuracy("first", 8))
        learner.train("first", seed, 2)
        outputs.append(learner.accuracy("first", 8))
    assert outputs[:2] == outputs[4:]
    assert outputs[:2] != outputs[2:4]


def test_the_table_and_its_plot(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    file, plot = tmp_path / "rows.json", tmp_path / "plot.png"
    arguments = ["recall", "--updates", "2", "--seeds", "2", "--json", str(file)]
    assert main([*arguments, "--forms", "memoryless"]) == 0
    rows = json.loads(file.read_text())["rows"]
    assert len(rows) == 3 * 2 * len(DISTANCES)
    # Without a memory the answers are guesses: a half, or an eighth, of them right.
    for row in rows:
        assert row["accuracy"] < (0.65 if row["task"] == "tmaze" else 0.3)
    capsys.readouterr()
    arguments = ["recall", "--forms", "--rows", str(file), "--plot", str(plot)]
    assert main(arguments) == 0
    assert "| copy | memoryless |" in capsys.readouterr().out
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert main(["recall", "--forms", "elephant"]) == 2
    assert "Received: ['elephant']" in capsys.readouterr().err
