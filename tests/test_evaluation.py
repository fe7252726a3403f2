"""The one play loop: every kind of environment gives the same episodes."""

import json

import gymnasium
import keras
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import keras_agalite
from keras_agalite import evaluation
from keras_agalite.__main__ import main
from keras_agalite.environments import PreviousActionReward, functional, make
from training.__main__ import main as training

SEEDS = range(5, 12)


class Repeat(gymnasium.Env):
    """The reward is the observation; the seed says how long an episode is.

    It reports success in episodes of an even length alone.
    """

    observation_space = spaces.Box(-100.0, 100.0, (2,), np.float32)
    action_space = spaces.Discrete(3, start=2)

    def __init__(self, reward=0.0, thing=None):
        self.more = reward

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.length, self.steps = int(self.np_random.integers(2, 9)), 0
        return self._observe(), {}

    def step(self, action):
        assert action in self.action_space
        reward, self.last = float(self._observe()[0]) + self.more, action
        self.steps += 1
        over = self.steps == self.length
        info = {"success": self.length > 4} if over and self.length % 2 == 0 else {}
        return self._observe(), reward, over, False, info

    def _observe(self):
        return np.array([self.steps, self.length], np.float32)


@pytest.fixture(scope="module")
def remembers():
    """A policy that sees its previous action and reward, with fresh weights."""
    space = PreviousActionReward(Repeat()).observation_space
    return keras_agalite.MemoryPolicy(
        keras_agalite.MLPEncoder(space), keras_agalite.GRU(8), Repeat.action_space
    )


@pytest.fixture(scope="module")
def tmaze():
    return keras_agalite.MemoryPolicy.from_preset("tmaze_10")


def by_hand(policy, seed):
    """An episode in the wrapped environment, and what the policy saw."""
    env, seen = PreviousActionReward(Repeat()), []
    observation, _ = env.reset(seed=seed)
    state, total, over, info = policy.initial_state(1), 0.0, False, {}
    while not over:
        one = {key: part[None] for key, part in observation.items()}
        seen.append(one)
        action, state = policy.act(one, state, deterministic=True)
        observation, reward, over, _, info = env.step(action[0])
        total += reward
    return (seed, total, len(seen), info.get("success")), seen


def vectors():
    modes = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP
    return [SyncVectorEnv([Repeat] * 3, autoreset_mode=mode) for mode in modes]


@pytest.mark.parametrize(
    "env",
    [Repeat(), PreviousActionReward(Repeat()), *vectors()],
    ids=["single", "wrapped", "next step", "same step"],
)
def test_episodes_are_those_of_the_environment(remembers, env):
    played = keras_agalite.rollout(remembers, env, len(SEEDS), SEEDS[0])

    assert played == [by_hand(remembers, seed)[0] for seed in SEEDS]
    assert {episode.success for episode in played} >= {None, True}


def test_a_callback_sees_every_step(remembers):
    steps = []
    (episode,) = keras_agalite.rollout(
        remembers, Repeat(), seed=7, on_step=steps.append
    )

    expected, seen = by_hand(remembers, 7)
    assert episode == expected
    assert steps[0].action is steps[0].reward is None
    for step, observation in zip(steps[:-1], seen, strict=True):
        assert set(step.observation) == set(observation)
        for key, part in observation.items():
            np.testing.assert_array_equal(step.observation[key], part)
    assert sum(step.reward[0] for step in steps[1:]) == episode.total_reward
    assert [bool(step.running[0]) for step in steps] == [True] * len(seen) + [False]


def test_an_environment_that_is_given_stays_open(remembers):
    env = Repeat()
    env.close = lambda: pytest.fail("closed")
    keras_agalite.rollout(remembers, env)


@pytest.mark.once
def test_a_functional_environment_is_the_single_one(tmaze):
    pytest.importorskip("jax")
    env = functional.make_functional("tmaze_10")
    many = functional.FunctionalVectorEnv(env, 4)
    one = functional.FunctionalSingleEnv(env)

    played = keras_agalite.rollout(tmaze, many, 6, seed=3)

    assert played == keras_agalite.rollout(tmaze, one, 6, seed=3)
    assert all(episode.success for episode in played)


def test_drawn_actions_repeat_with_their_generator(tmaze):
    def play(policy, **keywords):
        return keras_agalite.rollout(
            policy, "tmaze_10", 8, deterministic=False, **keywords
        )

    one, same = (play(tmaze, rng=np.random.default_rng(0)) for _ in range(2))
    assert one == same == play(tmaze)
    random = play(None)
    assert random == play(None) != play(None, rng=np.random.default_rng(1))
    assert {episode.success for episode in random} == {False, True}


@pytest.mark.once
def test_an_episode_without_end_is_told(remembers, monkeypatch):
    monkeypatch.setattr(evaluation, "LONG", 4)
    with pytest.warns(UserWarning, match="has not ended after 4 steps") as told:
        lengths = [
            e.length for e in keras_agalite.rollout(remembers, Repeat(), 6, seed=5)
        ]
    assert len(told) == sum(length > 4 for length in lengths)


@pytest.mark.once
def test_an_episode_may_be_left(tmaze):
    (episode,) = keras_agalite.rollout(tmaze, make("tmaze_10"), max_steps=4)
    assert (episode.length, episode.success) == (4, None)


@pytest.mark.once
def test_vectors_that_refuse_a_list_of_seeds_are_played_one_by_one():
    played = keras_agalite.rollout(None, "CartPole-v1", 3, seed=7)
    assert [episode.seed for episode in played] == [7, 8, 9]
    assert all(episode.length == episode.total_reward for episode in played)
    with pytest.raises(ValueError, match="`env` must take a list of seeds"):
        keras_agalite.rollout(None, gymnasium.make_vec("CartPole-v1", 2), 2)


@pytest.mark.parametrize(
    ("env", "keywords", "message"),
    [
        ("tmaze_10", {"episodes": 0}, "`episodes` must be at least 1. Rec.*episodes=0"),
        ("tmaze_10", {"num_envs": 0}, "`num_envs` must be at least 1"),
        ("tmaze_10", {"max_steps": 0}, "`max_steps` must be at least 1"),
        ("tmaze_10", {"episodes": 2.5}, "`episodes` must be a whole .*episodes=2.5"),
        ("tmaze_10", {"seed": None}, "`seed` must be a whole number.*seed=None"),
        ("tmaze_10", {"max_steps": "3"}, "`max_steps` must be a whole number.*'3'"),
        ("tmaze_10", {"rng": 3}, "`rng` must be a numpy.random.Generator.*rng=3"),
        (Repeat(reward=np.nan), {}, "whose sum is finite.*return nan.*with seed 0"),
        (Repeat(reward=1e308), {}, "whose sum is finite.*return inf.*with seed 0"),
        ("a:b:c", {}, "`env` cannot be made.*'a:b:c'"),
        ("nowhere", {}, "`env` cannot be made. Received: env='nowhere'"),
        ("tmaze_10", {"environment_arguments": {"x": 1}}, "cannot be made.*'x': 1"),
        (Repeat(), {"environment_arguments": {"x": 1}}, "an environment that is named"),
        ("CartPole-v1", {}, r"must take the policy's actions, Discrete\(4\)"),
        (7, {}, "`env` must be a name.*Received: env=7"),
        (
            SyncVectorEnv([Repeat], autoreset_mode=AutoresetMode.DISABLED),
            {},
            "`env` must reset itself",
        ),
    ],
)
def test_what_it_refuses(tmaze, env, keywords, message):
    policy = None if isinstance(env, Repeat) else tmaze
    with pytest.raises(ValueError, match=message):
        keras_agalite.rollout(policy, env, **keywords)


@pytest.mark.once
@pytest.mark.parametrize("policy", ["tmaze_10", keras.Sequential()])
def test_what_is_no_policy_is_refused(policy):
    with pytest.raises(ValueError, match="`policy` must be a policy, as MemoryPolicy"):
        keras_agalite.rollout(policy, "tmaze_10")


@pytest.mark.once
def test_an_evaluation_is_json_whatever_it_is_asked_with():
    gymnasium.register("Repeat-v0", Repeat)
    try:
        env = gymnasium.make("Repeat-v0", thing=np.float32)
        result = keras_agalite.evaluate(None, env, np.int64(2), np.uint32(3))
    finally:
        del gymnasium.registry["Repeat-v0"]
    assert json.loads(json.dumps(result)) == result
    assert (result["episodes"], result["seed"]) == (2, 3)
    assert result["environment_arguments"] == {"thing": "<class 'numpy.float32'>"}


@pytest.mark.once
def test_an_evaluation_is_what_training_and_the_command_measure(tmaze, tmp_path):
    files = [tmp_path / "training.json", tmp_path / "library.json"]
    arguments = ["evaluate", "tmaze_10", "--episodes", "70", "--json"]
    for command, file in zip((training, main), files, strict=True):
        assert command([*arguments, str(file)]) == 0
    first, second = (json.loads(file.read_text()) for file in files)

    result = keras_agalite.evaluate(
        tmaze,
        "keras_agalite/TMaze-v0",
        70,
        environment_arguments=first["environment_arguments"],
    )

    assert result == first == {**second, "environment": first["environment"]}


def test_an_evaluation_describes_the_environment_it_is_given(remembers):
    result = keras_agalite.evaluate(remembers, Repeat(), 4)
    assert (result["environment"], result["environment_arguments"]) == ("Repeat", {})
    assert "success_rate" not in result  # not all episodes reported it
    assert len(result["returns"]) == 4
    result = keras_agalite.evaluate(None, make("tmaze_10"), 1)
    assert result["environment"] == "keras_agalite/TMaze-v0"
    assert result["environment_arguments"]["corridor_length"] == 10
    assert (result["std_return"], result["actions"]) == (None, "random")


@pytest.mark.once
def test_the_command_plays_and_lists(capsys):
    assert main(["play", "tmaze_10", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    assert "step   10   action" in out
    assert "success: True" in out
    assert main(["list", "--released"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["policy", "memory", "weights", "environment", "score"]
    assert any(line.startswith("tmaze_10 ") for line in lines)


@pytest.mark.once
def test_the_command_shows_a_window(monkeypatch):
    pytest.importorskip("pygame", exc_type=ImportError)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    assert main(["play", "tmaze_10", "--render"]) == 0


@pytest.mark.once
def test_a_machine_without_a_screen_is_told(monkeypatch, capsys):
    pygame = pytest.importorskip("pygame", exc_type=ImportError)
    pygame.quit()  # or the window of another test is still there
    monkeypatch.setenv("SDL_VIDEODRIVER", "nonesuch")
    assert main(["play", "tmaze_10", "--render"]) == 2
    assert "window=True: nonesuch not available" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["play", "nowhere"], "Expected the name of a released policy"),
        (["evaluate", "tmaze_10", "--environment", "nowhere"], "cannot be made"),
    ],
)
def test_what_the_command_refuses(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
