"""Metrics in TensorBoard and Weights & Biases, and the line of progress."""

import io
import json
import sys
import types
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from training.__main__ import main
from training.recipe import Recipe
from training.runs import loggers
from training.runs.loggers import TensorBoard, WeightsAndBiases, grouped
from training.runs.progress import Curve, describe, read_curve

pytestmark = pytest.mark.once

ROW = {"step": 40, "steps_per_second": 9.0, "mean_return": None, "loss": 0.5}
RECIPE = Recipe(name="small", environment="tmaze_4", total_steps=40)


def test_names_are_those_of_the_curve_under_a_prefix():
    assert grouped(ROW) == {"speed/steps_per_second": 9.0, "Losses/loss": 0.5}
    assert grouped({"success_rate": 1.0}) == {"episodes/success_rate": 1.0}


def test_tensorboard_holds_what_was_added(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = TensorBoard(tmp_path)
    board.add(ROW)
    board.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    kept = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    assert set(kept) == {"speed/steps_per_second", "Losses/loss"}
    assert [(x.step, x.value) for x in kept["Losses/loss"]] == [(40, 0.5)]


def test_a_board_that_cannot_be_written_is_named(tmp_path):
    pytest.importorskip("tensorboard")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=f"Cannot write {tmp_path}/file: .* exists"):
        TensorBoard(tmp_path / "file")
    from tensorboard.summary.writer.record_writer import RecordWriter

    board = TensorBoard(tmp_path / "board")
    board.close()
    board.writer = RecordWriter(io.FileIO("/dev/full", "wb"))
    with pytest.raises(OSError, match=f"Cannot write {tmp_path}/board: .* No space"):
        board.add(ROW)
    board.close()


class Wandb(types.ModuleType):
    """What is used of wandb, with notes of its use."""

    def __init__(self):
        super().__init__("wandb")
        self.started, self.logged, self.finished = [], [], 0

    def init(self, **keywords):
        self.started.append(keywords)
        return self

    def log(self, metrics, step):
        self.logged.append((step, metrics))

    def finish(self):
        self.finished += 1


def test_weights_and_biases_continues_the_run_it_began(tmp_path, monkeypatch):
    wandb = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr(loggers, "check_wandb", lambda: None)
    for _ in range(2):
        writer = WeightsAndBiases("mazes", RECIPE, tmp_path)
        writer.add(ROW)
        writer.close()
    first, second = wandb.started
    assert first["project"] == "mazes"
    assert first["id"] == second["id"]
    assert first["config"]["environment"] == "tmaze_4"
    assert wandb.logged[0] == (40, grouped(ROW))
    assert wandb.finished == 2


def test_without_weights_and_biases_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install wandb"):
        loggers.check_wandb()


def test_the_line_of_progress_leaves_out_what_is_not_known():
    recent = {"mean_return": None, "mean_length": None, "success_rate": None}
    assert describe({"steps_per_second": 1234.5}, recent) == "1,234 steps/s"
    speed = {
        "steps_per_second": 100.0,
        "collect_steps_per_second": 200.0,
        "learn_steps_per_second": 201.0,
    }
    recent = {"mean_return": 1.5, "mean_length": 12.0, "success_rate": 0.5}
    assert describe(speed, recent) == (
        "100 steps/s (collect 200, learn 201)  return 1.50  length 12  success 50%"
    )


def test_a_line_that_was_cut_off_is_no_line(tmp_path):
    file = tmp_path / "curve.jsonl"
    file.write_text('{"step": 1}\n{"step": 2}\n{"ste')
    curve = Curve(file, step=2)
    curve.add({"step": 3})
    assert [row["step"] for row in read_curve(file)] == [1, 2, 3]


def test_a_curve_that_cannot_be_written_is_named(tmp_path):
    curve = Curve(tmp_path / "curve.jsonl", 0)
    curve.path = Path("/dev/full")
    if not curve.path.exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(OSError, match=r"Cannot write /dev/full: .*No space left"):
        curve.add({"step": 1})


def test_a_sweep_stops_for_ctrl_c_and_goes_on_for_failures(
    tmp_path, monkeypatch, capsys
):
    from training.runs import sweep

    codes = iter([1, 0, 1])
    monkeypatch.setattr(sweep, "_run", lambda command: next(codes))
    file = tmp_path / "small.toml"
    file.write_text(RECIPE.to_toml())
    assert main(["sweep", str(file), "--seeds", "3"]) == 2
    assert "Received: seeds [0, 2]" in capsys.readouterr().err
    codes = iter([0, 130])
    assert main(["sweep", str(file), "--seeds", "3"]) == 130


def test_the_machine_is_noted(tmp_path):
    from training.runs.provenance import write_machine

    write_machine(tmp_path)
    noted = json.loads((tmp_path / "machine.json").read_text())
    assert noted["cores"] >= 1
    assert noted["packages"]["numpy"]
