"""The engine that learns from recordings, on every backend."""

import dataclasses
import json
import shutil

import gymnasium
import keras
import numpy as np
import pytest
from keras import ops

from keras_agalite import MemoryPolicy
from keras_agalite import __main__ as library
from keras_agalite.models import Policy
from tests.helpers import BACKEND
from tests.models.conftest import randomise
from training.__main__ import main
from training.analysis.results import finished_runs
from training.engines import offline, train
from training.learning.imitation import LearningRate, distinct_images
from training.recipe import Recipe
from training.recordings.record import record
from training.recordings.writer import RecordingWriter
from training.runs.progress import read_curve

pytestmark = pytest.mark.usefixtures("quick_compilation")

LENGTH = 8
SMALL = Recipe(
    name="small",
    engine="offline",
    environment="passive_tmaze",
    environment_arguments={"corridor_length": LENGTH - 2},
    recordings="set by the fixture",
    memory="gru",
    memory_arguments={"hidden_dim": 16},
    head_units=16,
    total_steps=40 * 16 * LENGTH,
    sequence_length=LENGTH,
    batch_size=16,
    batches_per_iteration=10,
    learning_rate=1e-2,
    max_gradient_norm=1.0,
    checkpoint_interval=10 * 16 * LENGTH,
    evaluation_episodes=10,
)
TRANSFORMER = {
    "memory": "rate",
    "memory_arguments": {
        "segment_length": LENGTH // 2,
        "num_layers": 1,
        "hidden_dim": 8,
        "num_heads": 2,
        "head_dim": 4,
        "intermediate_dim": 8,
        "memory_tokens": 2,
        "dropout": 0.1,
    },
    "policy_arguments": {"target_return": 1.0},
}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings") / "passive_tmaze"
    player = "training.recordings.players:PassiveTMazePlayer"
    arguments = {**SMALL.environment_arguments, "random_length": True}
    record("passive_tmaze", folder, player, 60, 0, arguments)
    return str(folder)


@pytest.fixture
def small(recordings):
    return dataclasses.replace(SMALL, recordings=recordings)


def curve_rows(run_dir):
    return read_curve(run_dir / "curve.jsonl")


def arrays_of(run_dir, step):
    with np.load(run_dir / "checkpoints" / f"step_{step:012}.npz") as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.mark.process
def test_a_memory_learns_what_is_recorded(small, tmp_path):
    recipe = dataclasses.replace(
        small, total_steps=80 * 16 * LENGTH, validation_interval=20 * 16 * LENGTH
    )

    result = train(recipe, tmp_path / "run")

    assert result["success_rate"] == 1.0
    rows = curve_rows(tmp_path / "run")
    validated = [row.get("validation_success_rate") for row in rows]
    assert [x is None for x in validated] == [True, False] * 4
    assert validated[-1] == 1.0
    assert rows[-1]["loss"] < 0.1 < rows[0]["loss"]
    policy = MemoryPolicy.from_preset(tmp_path / "run" / "preset_last")
    saved = arrays_of(tmp_path / "run", recipe.total_steps)
    for i, variable in enumerate(policy.trainable_variables):
        np.testing.assert_array_equal(variable.numpy(), saved[f"weights/{i:04}"])


@pytest.mark.process
def test_a_policy_that_is_told_no_return_learns_as_well(small, tmp_path):
    arguments = {
        "segment_length": LENGTH // 2,
        "num_layers": 1,
        "hidden_dim": 8,
        "intermediate_dim": 8,
        "action_tokens": False,
    }
    changes = {"memory": "elmur", "memory_arguments": arguments}
    recipe = dataclasses.replace(
        small, **changes, total_steps=20 * 16 * LENGTH, evaluation_episodes=1
    )

    train(recipe, tmp_path / "run")

    first, *_, last = [row["loss"] for row in curve_rows(tmp_path / "run")]
    assert last < first
    assert Policy.from_preset(tmp_path / "run" / "preset").target_return is None


@pytest.mark.process
def test_a_resumed_run_repeats_the_one_that_was_not_stopped(small, tmp_path):
    # TensorFlow takes long to compile a transformer.
    changes = {} if BACKEND == "tensorflow" else TRANSFORMER
    recipe = dataclasses.replace(small, **changes)
    whole, half = tmp_path / "whole", tmp_path / "half"
    train(recipe, whole)
    middle = recipe.total_steps // 2
    shutil.copytree(whole, half)
    (half / "evaluation.json").unlink()
    for step in range(middle, recipe.total_steps, recipe.checkpoint_interval):
        (
            half / "checkpoints" / f"step_{step + recipe.checkpoint_interval:012}.npz"
        ).unlink()

    train(recipe, half)

    one, other = (arrays_of(x, recipe.total_steps) for x in (whole, half))
    assert set(one) == set(other)
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)
    losses = [[row["loss"] for row in curve_rows(x)] for x in (whole, half)]
    assert losses[0] == losses[1]
    policy = Policy.from_preset(half / "preset")
    assert not changes or policy.segment_length == LENGTH // 2
    assert json.loads((half / "evaluation.json").read_text())["environment"]


@pytest.mark.process
def test_frozen_weights_stay_and_are_saved(small, tmp_path):
    """SHERL's merge, with crossed heads and skipped blocks besides."""
    sizes = {"num_layers": 2, "hidden_dim": 8, "num_heads": 2, "head_dim": 4}
    arguments = {**sizes, "intermediate_dim": 8, "memory_length": 4}
    recipe = dataclasses.replace(
        small, memory="gtrxl", memory_arguments=arguments, batches_per_iteration=2
    )
    preset = tmp_path / "preset"
    offline.Run(recipe, tmp_path / "first").policy.save_to_preset(preset)
    tuned = {"initial_preset": str(preset), "fine_tune": "sherl"}
    crossed = {"cross_heads": 1.0, "skip_blocks": 1.0}
    run = offline.Run(
        dataclasses.replace(recipe, **tuned, **crossed), tmp_path / "second"
    )
    assert run.learner.crossing.draw(0)["order"].shape == (2, 2)
    before = run.arrays()

    metrics, _, _ = run.iterate()()

    after, frozen = run.arrays(), [name for name in before if "frozen" in name]
    assert np.isfinite(metrics["loss"])
    assert len(frozen) == len(run.policy.weights) - len(run.policy.trainable_weights)
    for name in frozen:
        np.testing.assert_array_equal(before[name], after[name])
    assert any((before[k] != after[k]).any() for k in before if "weights/" in k)


def test_the_loss_is_the_mean_over_recorded_steps(small, tmp_path):
    run = offline.Run(small, tmp_path / "run")
    batch = run.segments.batch(3)
    out, _ = run.policy(batch.observation)
    logits = np.asarray(keras.ops.convert_to_numpy(out.logits), np.float64)
    each = [
        np.log(np.exp(row).sum()) - row[action]
        for row, action in zip(
            logits[batch.mask], batch.action[batch.mask], strict=True
        )
    ]
    assert 0 < batch.mask.sum() < batch.mask.size

    found = run.learner.update(batch, 3)

    loss = float(keras.ops.convert_to_numpy(found["loss"]))
    assert loss == pytest.approx(np.mean(each), rel=1e-5)
    run.close()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Recordings of four images that come again and again."""
    folder = tmp_path_factory.mktemp("recordings") / "images"
    rng = np.random.default_rng(0)
    seen = rng.integers(4, size=(4, 3, 3, 2), dtype=np.uint8)
    space = gymnasium.spaces.Box(0, 255, seen.shape[1:], np.uint8)
    with RecordingWriter(folder, space, gymnasium.spaces.Discrete(3)) as writer:
        for length in (5, 8, 3):
            episode = seen[rng.integers(4, size=length + 1)]
            actions = rng.integers(3, size=length)
            writer.add(episode, actions, np.zeros(length), terminated=True)
    return str(folder)


@pytest.mark.process
def test_equal_images_are_encoded_once(images, tmp_path):
    recipe = dataclasses.replace(
        SMALL,
        environment="",
        environment_arguments={},
        recordings=images,
        encoder="grid",
        encoder_arguments={"categories": [4, 4], "units": 8},
        batch_size=4,
        adam_epsilon=1.0,  # the step is nearly the gradient
    )
    found, after, seen = [], [], []
    for once in (True, False):
        run = offline.Run(recipe, tmp_path / str(once))
        randomise(run.policy)
        run.learner.encodes_once &= once
        batch = run.segments.batch(0)
        seen.append(run.learner.inputs(batch, 0)["observation"])
        metrics = run.learner.update(batch, 0)
        found.append({k: float(ops.convert_to_numpy(x)) for k, x in metrics.items()})
        after.append(run.arrays())
        run.close()

    assert seen[0].shape == (4, 3, 3, 2)  # one of each, an eighth of the steps
    assert seen[1].shape == (4, LENGTH, 3, 3, 2)
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert found[0]["gradient_norm"] > 0.1
    for name, array in after[0].items():
        np.testing.assert_allclose(array, after[1][name], atol=1e-6)


@pytest.mark.once
@pytest.mark.parametrize("number", [1, 3, 5, 9])
def test_distinct_images(number):
    rng = np.random.default_rng(number)
    images = rng.integers(256, size=(number, 2, 2, 1), dtype=np.uint8)
    places = np.append(np.arange(number), rng.integers(number, size=24 - number))
    batch = images[places].reshape(3, 8, 2, 2, 1)

    distinct, which = distinct_images(batch)

    assert len(distinct) == -(-number // 3) * 3
    np.testing.assert_array_equal(distinct[:number], images)
    np.testing.assert_array_equal(distinct[which], batch)


def test_a_step_is_adamw_s(small, tmp_path):
    recipe = dataclasses.replace(small, weight_decay=0.1, warmup_batches=4)
    run = offline.Run(recipe, tmp_path / "run")
    randomise(run.policy)  # at first, hardly a gradient passes the actor's last layer
    before = run.arrays()

    run.learner.update(run.segments.batch(0), 0)

    rate, after, moved = recipe.learning_rate / 4, run.arrays(), 0
    for i in range(len(run.learner.variables)):
        name = f"weights/{i:04}"
        # The first step of Adam has one size, wherever there is a gradient.
        change = after[name] - before[name] * (1 - rate * recipe.weight_decay)
        size = np.abs(change)
        assert size.max() <= rate * 1.01
        moved += (size > rate * 0.9).sum()
    assert moved > 500
    run.close()


def test_the_learning_rate(small):
    recipe = dataclasses.replace(
        small, learning_rate=2.0, warmup_batches=4, anneal_learning_rate=True
    )
    rates = [
        float(keras.ops.convert_to_numpy(LearningRate(recipe)(i))) for i in range(41)
    ]
    np.testing.assert_allclose(rates[:5], [0.5, 1.0, 1.5, 2.0, 2.0], rtol=1e-6)
    np.testing.assert_allclose(rates[22], 2.0 * 18 / 36, rtol=1e-6)
    assert rates[40] == 0.0
    constant = LearningRate(dataclasses.replace(small, learning_rate=2.0))
    assert float(keras.ops.convert_to_numpy(constant(10**6))) == 2.0


@pytest.mark.once
def test_a_log_is_enough(small, tmp_path, capsys):
    run_dir = tmp_path / "run"
    recipe = dataclasses.replace(
        small, environment="", environment_arguments={}, total_steps=10 * 16 * LENGTH
    )
    result = train(recipe, run_dir)
    assert result == {"environment": "", "episodes": 0, "trained_steps": 1280}
    assert train(recipe, run_dir) == result
    assert MemoryPolicy.from_preset(run_dir / "preset").action_space.n == 4
    for command in (["evaluate"], ["play"]):
        assert library.main([*command, str(run_dir / "preset")]) == 2
        assert "Expected --environment: the policy learnt" in capsys.readouterr().err
    preset = str(run_dir / "preset")
    assert main(["video", preset, str(tmp_path / "x.gif")]) == 2
    assert "A video needs a recipe with an environment" in capsys.readouterr().err
    assert main(["evaluate", preset]) == 2
    assert "the recipe has no environment" in capsys.readouterr().err
    with pytest.raises(ValueError, match="whose recipe has no environment"):
        finished_runs([run_dir])
    for change in ({"validation_interval": 1}, {"engine": "jax", "recordings": ""}):
        with pytest.raises(ValueError, match="without an environment"):
            dataclasses.replace(recipe, **change)


@pytest.mark.once
def test_a_sequence_is_no_longer_than_a_window(small, tmp_path):
    arguments = {**TRANSFORMER["memory_arguments"], "segment_length": LENGTH - 1}
    del arguments["memory_tokens"]
    window = {"memory": "decision_transformer", "memory_arguments": arguments}
    with pytest.raises(ValueError, match=r"`sequence_length` must be at most 7.*=8"):
        train(dataclasses.replace(small, **window), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.once
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("recordings=nowhere", "Expected a folder of recordings"),
        ('recordings=""', "`recordings` must be a folder with the engine"),
        ('engine="jax"', "and empty with another"),
        ("environment=tmaze", "alone as in the recordings"),
        ("memory=nope", "nope"),
        ("memory_arguments={nope=1}", "with nope"),
        ("policy_arguments={target_return=1.0}", "`previous_reward`"),
        ("batch_size=0", "`batch_size` must be greater than 0"),
        ("normalize_observations=true", "false with the engine"),
        ("warmup_batches=-1", "`warmup_batches` must be 0 or greater"),
        ("scale_rewards=true", "which learns from no rewards"),
        ("policy_arguments={normalize_observations=true}", "counts none"),
    ],
)
def test_what_cannot_be_learnt_is_refused(small, tmp_path, change, message, capsys):
    file = tmp_path / "small.toml"
    file.write_text(small.to_toml())
    run_dir = ["--run-dir", str(tmp_path / "run")]
    assert main(["train", str(file), *run_dir, "--set", change]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
