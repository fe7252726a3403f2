import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import keras_agalite  # noqa: F401 - registers the id
from keras_agalite.environments import TMaze

pytestmark = pytest.mark.once

UP, DOWN, LEFT, RIGHT = range(4)


def gray_codes(bits):
    """All codes in order, by reflecting and prefixing."""
    codes = [[]]
    for _ in range(bits):
        codes = [[0, *c] for c in codes] + [[1, *c] for c in reversed(codes)]
    return np.array(codes)


def position_of(observation, bits=8):
    (matches,) = np.nonzero((gray_codes(bits) == observation[2 : 2 + bits]).all(1))
    return int(matches[0])


def test_gymnasium_finds_no_fault():
    check_env(gymnasium.make("keras_agalite/TMaze-v0").unwrapped)


@pytest.mark.parametrize(
    ("length", "bits"), [(2, 8), (200, 8), (256, 8), (257, 9), (513, 10)]
)
def test_positions_are_gray_codes(length, bits):
    env = TMaze(length, num_distractors=6)
    observation, _ = env.reset(seed=0)

    assert env.observation_space.shape == observation.shape == (2 + bits + 6,)
    for code in gray_codes(bits)[:length]:
        np.testing.assert_array_equal(observation[2:-6], code)
        observation, *_ = env.step(RIGHT)
    # The junction is the last position: going on stays there.
    np.testing.assert_array_equal(observation[2:-6], code)


def test_the_first_observation_shows_the_cue_alone():
    env, cues = TMaze(), set()
    for seed in range(20):
        observation, info = env.reset(seed=seed)
        cues.add(tuple(observation[:2]))
        assert observation.dtype == np.float32
        assert not observation[2:].any()
        assert info == {}
        for action in (LEFT, UP, RIGHT, DOWN):
            observation, *_ = env.step(action)
            assert not observation[:2].any()
            assert env.observation_space.contains(observation)

    assert cues == {(0.0, 1.0), (1.0, 0.0)}


def test_distractors_are_random_bits_after_the_first_step():
    env = TMaze(num_distractors=6)
    env.reset(seed=0)

    bits = np.array([env.step(UP)[0][-6:] for _ in range(2000)])

    assert set(np.unique(bits)) == {0.0, 1.0}
    np.testing.assert_allclose(bits.mean(0), 0.5, atol=0.05)
    np.testing.assert_allclose(np.corrcoef(bits.T), np.eye(6), atol=0.1)
    np.testing.assert_allclose((bits[1:] == bits[:-1]).mean(0), 0.5, atol=0.05)


def test_there_may_be_no_distractors():
    env = TMaze(num_distractors=0)

    observation, _ = env.reset(seed=0)

    assert observation.shape == (10,)
    assert env.step(RIGHT)[0].shape == (10,)


def test_moves_in_the_corridor():
    env, random, position = TMaze(5), np.random.default_rng(0), 0
    env.reset(seed=0)
    visited = set()
    for _ in range(300):
        action = int(random.integers(4))
        if position == 4:
            break
        position = max(position + {LEFT: -1, RIGHT: 1}.get(action, 0), 0)
        visited.add((action, position))

        observation, reward, terminated, truncated, info = env.step(action)

        assert position_of(observation) == position
        assert reward == -0.1
        assert not terminated
        assert not truncated
        assert info == {"success": False}
    assert {(LEFT, 0), (UP, 0), (DOWN, 1), (RIGHT, 4)} <= visited


@pytest.mark.parametrize("action", [LEFT, RIGHT])
def test_left_and_right_stay_at_the_junction(action):
    env = TMaze(3)
    env.reset(seed=0)
    for _ in range(2):
        env.step(RIGHT)

    observation, reward, terminated, truncated, info = env.step(action)

    assert (position_of(observation), reward, info) == (2, -0.1, {"success": False})
    assert not terminated
    assert not truncated


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("right_turn", [True, False])
def test_a_turn_at_the_junction_ends_the_episode(seed, right_turn):
    env = TMaze(4)
    observation, _ = env.reset(seed=seed)
    cue = {(0.0, 1.0): UP, (1.0, 0.0): DOWN}[tuple(observation[:2])]
    for _ in range(3):
        _, _, terminated, *_ = env.step(RIGHT)
        assert not terminated

    _, reward, terminated, truncated, info = env.step(
        cue if right_turn else UP + DOWN - cue
    )

    assert reward == (4.0 if right_turn else -1.0)
    assert terminated
    assert not truncated
    assert info == {"success": right_turn}


def test_a_thousand_steps_are_the_limit():
    env = gymnasium.make("keras_agalite/TMaze-v0", corridor_length=120)
    env.reset(seed=0)
    for _ in range(999):
        _, _, terminated, truncated, _ = env.step(LEFT)
        assert not terminated
        assert not truncated

    _, reward, terminated, truncated, _ = env.step(LEFT)

    assert (reward, terminated, truncated) == (-0.1, False, True)


def test_a_seed_decides_the_episodes():
    def episodes(seed):
        env = TMaze(3)
        result = [env.reset(seed=seed)[0]]
        for _ in range(5):
            result.extend(env.step(a)[0] for a in (RIGHT, RIGHT, UP))
            result.append(env.reset()[0])
        return np.array(result)

    np.testing.assert_array_equal(episodes(3), episodes(3))
    assert (episodes(3) != episodes(4)).any()


def test_rendering_shows_the_position_and_the_goal():
    env = TMaze(4, render_mode="ansi")
    observation, _ = env.reset(seed=0)
    env.step(RIGHT)

    goal = "up" if observation[1] else "down"
    assert env.render() == f".@..+  (goal: {goal})"


@pytest.mark.parametrize(
    "arguments",
    [
        {"corridor_length": 1},
        {"corridor_length": -3},
        {"corridor_length": 2.5},
        {"corridor_length": "10"},
        {"corridor_length": None},
        {"corridor_length": 2**40},
        {"num_distractors": -1},
        {"num_distractors": 1.5},
        {"num_distractors": "6"},
        {"num_distractors": 10**9},
    ],
    ids=str,
)
def test_bad_arguments_are_refused(arguments):
    ((name, value),) = arguments.items()

    with pytest.raises(
        ValueError, match=f"`{name}` must .* Received: {name}={value!r}"
    ):
        TMaze(**arguments)


@pytest.mark.parametrize("action", [4, -1, 1.0, None, "up", [0]], ids=str)
def test_bad_actions_are_refused(action):
    env = TMaze()
    env.reset(seed=0)

    with pytest.raises(ValueError, match=r"`action` must be .* Received: action="):
        env.step(action)


@pytest.mark.parametrize("action", [np.int64(3), np.int32(3), np.array(3)], ids=repr)
def test_numpy_actions_are_fine(action):
    env = TMaze()
    env.reset(seed=0)

    assert position_of(env.step(action)[0]) == 1


@pytest.mark.parametrize(
    "code",
    [
        "gymnasium.make('keras_agalite.environments:keras_agalite/TMaze-v0')",
        "import keras_agalite; gymnasium.make('keras_agalite/TMaze-v0')",
        "import keras_agalite.environments; gymnasium.make('keras_agalite/TMaze-v0')",
        "import keras_agalite, importlib; importlib.reload(keras_agalite.environments)",
    ],
    ids=["by_module", "package", "environments", "twice"],
)
def test_a_worker_makes_it_without_keras(code):
    check = (
        "heavy = {'keras', 'tensorflow', 'jax', 'torch', 'tf_keras', 'tf_agents'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    code = f"import sys, gymnasium\n{code}\n{check}"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_an_image_shows_where_the_agent_is_and_which_arm_is_right():
    env = TMaze(4, render_mode="rgb_array")
    env.reset(seed=0)
    red, green = (210, 60, 50), (80, 190, 90)

    def cell(row, column):
        return tuple(env.render()[24 * row + 12, 24 * column + 12])

    assert env.render().shape == (5 * 24, 6 * 24, 3)
    assert env.render().dtype == np.uint8
    assert cell(2, 1) == red
    assert cell(1 + 2 * env.goal, 4) == green
    assert cell(3 - 2 * env.goal, 4) == (230, 230, 230)
    for _ in range(3):
        env.step(3)
    assert cell(2, 4) == red
    env.step(env.goal)
    assert cell(1 + 2 * env.goal, 4) == red
