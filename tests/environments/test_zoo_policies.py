"""The zoo's policies in their real environments, on the running backend."""

import numpy as np
import pytest

from keras_agalite import zoo
from keras_agalite.environments import registry

CASES = {
    "tmaze_10": (zoo.tmaze_policy, {}),
    "minigrid_memory_11": (zoo.minigrid_memory_policy, {}),
    "mystery_path_grid": (zoo.mystery_path_policy, {}),
    "mystery_path": (zoo.mystery_path_policy, {"variant": "continuous"}),
    "memory_maze_9x9": (zoo.memory_maze_policy, {}),
    "craftax_symbolic": (zoo.craftax_policy, {}),
    "craftax_classic_symbolic": (zoo.craftax_policy, {"variant": "classic"}),
}
PACKAGES = {
    "tmaze": "gymnasium",
    "minigrid": "minigrid",
    "mystery": "memory_gym",
    "memory": "memory_maze",
    "craftax": "craftax",
}


def parameters(long):
    return list(_parameters(long))


def _parameters(long):
    for name, (function, arguments) in CASES.items():
        is_slow = name.startswith(("memory_maze", "craftax"))
        marks = [pytest.mark.environments(PACKAGES[name.split("_")[0]])]
        if long:
            marks.append(pytest.mark.slow)
        if long or name != "tmaze_10":
            steps = 50 if is_slow and not long else None
            yield pytest.param(name, function, arguments, steps, marks=marks, id=name)


def play(make, name, function, arguments, steps):
    """Plays one episode, or at most so many steps; checks that policy and world fit."""
    policy = function(**arguments, weights="auto" if name == "tmaze_10" else None)
    env = make(name)
    assert env.observation_space.shape == policy.observation_space.shape
    assert env.observation_space.dtype == policy.observation_space.dtype
    assert env.action_space == policy.action_space
    observation, _ = env.reset(seed=0)
    state, start, noise = policy.initial_state(1), True, np.random.default_rng(0)
    limit = steps or env.spec.max_episode_steps + 1
    for step in range(1, limit + 1):
        action, state = policy.act(
            np.asarray(observation)[None], state, start=[start], seed=noise
        )
        observation, _, terminated, truncated, _ = env.step(action[0])
        start = False
        if terminated or truncated:
            return step
    assert steps, "an episode does not end"
    return step


@pytest.mark.parametrize(
    ("name", "function", "arguments", "steps"), parameters(long=False)
)
def test_a_policy_acts_in_its_environment(make, name, function, arguments, steps):
    assert play(make, name, function, arguments, steps) >= 1


@pytest.mark.parametrize(
    ("name", "function", "arguments", "steps"), parameters(long=True)
)
def test_a_policy_acts_for_a_whole_episode(make, name, function, arguments, steps):
    assert play(make, name, function, arguments, steps) >= 1


def test_the_list_names_ids_that_gymnasium_knows():
    # A recipe may name an environment by its short name too.
    known = {*registry.NAMES.values(), *registry.NAMES, "tmaze_10"}
    assert {policy.environment for policy in zoo.list_policies()} <= known
