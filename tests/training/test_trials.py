"""Returns by episode of a trial, from finished runs and by a command."""

import json

import numpy as np
import pytest

import keras_agalite
from keras_agalite import environments, zoo
from training.__main__ import main
from training.analysis.trials import episode_returns
from training.recipe import load_recipe

pytest.importorskip("jax")
pytestmark = pytest.mark.once

RECIPE = "training/recipes/hidden_goal_trials.toml"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that pretends to be finished."""
    folder = tmp_path_factory.mktemp("run")
    recipe = load_recipe(RECIPE, ["memory=gru", "evaluation_episodes=3"])
    (folder / "recipe.toml").write_text(recipe.to_toml())
    (folder / "evaluation.json").write_text("{}")
    policy = zoo.trials_policy(memory="gru", weights=None)
    policy.save_to_preset(folder / "preset")
    return folder


def test_the_returns_are_those_of_the_episodes(run):
    policy = keras_agalite.MemoryPolicy.from_preset(run / "preset")
    recipe = load_recipe(run / "recipe.toml")
    seed = recipe.evaluation_seed

    found = episode_returns(policy, recipe, 3)

    env, expected = environments.make("hidden_goal_trials"), []
    for trial in range(3):
        observation, _ = env.reset(seed=seed + trial)
        state, over = policy.initial_state(1), False
        expected.append([0.0])
        while not over:
            one = {name: part[None] for name, part in observation.items()}
            action, state = policy.act(one, state, deterministic=True)
            observation, reward, over, *_ = env.step(action[0])
            expected[-1][-1] += reward
            if observation["previous_end"] and not over:
                expected[-1].append(0.0)
    assert found.shape == (3, 4)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_runs_are_compared_episode_by_episode(run, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    file, plot = tmp_path / "trials.json", tmp_path / "trials.png"
    arguments = ["trials", str(run), "--trials", "2", "--sampled"]
    assert main([*arguments, "--json", str(file), "--plot", str(plot)]) == 0
    out = capsys.readouterr().out
    assert "| memory | seeds | 1 | 2 | 3 | 4 |" in out
    assert "| gru | 1 | " in out
    assert plot.read_bytes().startswith(b"\x89PNG")
    (result,) = json.loads(file.read_text())
    assert result["task"] == "hidden_goal_trials"
    assert set(result["groups"]) == {"gru", "random"}
    group = result["groups"]["gru"]
    assert group["value"] == group["scores"][0]
    assert all(-1.5001 <= value <= 15.0 for value in group["value"])


def test_an_environment_without_trials_is_refused():
    recipe = load_recipe("training/recipes/tmaze_10.toml")
    with pytest.raises(ValueError, match=r"episodes are trials.*Received: .*'tmaze'"):
        episode_returns(None, recipe, 1)
