"""Released policies do what their evaluation says, on every backend alike."""

import json
from pathlib import Path

import pytest

from keras_agalite.environments.catalog import resolve
from training.__main__ import main
from training.envs.make import make_spaces
from training.learning.policy import make_policy
from training.recipe import Recipe, load_recipe
from training.release.cards import cards

ZOO = Path("zoo")
# A rounding error grows there: near walls of a maze, in physics, and where actions are
# drawn. No two machines play the same episodes.
CHAOTIC = (
    "craftax",
    "memory_maze",
    "mujoco_positions",
    "mystery_path",
    "popgym_noisy",
    "popgym_position_only_pendulum",
)
NAMES = sorted(
    path.parent.name
    for path in ZOO.glob("*/config.json")
    if not path.parent.name.startswith(CHAOTIC)
)


def marks(name):
    """Long episodes on every backend, where golden actions hold the others."""
    everywhere = name in ("tmaze_10", "hidden_goal_trials")
    once = () if everywhere else (pytest.mark.once,)
    if name == "vizdoom_two_colors":  # a minute and a half
        once = (*once, pytest.mark.slow)
    info, _ = resolve(load_recipe(ZOO / name / "recipe.toml").environment)
    needs = {info.requirement} - {None, "jax"}
    return (*once, *map(pytest.mark.environments, needs))


@pytest.mark.parametrize("name", [pytest.param(x, marks=marks(x)) for x in NAMES])
def test_a_released_policy_scores_what_it_says_seed_for_seed(name, tmp_path):
    released = json.loads((ZOO / name / "evaluation.json").read_text())
    try:
        make_spaces(load_recipe(ZOO / name / "recipe.toml"))
    except ImportError as error:
        pytest.skip(str(error))
    file = tmp_path / "evaluation.json"
    arguments = ["evaluate", name, "--seed", str(released["seed"]), "--episodes", "70"]
    assert main([*arguments, "--json", str(file)]) == 0
    result = json.loads(file.read_text())
    assert result["episodes"] == 70
    if "successes" in released:
        assert result["successes"] == released["successes"][:70]
    assert result["returns"] == pytest.approx(released["returns"][:70], abs=1e-6)


@pytest.mark.once
def test_sampled_episodes_repeat_with_their_seed(tmp_path):
    results = []
    for seed in ("3", "3", "4"):
        file = tmp_path / "evaluation.json"
        arguments = ["evaluate", "tmaze_10", "--episodes", "20", "--seed", seed]
        assert main([*arguments, "--sampled", "--json", str(file)]) == 0
        results.append(json.loads(file.read_text()))
    assert results[0] == results[1]
    assert results[0]["actions"] == "sampled"
    assert results[0]["seed"] != results[2]["seed"]


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("tmaze_10", 0.75),
        # It walks on for ever.
        pytest.param(
            "minigrid_memory_11", 0.0, marks=pytest.mark.environments("minigrid")
        ),
    ],
)
def test_a_memory_that_is_emptied_guesses(name, most, tmp_path, monkeypatch):
    """The score is the memory's: without it the same weights are at chance."""
    import keras_agalite

    act = keras_agalite.MemoryPolicy.act

    def forgetful(self, observation, state, *arguments, **keywords):
        empty = self.initial_state(len(observation))
        return act(self, observation, empty, *arguments, **keywords)[0], state

    monkeypatch.setattr(keras_agalite.MemoryPolicy, "act", forgetful)
    file = tmp_path / "evaluation.json"
    assert main(["evaluate", name, "--episodes", "60", "--json", str(file)]) == 0
    assert json.loads(file.read_text())["success_rate"] <= most


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "Expected the name of a released policy ("),
        (["tmaze_10", "--recipe", "nowhere.toml"], "Expected a recipe file"),
    ],
)
def test_what_it_refuses(arguments, message, capsys):
    assert main(["evaluate", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.once
def test_a_policy_that_sees_its_previous_action_is_filmed(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="matplotlib brings Pillow")
    from training.analysis.memory_panel import play
    from training.evaluation.video import write_video

    recipe = Recipe(
        name="small",
        environment="tmaze",
        environment_arguments={"corridor_length": 4, "max_episode_steps": 6},
        previous_action_reward=True,
        total_steps=1,
        memory="gru",
        memory_arguments={"hidden_dim": 8},
    )
    policy = make_policy(recipe, *make_spaces(recipe))
    write_video(policy, recipe, tmp_path / "episode.gif", 1, seed=0)
    with image.open(tmp_path / "episode.gif") as video:
        assert video.n_frames >= 2
    assert len(play(policy, recipe, seed=0).norms) <= 6


@pytest.mark.once
def test_a_video_holds_every_step(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="matplotlib brings Pillow")
    file = tmp_path / "episodes.gif"
    assert main(["video", "tmaze_10", str(file), "--episodes", "2"]) == 0
    with image.open(file) as video:
        size = video.size
        # Frames that do not change are held: at most 11 and a pause an episode.
        assert 20 <= video.n_frames <= 26
    part = ["--first", "2", "--last", "5", "--scale", "3", "--sampled"]
    corridor = ["--set", "environment_arguments.corridor_length=20"]
    assert main(["video", "tmaze_10", str(file), *part, *corridor]) == 0
    with image.open(file) as video:
        assert video.n_frames <= 3 + 2
        assert video.size[1] == 3 * size[1]


@pytest.mark.once
def test_cards_are_up_to_date():
    for path, text in cards(ZOO).items():
        assert path.read_text() == text, f"{path}: run python -m training cards"
