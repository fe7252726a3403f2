"""Checkpoints: whole or not at all, the last ones kept, damaged ones skipped."""

import os

import numpy as np
import pytest

from training.runs.checkpoints import Checkpoints

ARRAYS = {
    "weights": np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32),
    "start": np.array([True, False]),
    "['nested'].iteration": np.int32(7),
}


def test_what_is_saved_is_restored(tmp_path):
    checkpoints = Checkpoints(tmp_path / "new" / "folder", kept=2)
    assert checkpoints.restore() is None
    for step in (5, 10, 100):
        checkpoints.save(step, {**ARRAYS, "step": np.int64(step)})
    assert checkpoints.steps() == [10, 100]
    step, arrays = Checkpoints(tmp_path / "new" / "folder", kept=2).restore()
    assert step == arrays["step"] == 100
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype


@pytest.mark.parametrize("damage", ["truncated", "flipped", "emptied", "text"])
def test_a_damaged_checkpoint_is_skipped_with_a_warning(tmp_path, damage):
    checkpoints = Checkpoints(tmp_path, kept=3)
    checkpoints.save(1, ARRAYS)
    checkpoints.save(2, ARRAYS)
    newest = tmp_path / "step_000000000002.npz"
    content = bytearray(newest.read_bytes())
    if damage == "flipped":
        content[300] ^= 0xFF
    newest.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "flipped": content,
            "emptied": b"",
            "text": b"not a checkpoint",
        }[damage]
    )
    with pytest.warns(UserWarning, match=r"step_000000000002.npz is damaged"):
        step, arrays = checkpoints.restore()
    assert step == 1
    np.testing.assert_array_equal(arrays["weights"], ARRAYS["weights"])


def test_a_full_disk_names_the_file_and_leaves_the_last_checkpoint(
    tmp_path, monkeypatch
):
    checkpoints = Checkpoints(tmp_path, kept=1)
    checkpoints.save(1, ARRAYS)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"step_000000000002.npz.*No space left"):
        checkpoints.save(2, ARRAYS)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["step_000000000001.npz"]
    assert checkpoints.restore()[0] == 1


def test_what_a_killed_run_left_half_written_is_not_read(tmp_path):
    checkpoints = Checkpoints(tmp_path, kept=3)
    checkpoints.save(1, ARRAYS)
    (tmp_path / "step_000000000002.part").write_bytes(b"PK half")
    assert checkpoints.restore()[0] == 1
