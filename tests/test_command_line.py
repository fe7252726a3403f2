"""What the words of the command lines mean."""

import runpy
import sys

import pytest

import keras_agalite.__main__ as library
import keras_agalite.export
import training.__main__ as trainer

pytestmark = pytest.mark.once
HASH = "0" * 64


@pytest.mark.parametrize(
    ("preset", "folder"),
    [
        ("tmaze_10", "tmaze_10_onnx"),
        ("zoo/tmaze_10", "tmaze_10_onnx"),
        ("runs/a/preset", "a_onnx"),
        ("runs/b/preset/", "b_onnx"),
        ("runs/a/seed_0/preset", "a_seed_0_onnx"),
        ("runs/и ü/preset", "и ü_onnx"),
        (".", "here_onnx"),
        ("preset", "here_onnx"),
        (f"https://user@host:1/a@1/x.zip#sha256={HASH}", "x_onnx"),
        ("hf://owner/name@v1", "name_onnx"),
        ("hf://owner/name@refs/pr/1", "name_onnx"),
        ("hf://owner/name", "name_onnx"),
    ],
)
def test_an_export_is_called_as_its_policy_or_run(
    preset, folder, tmp_path, monkeypatch
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    written = []
    monkeypatch.setattr(
        keras_agalite.export, "export_policy", lambda *x: written.append(str(x[1]))
    )
    assert library.main(["export", preset]) == 0
    assert written == [folder]


@pytest.mark.parametrize("main", [library.main, trainer.main])
@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--seed", "-5", "must be from 0 to 4294967295, received -5"),
        ("--seed", str(2**70), f"must be from 0 to 4294967295, received {2**70}"),
        ("--seed", "nan", "invalid"),
        ("--episodes", "0", "must be at least 1, received 0"),
        ("--episodes", "inf", "invalid"),
    ],
)
def test_a_wrong_number_is_told_with_its_option(main, option, value, told, capsys):
    with pytest.raises(SystemExit) as end:
        main(["evaluate", "tmaze_10", option, value])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert f"argument {option}: " in error
    assert told in error


@pytest.mark.parametrize("main", [library.main, trainer.main])
@pytest.mark.parametrize("file", ["no/such/folder/result.json", "."])
def test_a_file_that_cannot_be_written_is_told_before_episodes(main, file, capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "tmaze_10", "--json", file])
    told = f"--json: must be a file in a folder that is there, received {file}"
    assert told in capsys.readouterr().err


def test_the_process_that_exports_names_the_command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["export", "--help"])
    with pytest.raises(SystemExit, match="python -m keras_agalite export"):
        runpy.run_module("keras_agalite.export", run_name="__main__")


@pytest.mark.parametrize("value", ["[1]", "{", "x"])
def test_arguments_of_an_environment_are_an_object(value, capsys):
    with pytest.raises(SystemExit):
        library.main(["play", "tmaze_10", "--environment-arguments", value])
    assert "argument --environment-arguments: must be" in capsys.readouterr().err


@pytest.mark.parametrize(("index", "count"), [("2", "2"), ("-1", "2")])
def test_a_process_is_one_of_those_there_are(index, count, capsys):
    recipe = ["train", "training/recipes/tmaze_20_jax.toml"]
    which = ["--coordinator", "x:1", "--processes", count, "--process", index]
    assert trainer.main(recipe + which) == 2
    assert f"--processes {count} --process {index}," in capsys.readouterr().err


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_rollout_names_a_seed_that_is_none(seed):
    with pytest.raises(ValueError, match=f"`seed` must be .*Received: seed={seed}"):
        keras_agalite.rollout(None, "tmaze_4", seed=seed)
