"""Exports act like their policies, step for step, in processes without Keras."""

import importlib
import json
import os
import subprocess
import sys
from functools import cache, partial
from pathlib import Path

import keras
import numpy as np
import pytest
from gymnasium import spaces
from keras import tree

from keras_agalite import RATE, MemoryPolicy, ResNetEncoder
from keras_agalite.export import export_policy
from keras_agalite.export.formats import FORMATS
from keras_agalite.export.process import main as export_process
from keras_agalite.export.step import Step, write
from keras_agalite.layers import MEMORIES, MemoryRNN
from keras_agalite.layers.block_cell import BlockCell
from keras_agalite.models import MLPEncoder
from tests.helpers import BACKEND
from tests.memories import TINY
from tests.models.conftest import (
    ACTION_SPACES,
    NESTED,
    OBSERVATION_SPACES,
    VECTOR,
    make_policy,
    randomise,
)
from training.__main__ import main

ROOT = Path(__file__).parents[2]
OWN = [name for name, form in FORMATS.items() if form.backend == BACKEND]
FOREIGN = {"jax": "litert", "tensorflow": "onnx", "torch": "saved_model"}[BACKEND]
PYTHON = os.environ.get(f"EXPORT_PYTHON_{FORMATS[FOREIGN].backend.upper()}", "")
needs_python = pytest.mark.skipif(
    not Path(PYTHON).is_file(),
    reason="EXPORT_PYTHON_TORCH and _TENSORFLOW name the interpreters (see Makefile)",
)


def image_policy():
    """It also normalises the parts that are floats."""
    policy = make_policy(
        "agalite",
        NESTED,
        ACTION_SPACES["box"],
        ResNetEncoder,
        normalize=True,
        units=4,
        filters=(4,),
    )
    randomise(policy, scale=0.3)
    return policy


def vector_policy(part):
    """Every second cell of most kinds; GaLiTe's reads where its normaliser is zero.

    AGaLiTe and the memory of places have policies of their own.
    """
    cells = [
        keras.layers.LSTMCell(4),  # first, since it adds up what others round
        keras.layers.GRUCell(5),
        *(
            memory.cell_class(**{**TINY[name], "num_layers": 1})
            for name, memory in MEMORIES.items()
            if name not in ("agalite", "spatial")
            and issubclass(getattr(memory, "cell_class", object), BlockCell)
        ),
    ]
    action_space = ACTION_SPACES["discrete_from_2"]
    memory = MemoryRNN(cells[part::2])
    policy = MemoryPolicy(MLPEncoder(VECTOR), memory, action_space, 8)
    randomise(policy)
    return policy


def place_policy():
    """A memory that reads a place from the observation."""
    space = spaces.Dict({"place_id": spaces.Discrete(3), "view": VECTOR})
    memory = MEMORIES["spatial"](**TINY["spatial"])
    policy = MemoryPolicy(MLPEncoder(space), memory, spaces.Discrete(2), 8)
    randomise(policy)
    return policy


def masked_policy():
    """Every kind of space that is not in the others."""
    space = spaces.Dict(
        {
            "action_mask": spaces.Box(0, 1, (5,), np.int8),
            "hand": OBSERVATION_SPACES["tuple"],
            "room": OBSERVATION_SPACES["multi_discrete_of_two_axes"],
        }
    )
    policy = make_policy("gru", space, ACTION_SPACES["multi_discrete_from"])
    randomise(policy)
    return policy


def channels_first_policy():
    space = spaces.Box(0.0, 255.0, (3, 7, 6), np.float32)
    policy = make_policy(
        "gru",
        space,
        ACTION_SPACES["multi_binary"],
        ResNetEncoder,
        units=4,
        filters=(4,),
    )
    randomise(policy, scale=0.3)
    return policy


def offline_policy():
    """Memory tokens, a cache and returns to go; segments end on the way."""
    policy = RATE(
        MLPEncoder(VECTOR),
        ACTION_SPACES["multi_discrete"],
        segment_length=3,
        num_layers=2,
        hidden_dim=8,
        num_heads=2,
        head_dim=4,
        intermediate_dim=6,
        memory_tokens=2,
        cache_length=5,
        target_return=1.0,
    )
    randomise(policy, scale=0.3)
    return policy


def sample(policy, seed):
    """A random observation, in whose mask some actions are not legal."""
    observation = policy.sample_observation(2, seed)
    if policy.mask_sizes:
        flags = np.random.default_rng(seed).integers(2, size=(2, 5))
        flags[:, [0, 3]] = 1
        observation["action_mask"] = flags.astype(np.int8)
    return observation


@pytest.fixture
def one_trace(monkeypatch):
    """A policy is traced once, for both formats of its backend."""
    owner = importlib.import_module(f"keras_agalite.export._{BACKEND}")
    trace = owner._trace
    cached = cache(lambda policy: trace(Step(policy)))
    monkeypatch.setattr(owner, "_trace", lambda step: cached(step.policy))


def check_acts_alike(policy, folders, tmp_path, python=sys.executable, steps=1000):
    """Runs each export on what the policy saw, and compares all that it gives."""
    step, random = Step(policy), np.random.default_rng(0)
    observations = [sample(policy, seed=t) for t in range(steps)]
    starts = random.random((steps, 2)) < 0.02
    starts[0] = True
    expected = {}
    state = policy.initial_state(2)
    for observation, start in zip(observations, starts, strict=True):
        logits, value, state = policy.step(observation, state, start)
        names = [f"next_{x.name}" for x in step.states]
        now = dict(zip(names, tree.flatten(state), strict=True))
        now |= (
            {"logits": logits} if value is None else {"logits": logits, "value": value}
        )
        for name, x in now.items():
            expected.setdefault(name, []).append(keras.ops.convert_to_numpy(x))
    leaves = zip(*(tree.flatten(x) for x in observations), strict=True)
    names = [x.name for x in step.observations]
    arrays = dict(zip(names, map(np.stack, leaves), strict=True))
    np.savez(tmp_path / "inputs.npz", start=starts, **arrays)
    files = [str(tmp_path / name) for name in ("inputs.npz", "outputs.npz")]
    script = str(Path(__file__).with_name("run_export.py"))
    for folder in folders:
        # PyTorch takes a `.pt2` operation by operation, which is slow.
        taken = steps // 5 if folder.name == "pt2" else steps
        run_without_keras([python, script, str(folder), *files, str(taken)])
        received = np.load(files[1])
        for name, rows in expected.items():
            told = f"{name} of {folder.name}"
            np.testing.assert_allclose(
                received[name], rows[:taken], 1e-4, 1e-4, err_msg=told
            )
        logits = received["logits"]
        modes = np.stack([policy.actor.numpy_mode(x) for x in logits])
        assert received["action"].dtype == modes.dtype
        np.testing.assert_allclose(received["action"], modes, atol=1e-6)


@pytest.mark.skipif(BACKEND != "torch", reason="others export it")
def test_torch_refuses_a_memory_of_places(tmp_path):
    with pytest.raises(ValueError, match=r"a size depends .* memory=SpatialMemory"):
        write(place_policy(), tmp_path / "export", "onnx")


def run_without_keras(command, cwd=None):
    run = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.process
@pytest.mark.skipif(not OWN, reason="JAX owns no format")
@pytest.mark.parametrize(
    "make",
    [
        *(pytest.param(partial(vector_policy, i), id=f"vector_{i}") for i in (0, 1)),
        pytest.param(
            place_policy,
            marks=pytest.mark.skipif(BACKEND == "torch", reason="it refuses it"),
        ),
        image_policy,
        masked_policy,
        channels_first_policy,
        offline_policy,
    ],
)
def test_an_export_acts_like_its_policy_for_1000_steps(make, one_trace, tmp_path):
    policy, folders = make(), [tmp_path / format for format in OWN]
    for format, folder in zip(OWN, folders, strict=True):
        write(policy, folder, format)
    check_acts_alike(policy, folders, tmp_path)


@pytest.mark.process
@needs_python
def test_another_backends_format_is_written_by_its_process(tmp_path):
    policy = make_policy("agalite")
    randomise(policy)

    file = policy.export(tmp_path / "new" / "export", FOREIGN, PYTHON)

    assert file == tmp_path / "new" / "export" / FORMATS[FOREIGN].file
    assert [x.name for x in file.parent.parent.iterdir()] == ["export"]
    check_acts_alike(policy, [file.parent], tmp_path, PYTHON)


def test_what_the_file_beside_an_export_says(tmp_path):
    if not OWN:
        pytest.skip("JAX owns no format")
    write(make_policy("lstm"), tmp_path / "export", OWN[-1])
    description = json.loads((tmp_path / "export" / "export.json").read_text())
    sizes = {x["name"]: (x["shape"], x["dtype"]) for x in description["inputs"]}
    assert sizes == {
        "observation": (["batch", 3], "float32"),
        "start": (["batch"], "bool"),
        "state_0": (["batch", 5], "float32"),
        "state_1": (["batch", 5], "float32"),
    }
    sizes = {x["name"]: (x["shape"], x["dtype"]) for x in description["outputs"]}
    assert sizes == {
        "action": (["batch"], "int64"),
        "logits": (["batch", 3], "float32"),
        "value": (["batch"], "float32"),
        "next_state_0": (["batch", 5], "float32"),
        "next_state_1": (["batch", 5], "float32"),
    }
    assert description["next_state"]["state_1"] == "next_state_1"


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "onyx"}, "a format of onnx, pt2.*Received: format='onyx'"),
        ({"path": "taken"}, "a folder that does not exist. Received: .*taken"),
    ],
)
def test_bad_arguments_are_refused(arguments, message, tmp_path):
    (tmp_path / "taken").mkdir()
    path = tmp_path / arguments.pop("path", "new")
    with pytest.raises(ValueError, match=message):
        export_policy("tmaze_10", path, **arguments)
    assert [x.name for x in tmp_path.iterdir()] == ["taken"]


@pytest.mark.process
@needs_python
def test_an_error_of_the_process_is_told_and_leaves_nothing(tmp_path, capsys):
    output = ["--output", str(tmp_path / "new"), "--python", PYTHON]
    assert main(["export", "nope", "--format", FOREIGN, *output]) == 2
    assert "error: Expected the name of a released policy" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_are_named(tmp_path, capsys):
    absent = "saved_model" if BACKEND == "torch" else "pt2"
    assert export_process("tmaze_10", str(tmp_path / "new"), absent) == 2
    error = json.loads(capsys.readouterr().out)
    assert error["type"] == "ImportError"
    assert f'pip install "keras-agalite[{FORMATS[absent].extra}]"' in error["message"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.process
def test_a_process_that_fails_is_an_error(tmp_path):
    with pytest.raises(ChildProcessError, match="exit code 1"):
        export_policy("tmaze_10", tmp_path / "new", "onnx", "/bin/false")
    assert list(tmp_path.iterdir()) == []


def test_policies_that_cannot_be_exported_are_refused():
    with pytest.raises(ValueError, match=r"dtype float32.*mixed_bfloat16"):
        Step(make_policy(dtype="mixed_bfloat16"))
    part = spaces.Discrete(2)
    twice = spaces.Dict({"a b": part, "a_b": part})
    with pytest.raises(ValueError, match=r"stay different.*observation_a_b"):
        Step(make_policy(space=twice))
