import dataclasses
import datetime
import math
import subprocess
import sys
from pathlib import Path

import pytest

from training.recipe import load_recipe

pytestmark = pytest.mark.once

RECIPES = sorted(Path("training/recipes").glob("*.toml"))


@pytest.fixture
def recipe_file(tmp_path):
    file = tmp_path / "small.toml"
    file.write_text('environment = "keras_agalite/TMaze-v0"\ntotal_steps = 100\n')
    return file


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_of_the_project_load_and_write_themselves(path, tmp_path):
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    copy = tmp_path / "copy.toml"
    copy.write_text(recipe.to_toml())
    assert load_recipe(copy) == recipe


def test_there_are_recipes():
    assert "tmaze_10" in [path.stem for path in RECIPES]


def test_overrides_are_toml_or_text(recipe_file):
    recipe = load_recipe(
        recipe_file,
        [
            "seed=3",
            "learning_rate=1",
            "memory=gru",
            "memory_arguments={hidden_dim = 8}",
            "environment_arguments.corridor_length=20",
            "anneal_learning_rate=true",
        ],
    )
    assert (recipe.name, recipe.seed, recipe.memory) == ("small", 3, "gru")
    assert recipe.learning_rate == 1.0
    assert isinstance(recipe.learning_rate, float)
    assert recipe.memory_arguments == {"hidden_dim": 8}
    assert recipe.environment_arguments == {"corridor_length": 20}
    assert recipe.anneal_learning_rate is True


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learning_rte=1", "learning_rte"),
        ("num_minibatches=5", "`num_minibatches` must be a divisor"),
        ("discount=1.5", r"`discount` must be between 0 and 1. Received: discount=1.5"),
        ("total_steps=0", "`total_steps` must be greater than 0"),
        ("total_steps=1.5", "`total_steps` must be of type int"),
        ("seed=-1", "`seed` must be 0 or greater"),
        ("seed=true", "`seed` must be of type int"),
        ("teacher_coefficient=1", '`engine` must be "jax" with a teacher'),
        ("policy_coefficient=0.5", '`engine` must be "jax" .* or a policy_coefficient'),
        ("auxiliary_coefficient=1", '`engine` must be "jax" .* an auxiliary_coeff'),
        ("auxiliary_coefficient=-1", "`auxiliary_coefficient` must be 0 or greater"),
        ("teacher_share=0.5", "`teacher_share` must be 0 where teacher_coeff"),
        ("teacher_coefficient=-1", "`teacher_coefficient` must be 0 or greater"),
        ("engine=jux", "`engine` must be one of"),
        ("encoder_arguments=7", "`encoder_arguments` must be a table"),
        ("sequence_length=1", "`sequence_length` must be greater than 1"),
        ("seed", "Expected --set key=value"),
        ("total_steps.x=1", "Expected a table for `total_steps`"),
        ("name=../up", "`name` must be no path. Received: name='../up'"),
        ("name=.", "`name` must be no path"),
        ('name="a\\u0000b"', "`name` must be no path"),
        ("seed=4294967296", "`seed` must be at most 4294967295"),
        ("evaluation_seed=4294967295", "`evaluation_seed` must be at most 4294967096"),
        ("total_steps=1180591620717411303424", "`total_steps` must be at most"),
        ("num_epochs=1180591620717411303424", "`num_epochs` must be at most"),
        ("learning_rate=inf", "`learning_rate` must be finite"),
        ("learning_rate=nan", "`learning_rate` must be finite"),
        ("learning_rate=-1", "`learning_rate` must be greater than 0"),
        ("entropy_coefficient=nan", "`entropy_coefficient` must be finite"),
        ("discount=nan", "`discount` must be finite"),
        (f"discount=1{400 * '0'}", "`discount` must be of type float"),
        ("stagger_episodes=true", "`stagger_episodes` must be false where `engine`"),
        ("worker_timeout=0", "`worker_timeout` must be greater than 0"),
        ("worker_timeout=nan", "`worker_timeout` must be greater than 0"),
        ("policy=7", "`policy` must be of type str"),
        ("policy=tmaze_one", r"Expected the name of a policy of the zoo: tmaze_<"),
    ],
)
def test_an_unknown_key_or_impossible_value_is_named(recipe_file, override, message):
    with pytest.raises(ValueError, match=message):
        load_recipe(recipe_file, [override])


@pytest.mark.parametrize(
    "value",
    [
        'a "b" \\ c',
        "line\nbreak\ttab\x7f\x1b",
        "и ü 🧠",
        {"two words": {"к.y": 1}, "plain": [True, 2**70, 0.5]},
        datetime.datetime(2026, 1, 2, 3, 4, 5),
        datetime.time(3, 4),
        float("inf"),
    ],
    ids=str,
)
def test_a_recipe_that_is_written_can_be_read(value, recipe_file, tmp_path):
    recipe = dataclasses.replace(
        load_recipe(recipe_file), environment_arguments={"x": value, "a b": value}
    )
    copy = tmp_path / "small.toml"
    copy.write_text(recipe.to_toml(), "utf-8")
    assert load_recipe(copy) == recipe


def test_names_may_have_blanks_and_any_letters(recipe_file):
    for name in ("with blanks", "ü и", "a.b", "-"):
        assert load_recipe(recipe_file, [f'name="{name}"']).name == name


def test_a_worker_may_be_waited_for_for_ever(recipe_file):
    assert load_recipe(recipe_file, ["worker_timeout=inf"]).worker_timeout == math.inf


def test_a_missing_file_key_or_broken_toml_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="Expected a recipe file"):
        load_recipe(tmp_path / "none.toml")
    file = tmp_path / "broken.toml"
    file.write_text("total_steps = 5\n")
    with pytest.raises(ValueError, match="environment"):
        load_recipe(file)
    file.write_text("total_steps = = 5\n")
    with pytest.raises(ValueError, match="Expected TOML"):
        load_recipe(file)


def test_reading_a_recipe_does_not_import_keras(recipe_file):
    """Keras reads its backend, which the engine decides, when it is imported."""
    script = f"""
import sys
from training.envs import make
from training.recipe import load_recipe
load_recipe({str(recipe_file)!r})
assert not {{"keras", "jax", "tensorflow", "torch"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
