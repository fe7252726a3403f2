"""The TF-Agents engine: what a run writes, and that it repeats itself."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

import keras_agalite
from tests.training.processes import (
    MEASURED,
    SMALL,
    check_the_choice,
    curve_rows,
    curve_steps,
    run_killed_at_random,
)
from training.__main__ import main
from training.engines.tf_agents import Run
from training.learning.rewards import initial_reward_scale
from training.recipe import Recipe

# For what is the same with any memory.
SOON_TRACED = dataclasses.replace(
    SMALL, memory="gru", memory_arguments={"hidden_dim": 8}
)


@pytest.fixture
def recipe_file(tmp_path):
    file = tmp_path / "small.toml"
    file.write_text(SMALL.to_toml())
    return str(file)


def test_a_run_writes_what_the_docs_say_and_is_continued(tmp_path, capfd):
    file, run = tmp_path / "small.toml", tmp_path / "run"
    file.write_text(dataclasses.replace(SOON_TRACED, jit_compile=True).to_toml())
    arguments = ["train", str(file), "--run-dir", str(run)]
    assert main([*arguments, "--video"]) == 0
    for name in (
        "episodes.gif",
        "machine.json",
        "recipe.toml",
        "curve.jsonl",
        "learning_curve.png",
        "evaluation.json",
        "preset/config.json",
        "preset/model.weights.h5",
        "preset/recipe.toml",
        "checkpoints/step_000000000400.npz",
    ):
        assert (run / name).stat().st_size > 0, name
    assert list((run / "tensorboard").glob("events*"))
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert evaluation["episodes"] == 8
    assert 0.0 <= evaluation["success_rate"] <= 1.0
    assert evaluation["trained_steps"] == 400
    policy = keras_agalite.MemoryPolicy.from_preset(run / "preset")
    assert policy.memory.cell_config["hidden_dim"] == 8
    steps = curve_steps(run)
    assert steps == list(range(40, 401, 40))
    assert "steps/s" in capfd.readouterr().out

    assert main([*arguments, "--set", "total_steps=480"]) == 0
    steps = curve_steps(run)
    assert steps == list(range(40, 481, 40))
    assert main([*arguments, "--set", "learning_rate=0.1"]) == 2
    assert "changed ['learning_rate']" in capfd.readouterr().err


@pytest.mark.process
def test_a_resumed_run_repeats_the_one_that_was_not_stopped(tmp_path):
    recipe = dataclasses.replace(SMALL, **MEASURED)
    whole = Run(recipe, tmp_path / "whole")
    whole.train()

    stopped = Run(recipe, tmp_path / "stopped")

    class StopError(RuntimeError):
        pass

    iterate, count = stopped.iterate, iter(range(5))

    def until_stopped(*arguments):
        if next(count, None) is None:
            raise StopError
        return iterate(*arguments)

    stopped.iterate = until_stopped
    with pytest.raises(StopError):
        stopped.train()
    stopped.close()
    assert stopped.step == 200
    resumed = Run(recipe, tmp_path / "stopped")
    assert resumed.step == 120
    resumed.train()
    assert resumed.step == 400
    for a, b in zip(
        whole.policy.get_weights(), resumed.policy.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(
        *(tf.nest.flatten(x.reward_scale) for x in (whole, resumed)), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert float(whole.reward_scale.moments.count) > 300
    assert curve_rows(whole) == curve_rows(resumed)
    assert check_the_choice(resumed, tmp_path / "stopped") == [160, 320, 400]


@pytest.mark.process
def test_what_was_collected_is_counted_in(tmp_path):
    """Observations and discounted returns, against plain NumPy."""
    run = Run(dataclasses.replace(SMALL, **MEASURED), tmp_path)
    run.begin_episodes()
    run.iterate()
    x = tf.nest.map_structure(lambda y: y.numpy(), run.buffer.gather_all())
    valid, start = x.step_type != 2, x.step_type == 0

    assert not valid.all()
    count, mean, variance = run.policy.normalizer.get_weights()
    rows = x.observation[valid]
    assert count == valid.sum()
    np.testing.assert_allclose(mean, rows.mean(0), 1e-4, 1e-5)
    np.testing.assert_allclose(variance, rows.var(0), 1e-4, 1e-5)
    total, totals = np.zeros(len(x.reward)), []
    for t in range(x.reward.shape[1]):
        total = SMALL.discount * np.where(start[:, t], 0, total) + x.reward[:, t]
        totals += total[valid[:, t]].tolist()
    scale = run.reward_scale
    np.testing.assert_allclose(scale.returns, total, 1e-4)
    np.testing.assert_allclose(scale.moments.variance, [np.var(totals)], 1e-4)
    batch, _ = run._scale_and_prepare(
        run.buffer.gather_all(), run.time_step, run.state, initial_reward_scale(4)
    )
    np.testing.assert_allclose(batch.reward, x.reward / np.std(totals), 1e-4, 1e-6)


@pytest.mark.process
def test_a_killed_run_ends_with_the_same_weights(tmp_path):
    recipe = dataclasses.replace(
        SOON_TRACED, total_steps=2400, checkpoint_interval=200, **MEASURED
    )
    run_killed_at_random(tmp_path, recipe, kills=3)


@pytest.mark.slow
def test_a_run_killed_many_times_ends_with_the_same_weights(tmp_path):
    recipe = dataclasses.replace(SMALL, total_steps=24_000, checkpoint_interval=400)
    run_killed_at_random(tmp_path, recipe, kills=25)


def test_another_seed_is_another_run(tmp_path):
    weights = []
    for seed in (0, 1):
        recipe = dataclasses.replace(SMALL, seed=seed, total_steps=40)
        run = Run(recipe, tmp_path / str(seed))
        weights.append(run.policy.get_weights()[0])
    assert np.abs(weights[0] - weights[1]).max() > 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("environment=Nowhere-v0", "`environment` cannot be made"),
        ("environment_arguments.size=3", "`environment` cannot be made"),
        ("memory_arguments.heads=3", "`memory_arguments` must be those of AGaLiTe"),
        ("encoder=conv", "exactly one image"),
        ("head_activation=wobble", "wobble"),
    ],
)
def test_what_cannot_be_built_is_an_error_of_one_line(
    recipe_file, tmp_path, capfd, override, message
):
    arguments = ["train", recipe_file, "--run-dir", str(tmp_path / "run")]
    assert main([*arguments, "--set", override]) == 2
    error = capfd.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


LEARNABLE = {
    "total_steps": 15_360,
    "environment_arguments": {"corridor_length": 3},
    "num_environments": 16,
    "sequence_length": 32,
    "num_epochs": 4,
    "num_minibatches": 4,
    "learning_rate": 5e-3,
    "checkpoint_interval": 100_000,
    "evaluation_episodes": 100,
}


@pytest.mark.process
@pytest.mark.parametrize("memory", ["gru", "memoryless"])
def test_learning_needs_a_memory(tmp_path, memory):
    recipe = Recipe(
        name="learn",
        environment="keras_agalite/TMaze-v0",
        memory=memory,
        memory_arguments={"hidden_dim": 32},
        **LEARNABLE,
    )
    run = Run(recipe, tmp_path)
    run.train()
    success = run.finish()["success_rate"]
    assert success >= 0.95 if memory == "gru" else success <= 0.65


@pytest.mark.parametrize("jit_compile", [True, False])
def test_xla_compiles_if_the_recipe_says_so(tmp_path, jit_compile):
    run = Run(dataclasses.replace(SMALL, jit_compile=jit_compile), tmp_path)
    compiled = getattr(run.agent._compute_gradients, "_jit_compile", False)
    assert compiled == jit_compile
    run.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tmaze_10", "tmaze_10_memoryless"])
def test_the_main_recipe(tmp_path, name):
    """What the README says of the two recipes: about two minutes each."""
    arguments = ["train", f"training/recipes/{name}.toml", "--run-dir", str(tmp_path)]
    assert main(arguments) == 0
    success = json.loads((tmp_path / "evaluation.json").read_text())["success_rate"]
    assert success >= 0.95 if name == "tmaze_10" else success <= 0.60
