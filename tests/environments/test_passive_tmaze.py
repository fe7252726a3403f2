"""Passive T-Maze: both forms against cells and walls, and the teacher."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from keras_agalite import environments
from keras_agalite.environments import PassiveTMaze

pytestmark = pytest.mark.once

RIGHT, UP, LEFT, DOWN = range(4)
MOVES = {RIGHT: (1, 0), UP: (0, 1), LEFT: (-1, 0), DOWN: (0, -1)}


def make(functional, length):
    if not functional:
        return environments.make(f"passive_tmaze_{length}")
    pytest.importorskip("jax")
    make_functional = environments.functional.make_functional
    return environments.functional.FunctionalSingleEnv(
        make_functional(f"passive_tmaze_{length}")
    )


@pytest.mark.parametrize("functional", [False, True], ids=["gymnasium", "functional"])
@pytest.mark.parametrize("length", [1, 4])
def test_it_is_a_walk_between_walls(functional, length):
    env, random = make(functional, length), np.random.default_rng(length)
    cells = {(x, 0) for x in range(length + 1)} | {(length, 1), (length, -1)}
    noise, hints, rewards, lengths = set(), set(), set(), set()
    for seed in range(25):
        observation, _ = env.reset(seed=seed)
        place, hint = (0, 0), int(observation[1])
        np.testing.assert_array_equal(observation[:3], [0, hint, 0])
        for step in range(1, length + 3):
            noise.add(float(observation[3]))
            action = int(random.choice(4, p=[0.6, 0.15, 0.1, 0.15]))
            there = tuple(np.add(place, MOVES[action]))
            place = there if there in cells else place
            observation, reward, terminated, truncated, info = env.step(action)
            assert env.observation_space.contains(observation)
            np.testing.assert_array_equal(
                observation[:3], [place[1], 0, place[0] == length]
            )
            assert reward == (place[1] == hint)
            assert info == {"success": place[1] == hint}
            assert terminated == (place[1] != 0 or step == length + 2)
            assert not truncated
            if terminated:
                break
        hints.add(hint)
        rewards.add(reward)
        lengths.add(step)
    assert noise == {-1.0, 0.0, 1.0}
    assert hints == {1, -1}
    assert rewards == {0.0, 1.0}
    assert {length + 1, length + 2} <= lengths


@pytest.mark.parametrize("functional", [False, True], ids=["gymnasium", "functional"])
def test_lengths_are_drawn_evenly(functional):
    arguments = {"corridor_length": 3, "random_length": True}
    if functional:
        pytest.importorskip("jax")
        vector = environments.functional.FunctionalVectorEnv(
            environments.functional.PassiveTMaze(**arguments), 300
        )
        vector.reset(seed=0)
        lengths = np.asarray(vector.carry[1].state.length)
    else:
        env = PassiveTMaze(**arguments)
        lengths = np.array([env.reset(seed=i) and env.length for i in range(300)])

    counts = np.bincount(lengths, minlength=4)
    assert counts[0] == 0
    assert len(counts) == 4
    assert (counts[1:] > 75).all()


def test_the_teacher_succeeds_in_one_step_more_than_the_corridor_has():
    jax = pytest.importorskip("jax")
    env = environments.functional.PassiveTMaze(5, random_length=True)
    states = environments.functional.reset_envs(
        env, jax.random.split(jax.random.key(0), 20)
    )
    length, hint = states.state.length, states.state.hint
    target = jax.vmap(lambda state: env.teacher_targets(state, ()))(states.state)
    np.testing.assert_array_equal(target.flags[:, 0], hint == 1)
    ended = np.zeros(20, int)
    for step in range(1, 7):
        actions, _ = jax.vmap(env.teacher_action)(states.state, (), states.start)
        keys = jax.random.split(jax.random.key(step), 20)
        states, transition = environments.functional.step_envs(
            env, keys, states, actions
        )
        first = np.asarray(transition.terminated) & (ended == 0)
        assert np.asarray(transition.info["success"])[first].all()
        ended[first] = step
    np.testing.assert_array_equal(ended, length + 1)


def test_gymnasium_finds_no_fault():
    check_env(gymnasium.make("keras_agalite/PassiveTMaze-v0").unwrapped)


def test_the_time_limit_is_the_task_s_own():
    assert gymnasium.spec("keras_agalite/PassiveTMaze-v0").max_episode_steps is None
    env = environments.make("passive_tmaze_1200")
    env.reset(seed=0)
    steps = 1
    while not env.step(LEFT)[2]:
        steps += 1
    assert steps == 1202


def test_frames_have_one_size_and_show_the_arms():
    env = PassiveTMaze(4, random_length=True, render_mode="rgb_array")
    text = PassiveTMaze(4, random_length=True, render_mode="ansi")
    lengths = set()
    for seed in range(12):
        for one in (env, text):
            one.reset(seed=seed)
            for _ in range(one.length):
                one.step(RIGHT)
        goal = "up" if text.hint > 0 else "down"
        assert text.render() == "." * text.length + f"@+  (goal: {goal})"
        env.step(UP if env.hint > 0 else DOWN)
        image, row = env.render(), 1 if env.hint > 0 else 3
        assert image.shape == (5 * 24, 7 * 24, 3)
        place = image[24 * row + 12, 24 * (1 + env.length) + 12]
        np.testing.assert_array_equal(place, (210, 60, 50))
        lengths.add(env.length)
    assert lengths == {1, 2, 3, 4}


@pytest.mark.parametrize(
    "arguments",
    [
        {"corridor_length": 0},
        {"corridor_length": 2.5},
        {"corridor_length": True},
        {"random_length": 1},
        {"render_mode": "human"},
    ],
    ids=str,
)
def test_bad_arguments_are_refused(arguments):
    ((name, value),) = arguments.items()
    with pytest.raises(
        ValueError, match=f"`{name}` must .* Received: {name}={value!r}"
    ):
        PassiveTMaze(**arguments)
