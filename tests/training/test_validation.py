"""The best policy of a run is chosen by episodes that are no policy's score."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import keras_agalite
from tests.training.processes import SMALL
from training.envs.make import make_spaces
from training.evaluation.validation import Validation
from training.learning.policy import make_policy
from training.recipe import Recipe
from training.runs.folder import open_folder, write_result

pytestmark = pytest.mark.once

RECIPE = dataclasses.replace(
    SMALL,
    environment="Pendulum-v1",
    environment_arguments={"max_episode_steps": 5},
    memory="memoryless",
    memory_arguments={"hidden_dim": 8},
    validation_interval=100,
    validation_episodes=4,
)


@pytest.fixture(scope="module")
def policy():
    return make_policy(RECIPE, *make_spaces(RECIPE))


def set_other_weights(policy, seed):
    random = np.random.default_rng(seed)
    policy.set_weights([random.normal(size=w.shape) for w in policy.get_weights()])


def score_of(policy, seed, deterministic=True):
    arguments = RECIPE.environment_arguments
    result = keras_agalite.evaluate(
        policy, "Pendulum-v1", 4, seed,
        deterministic=deterministic, environment_arguments=arguments,
    )  # fmt: skip
    return result["mean_return"]


def test_the_best_policy_is_kept(policy, tmp_path):
    validation, scores = Validation(RECIPE), []
    assert validation.arrays() == {}
    for seed in range(4):
        set_other_weights(policy, seed)
        metrics = validation.run(policy, 100 * seed)
        scores.append(metrics["validation_mean_return"])
        assert scores[-1] == score_of(policy, RECIPE.validation_seed)
        assert metrics["validation_mean_length"] == 5.0
    assert len(set(scores)) == 4
    best = int(np.argmax(scores))
    assert validation.best.step == 100 * best
    set_other_weights(policy, best)
    for a, b in zip(policy.get_weights(), validation.best.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    # Of two that are as good, the later one.
    validation.run(policy, 500)
    assert validation.best.step == 500

    # A checkpoint holds it, among other arrays.
    np.savez(tmp_path / "a.npz", other=1, **validation.arrays())
    restored = Validation(RECIPE)
    with np.load(tmp_path / "a.npz") as arrays:
        restored.restore({name: arrays[name] for name in arrays.files})
    assert restored.best.scores == validation.best.scores
    assert restored.best.step == 500
    for a, b in zip(restored.best.weights, validation.best.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    fresh = Validation(RECIPE)
    fresh.restore({"other": np.ones(1)})
    assert fresh.best is None


def test_the_preset_is_the_best_and_the_last_lies_beside_it(policy, tmp_path):
    validation = Validation(RECIPE)
    set_other_weights(policy, 1)
    validation.run(policy, 100)
    set_other_weights(policy, 2)
    open_folder(RECIPE, tmp_path)

    result = write_result(policy, RECIPE, tmp_path, 400, validation)

    for name, seed in (("preset", 1), ("preset_last", 2)):
        kept = keras_agalite.MemoryPolicy.from_preset(tmp_path / name)
        set_other_weights(policy, seed)
        for a, b in zip(kept.get_weights(), policy.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
        assert (tmp_path / name / "recipe.toml").is_file()
    assert result == json.loads((tmp_path / "evaluation.json").read_text())
    chosen, best = result["validation"], validation.best
    assert chosen["step"] == 100
    set_other_weights(policy, 1)
    sampled = score_of(policy, RECIPE.validation_seed, deterministic=False)
    expected = "sampled" if sampled > best.scores["mean_return"] else "greedy"
    assert result["actions"] == chosen["actions"] == expected
    assert chosen["mean_return"] == max(sampled, best.scores["mean_return"])
    assert result["trained_steps"] == 400


def test_it_is_due_at_each_interval_and_at_the_end():
    recipe = dataclasses.replace(RECIPE, total_steps=1000, validation_interval=300)
    validation = Validation(recipe)
    steps = range(0, 1120, 80)
    due = [step + 80 for step in steps if validation.is_due(step, step + 80)]
    assert due == [320, 640, 960, 1040, 1120]
    never = Validation(dataclasses.replace(recipe, validation_interval=0))
    assert not any(never.is_due(step, step + 80) for step in steps)


@pytest.mark.parametrize("seed", [RECIPE.evaluation_seed, RECIPE.evaluation_seed - 1])
def test_seeds_that_choose_do_not_score(seed):
    with pytest.raises(ValueError, match="`validation_seed` must be such that no"):
        dataclasses.replace(RECIPE, validation_seed=seed)
    dataclasses.replace(RECIPE, validation_seed=seed, validation_interval=0)
    below = RECIPE.evaluation_seed - RECIPE.validation_episodes
    dataclasses.replace(RECIPE, validation_seed=below)


def test_no_card_uses_the_seeds_that_choose():
    first = Recipe.validation_seed
    for file in Path("zoo").glob("*/evaluation*.json"):
        card = json.loads(file.read_text())
        assert card["seed"] + card["episodes"] <= first, file
