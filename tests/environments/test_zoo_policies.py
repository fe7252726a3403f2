"""The zoo's policies in their real environments, on the running backend."""

import gymnasium
import numpy as np
import pytest
from keras import tree

from keras_agalite import zoo
from keras_agalite.environments import catalog, registry
from keras_agalite.zoo import specs

CASES = {
    "tmaze_10": (zoo.tmaze_policy, {}),
    "minigrid_memory_11": (zoo.minigrid_memory_policy, {}),
    "mystery_path_grid": (zoo.mystery_path_policy, {}),
    "mystery_path": (zoo.mystery_path_policy, {"variant": "continuous"}),
    "mortar_mayhem_grid": (zoo.mortar_mayhem_policy, {}),
    "searing_spotlights": (zoo.searing_spotlights_policy, {}),
    "vizdoom_two_colors": (zoo.vizdoom_two_colors_policy, {}),
    "popgym:AutoencodeEasy": (zoo.popgym_policy, {"task": "AutoencodeEasy"}),
    "popgym:BattleshipEasy": (zoo.popgym_policy, {"task": "BattleshipEasy"}),
    "popgym:NoisyPositionOnlyPendulumEasy": (
        zoo.popgym_policy,
        {"task": "NoisyPositionOnlyPendulumEasy"},
    ),
    "mujoco_positions:Hopper-v5": (zoo.mujoco_positions_policy, {}),
    "memory_maze_9x9": (zoo.memory_maze_policy, {}),
    "craftax_symbolic": (zoo.craftax_policy, {}),
    "craftax_classic": (zoo.craftax_policy, {"variant": "classic"}),
}
# Their policies are like others here.
LONG_ONLY = {
    "tmaze_10",
    "mortar_mayhem_grid",
    "searing_spotlights",
    "popgym:AutoencodeEasy",
    "popgym:NoisyPositionOnlyPendulumEasy",
}


def parameters(long):
    return list(_parameters(long))


def _parameters(long):
    for name, (function, arguments) in CASES.items():
        is_slow = name.startswith(("memory_maze", "craftax", "vizdoom"))
        row, _ = catalog.resolve(name)
        marks = []
        if row.requirement:
            marks.append(pytest.mark.environments(row.requirement))
        if long:
            marks.append(pytest.mark.slow)
        elif name == "craftax_symbolic":  # a quarter of a minute, mostly of tracing
            marks.append(pytest.mark.once)
        if long or name not in LONG_ONLY:
            steps = 50 if is_slow and not long else None
            yield pytest.param(name, function, arguments, steps, marks=marks, id=name)


def play(make, name, function, arguments, steps):
    """Plays one episode, or at most so many steps; checks that the two fit."""
    policy = function(**arguments, weights="auto" if name == "tmaze_10" else None)
    env = make(name)
    ours, theirs = policy.observation_space, env.observation_space
    assert isinstance(theirs, type(ours))
    assert (theirs.shape, theirs.dtype) == (ours.shape, ours.dtype)
    assert env.action_space == policy.action_space
    observation, _ = env.reset(seed=0)
    state, start, noise = policy.initial_state(1), True, np.random.default_rng(0)
    limit = steps or (env.spec.max_episode_steps or 1000) + 1
    for step in range(1, limit + 1):
        batch = tree.map_structure(lambda x: np.asarray(x)[None], observation)
        action, state = policy.act(batch, state, start=[start], seed=noise)
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


@pytest.mark.environments("mujoco")
@pytest.mark.parametrize("name", specs.ROBOTS)
def test_the_robots_have_the_spaces_of_the_zoo(make, name):
    env, spec = make(f"mujoco_positions:{name}"), specs.mujoco_positions(name)
    assert env.observation_space == spec.observation_space
    assert env.action_space == spec.action_space


def test_the_list_names_ids_that_gymnasium_knows():
    # A recipe may name an environment by its short name too.
    for policy in zoo.list_policies():
        identifier, _ = registry.resolve(policy.environment)
        assert identifier in gymnasium.registry
