"""Trials in gymnasium's and in functional form, and the tasks that they are of."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from keras_agalite import environments
from keras_agalite.environments import PreviousActionReward, TMaze, Trial
from keras_agalite.zoo import specs

jax = pytest.importorskip("jax")

from keras_agalite.environments import functional  # noqa: E402
from keras_agalite.environments.functional import TaskFamily, point_mass  # noqa: E402

pytestmark = pytest.mark.once
jnp = jax.numpy

LENGTH = 5


class Guess(TaskFamily):
    """Guess a number from 0 to 2; the right one ends the episode."""

    max_episode_steps = LENGTH
    observation_space = spaces.Box(0.0, 10.0, (1,), np.float32)
    action_space = spaces.Discrete(3)

    def draw_task(self, key):
        return jax.random.randint(key, (), 0, 3)

    def begin(self, key, task):
        return {"task": task, "time": jnp.int32(0)}

    def step(self, key, state, action):
        right = action == state["task"]
        reward = jnp.where(right, 1.0, -0.5)
        return {**state, "time": state["time"] + 1}, reward, right, {"right": right}

    def observe(self, state):
        return state["time"].astype(jnp.float32)[None]


class PlainGuess(gymnasium.Env):
    """The same for gymnasium."""

    observation_space, action_space = Guess.observation_space, Guess.action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(3))
        self.task = (options or {}).get("task", drawn)
        self.time = 0
        return np.zeros(1, np.float32), {"task": self.task}

    def step(self, action):
        self.time += 1
        right = bool(action == self.task)
        observation = np.array([self.time], np.float32)
        return observation, 1.0 if right else -0.5, right, False, {"right": right}


def plain_trial(num_episodes=3):
    return Trial(gymnasium.wrappers.TimeLimit(PlainGuess(), LENGTH), num_episodes)


def equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
        assert np.asarray(one[name]).dtype == other[name].dtype == np.float32


def test_both_forms_are_one():
    env, plain = functional.Trial(Guess(), 3), plain_trial()
    assert env.observation_space == plain.observation_space
    assert env.max_episode_steps == 15
    step, random, lengths = jax.jit(env.step), np.random.default_rng(0), set()
    for trial in range(6):
        state = env.reset(jax.random.key(trial))
        task = int(state.task)
        observation, info = plain.reset(options={"task": task})
        assert info == {"task": task}
        equal(env.observe(state), observation)
        over, steps, ends = False, 0, 0
        while not over:
            action = random.choice([task, (task + 1) % 3, (task + 2) % 3], p=PS[trial])
            key = jax.random.key(steps)
            state, reward, terminated, more = step(key, state, jnp.int32(action))
            observation, expected, over, truncated, info = plain.step(action)
            assert (float(reward), bool(terminated)) == (expected, over)
            assert not truncated
            assert bool(more["right"]) == info["right"]
            assert int(state.task) == task
            assert env.observation_space.contains(observation)
            equal(env.observe(state), observation)
            assert observation["previous_reward"] == expected
            assert observation["previous_action"].argmax() == action
            if observation["previous_end"] and not over:
                assert observation["observation"] == 0  # the first of the next episode
            ends += int(observation["previous_end"][0])
            steps += 1
        assert ends == 3
        lengths.add(steps)
    assert min(lengths) == 3  # three right guesses
    assert max(lengths) == 15  # none


# Mostly right, sometimes, never: episodes end in both ways.
PS = [(1, 0, 0), (0, 0.5, 0.5), *[(0.2, 0.4, 0.4)] * 4]


def test_a_memory_is_emptied_once_a_trial():
    vector = functional.FunctionalVectorEnv(functional.Trial(Guess(), 3), 4)
    vector.reset(seed=0)
    ends, starts, tasks = [], [], []
    for _ in range(40):
        _, states, _ = vector.carry
        starts.append(np.asarray(states.start))
        tasks.append(np.asarray(states.state.task))
        observation, *_ = vector.step(vector.action_space.sample())
        ends.append(observation["previous_end"][:, 0])
    starts, tasks = np.array(starts), np.array(tasks)
    changed = np.diff(tasks, axis=0) != 0
    assert starts[0].all()
    assert changed.any()
    assert not changed[~starts[1:]].any()  # another task begins with a start alone
    assert 3 * starts.sum() - 12 <= np.sum(ends) <= 3 * starts.sum()


def test_the_direction_of_a_point_mass_is_paid():
    env = functional.PointMass("direction")
    state = env.begin(None, jnp.float32(np.pi / 2))
    action = jnp.array([0.5, 3.0])  # clipped to (0.5, 1)

    state, reward, terminated, _ = env.step(None, state, action)

    np.testing.assert_allclose(state.velocity, [0.25, 0.5])
    np.testing.assert_allclose(reward, 0.5 - 0.05 * 1.25, rtol=1e-5)
    assert not terminated
    for _ in range(60):
        state, *_ = env.step(None, state, jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(state.velocity, [0.0, point_mass.FASTEST], atol=1e-5)


def test_the_speed_of_a_point_mass_is_paid():
    env = functional.PointMass("speed")
    state = env.begin(None, jnp.float32(1.5))

    state, reward, *_ = env.step(None, state, jnp.array([0.0, -1.0]))

    np.testing.assert_allclose(reward, -1.0 - 0.05, rtol=1e-5)
    drawn = jax.vmap(env.draw_task)(jax.random.split(jax.random.key(0), 500))
    assert 0.0 <= drawn.min() < 0.1
    assert 1.9 < drawn.max() <= 2.0


@pytest.mark.parametrize("size", [3, 5])
def test_a_goal_is_any_cell_but_four_around_the_corner(size):
    env = functional.HiddenGoal(size)
    drawn = jax.vmap(env.draw_task)(jax.random.split(jax.random.key(0), 2000))
    found, counts = np.unique(np.asarray(drawn), axis=0, return_counts=True)
    cells = {(x, y) for x in range(size) for y in range(size)}

    assert set(map(tuple, found)) == cells - {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert counts.min() > 0.6 * counts.mean()


def test_a_step_onto_the_goal_is_paid():
    env = functional.HiddenGoal()
    state = env.begin(None, jnp.array([2, 1]))
    rewards, shown = [], []
    for action in (3, 4, 2, 2, 1, 0, 1):  # down and left are walls there
        state, reward, *_ = env.step(None, state, action)
        rewards.append(float(reward))
        shown.append(np.asarray(env.observe(state)).reshape(2, 5).argmax(1).tolist())

    np.testing.assert_allclose(rewards, [-0.1] * 4 + [1.0, 1.0, -0.1], rtol=1e-6)
    assert shown == [[0, 0], [0, 0], [1, 0], [2, 0], [2, 1], [2, 1], [2, 2]]


def test_gymnasium_makes_trials_by_name():
    env = environments.make("hidden_goal_trials", num_episodes=2)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    lengths = [0]
    while True:
        observation, _, terminated, truncated, _ = env.step(0)
        lengths[-1] += 1
        if terminated:
            break
        if observation["previous_end"]:
            lengths.append(0)
    assert lengths == [15, 15]
    assert not truncated


@pytest.mark.parametrize("family", specs.FAMILIES)
def test_the_families_have_the_spaces_of_the_zoo(family):
    spec = specs.find_spec(f"{family}_trials")
    env = functional.make_functional(spec.environment)
    assert env.observation_space == spec.observation_space
    assert env.action_space == spec.action_space


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: functional.Trial(functional.TMaze()), "must be a TaskFamily.*TMaze"),
        (lambda: functional.Trial(Guess(), 0), "Received: num_episodes=0"),
        (lambda: plain_trial(0), "Received: num_episodes=0"),
        (lambda: Trial(plain_trial()), "Received: keys="),
        (lambda: Trial(PreviousActionReward(TMaze())), "Received: keys="),
        (lambda: Trial(TMaze()).reset(), "Expected an environment that reports"),
        (lambda: functional.PointMass("mass"), "Received: hidden='mass'"),
        (lambda: functional.HiddenGoal(2), "Received: size=2"),
    ],
)
def test_what_cannot_be_a_trial_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
