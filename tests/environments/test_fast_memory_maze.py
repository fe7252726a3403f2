"""The fast Memory Maze against records of the real one; see docs/memory_maze.md."""

import pathlib

import gymnasium
import numpy as np
import pytest

jax = pytest.importorskip("jax")
jnp = jax.numpy

from benchmarks.memory_maze_scripted import fast_returns  # noqa: E402
from keras_agalite import zoo  # noqa: E402
from keras_agalite.environments.functional import (  # noqa: E402
    FunctionalVectorEnv,
    reset_envs,
    step_envs,
)
from keras_agalite.environments.functional.memory_maze import (  # noqa: E402
    MemoryMaze,
    MemoryMazeState,
    layouts,
    textures,
)
from keras_agalite.environments.functional.memory_maze.motion import Body  # noqa: E402
from keras_agalite.environments.functional.memory_maze.scripted import (  # noqa: E402
    is_seen,
    scripted_action,
    steps_to,
)

pytestmark = [pytest.mark.once, pytest.mark.environments("labmaze")]
RECORDS = pathlib.Path(__file__).parent / "fixtures" / "memory_maze"
SIZES = ("9x9", "11x11", "13x13", "15x15")
FORWARD, LEFT = 1, 2
# A target is touched where the ball comes nearer than this, m.
TOUCH = np.sqrt(0.8**2 - 0.2**2)


def load(name):
    with np.load(RECORDS / f"{name}.npz") as record:
        return dict(record)


def hall(cells=11):
    """One layout without inner walls."""
    maze = np.full((1, cells, cells), " ")
    maze[:, [0, -1]] = maze[:, :, [0, -1]] = "*"
    maze[:, 1, 1], maze[:, 1, [3, 5, 7, 9]] = "P", "G"
    maze[:, 9, [3, 9]] = "G"
    return layouts.parse(maze, np.full_like(maze, "."))


def make_body(states):
    """The walker from joints and, if there are any, velocities as MuJoCo has them."""
    states = np.asarray(states, np.float32)
    if states.shape[-1] == 5:
        states = np.concatenate([states, np.zeros_like(states)], -1)
    x, y, height, steer, _, vx, vy, vz, steering, roll = np.moveaxis(states, -1, 0)
    return Body(x, y, height, -steer, vx, vy, vz, -steering, roll)


def make_states(joints, layout=0, targets=((50, 50),) * 3, blocks=0, target=0):
    body = make_body(joints)
    number = len(body.x)
    state = MemoryMazeState(
        body,
        np.broadcast_to(np.asarray(layout, np.int32), number),
        np.broadcast_to(np.asarray(blocks, np.int32), (number, 9)),
        np.asarray(targets, np.float32),
        np.broadcast_to(np.asarray(target, np.int32), number),
    )
    if state.targets.ndim == 2:
        shape = (number, *state.targets.shape)
        state = state._replace(targets=np.broadcast_to(state.targets, shape))
    return jax.tree.map(jnp.asarray, state)


def replay(env, states, actions):
    """States after each action, time first; actions of shape (batch, time)."""
    keys = jax.random.split(jax.random.key(0), len(actions))

    def step(states, actions):
        states = jax.vmap(env.step)(keys, states, actions)[0]
        return states, states.body

    walk = jax.jit(lambda s, a: jax.lax.scan(step, s, a)[1])
    return jax.tree.map(np.asarray, walk(states, actions.T.astype(np.int32)))


def differences(body, joints):
    """Distance in m and angle in degrees."""
    distance = np.hypot(body.x - joints[..., 0], body.y - joints[..., 1])
    return distance, np.degrees(np.abs(body.heading + joints[..., 3]))


def maze_env(record, size="9x9"):
    """An environment with the recorded mazes, and which one each record is in."""
    mazes, index = np.unique(record["maze"], axis=0, return_inverse=True)
    return MemoryMaze(size, layouts=layouts.parse(mazes, mazes)), index.reshape(-1)


class TestOpenFloor:
    def test_walks_of_a_hundred_steps(self):
        record = load("floor")
        env = MemoryMaze(layouts=hall(29))
        body = replay(env, make_states(record["states"][:, 0]), record["actions"])
        distance, angle = differences(body, record["states"][:, 1:].swapaxes(0, 1))

        assert distance[-1].mean() <= 0.10
        assert angle[-1].mean() <= 0.5

    def test_speeds_from_rest(self):
        env = MemoryMaze(layouts=hall(29))
        actions = np.repeat([[1], [2], [3], [4], [5]], 12, 1)
        body = replay(env, make_states(np.zeros((5, 5))), actions)
        place = np.stack([body.x, body.y], -1)
        moved = np.linalg.norm(np.diff(place, axis=0, prepend=0), axis=-1)
        turned = np.degrees(np.diff(body.heading, axis=0, prepend=0))

        np.testing.assert_allclose(moved[0, 0], 0.2243, rtol=0.03)
        np.testing.assert_allclose(turned[0, 1:3], (14.11, -14.11), rtol=0.03)
        np.testing.assert_allclose(moved[-1, 0], 0.4995, atol=0.002)
        np.testing.assert_allclose(turned[-1, 1:3], (18.40, -18.40), atol=0.1)
        np.testing.assert_allclose(turned[-1, 3:], (18.23, -18.23), atol=0.15)


class TestWalls:
    def test_one_step_from_the_true_state(self):
        record = load("walls")
        env, index = maze_env(record)
        before = record["states"][:, :-1].reshape(-1, 10)
        after = record["states"][:, 1:].reshape(-1, 10)
        states = make_states(before, np.repeat(index, record["actions"].shape[1]))
        body = replay(env, states, record["actions"].reshape(-1, 1))
        body = jax.tree.map(lambda x: x[0], body)
        distance, angle = differences(body, after)
        bias = np.mean([body.x - after[:, 0], body.y - after[:, 1]], axis=1)
        # Steps along the heading: too much or too little way.
        ahead = np.stack([np.cos(-before[:, 3]), np.sin(-before[:, 3])])
        along = ahead[0] * (body.x - after[:, 0]) + ahead[1] * (body.y - after[:, 1])
        near = near_walls(env, index, record)

        assert 0.3 < near.mean() < 0.9
        assert distance[near].mean() <= 0.015
        assert np.percentile(distance[near], 95) <= 0.04
        assert angle[near].mean() <= 2
        assert np.percentile(angle[near], 95) <= 6
        assert np.abs(bias).max() <= 0.01
        assert abs(along[near].mean()) <= 0.01

    def test_forward_against_a_flat_wall(self):
        record = load("flat")
        env = MemoryMaze(layouts=hall())
        states = make_states(record["states"][:, 0])
        body = replay(env, states, np.full((6, 24), FORWARD))
        turned = body.heading[-1] + record["states"][:, 0, 3]
        expected = record["states"][:, 0, 3] - record["states"][:, -1, 3]
        travel = body.x[-1] - record["states"][:, 0, 0]
        expected_travel = record["states"][:, -1, 0] - record["states"][:, 0, 0]

        np.testing.assert_allclose(turned[1:], expected[1:], rtol=0.2)
        np.testing.assert_allclose(travel[1:], expected_travel[1:], rtol=0.3)
        assert abs(turned[0]) < 0.01

    def test_long_walks_in_mazes(self):
        record = load("roam")
        env, index = maze_env(record)
        body = replay(env, make_states(record["starts"], index), record["actions"])
        real = record["places"].astype(float).swapaxes(0, 1) / 1000
        fast = np.stack([body.x, body.y], -1)
        fast = np.concatenate([record["starts"][None, :, :2], fast])
        apart = np.median(np.linalg.norm(fast - real, axis=-1), axis=1)
        (way, still, cells), (real_way, real_still, real_cells) = map(
            roaming, (fast, real)
        )

        np.testing.assert_allclose(way, real_way, rtol=0.05)
        np.testing.assert_allclose(still, real_still, atol=0.03)
        np.testing.assert_allclose(cells, real_cells, rtol=0.05)
        # Twice what the real one moves apart from itself after a shift of 1 mm.
        assert (apart[[10, 25, 50]] <= (0.008, 0.078, 0.36)).all()


def near_walls(env, index, record):
    """Steps that begin or end within 3 cm of a wall."""
    from keras_agalite.environments.functional.memory_maze.motion import find_walls

    @jax.jit
    @jax.vmap
    def gap(x, y, layout):
        rows = jnp.asarray(env.rows)[layout]
        walls = find_walls(lambda i, j: (rows[i] >> j) & 1 > 0, x, y, env.cells)
        return jnp.minimum(walls[0][0], walls[1][0])

    states = record["states"]
    x, y = states[..., 0].ravel(), states[..., 1].ravel()
    near = gap(x, y, np.repeat(index, states.shape[1])) < 0.03
    near = np.asarray(near).reshape(states.shape[:2])
    return (near[:, 1:] | near[:, :-1]).ravel()


def roaming(places):
    """Path length, share of steps below 5 cm, cells visited; places: time first."""
    steps = np.linalg.norm(np.diff(places, axis=0), axis=-1)
    cells = np.rint(places / 2).astype(int)
    visited = [len(set(map(tuple, walk))) for walk in cells.swapaxes(0, 1)]
    return steps.sum(0).mean(), (steps < 0.05).mean(), np.mean(visited)


class TestRules:
    def test_touching_targets_at_full_speed(self):
        """World by world: just near enough, just too far, over it, over another."""
        env = MemoryMaze(layouts=hall(29))
        offsets = [TOUCH - 0.001, TOUCH + 0.001, 0.0, 0.0]
        places = np.stack([np.full(4, 6.0), offsets], -1)
        targets = np.concatenate([places[:, None], np.full((4, 2, 2), 50.0)], 1)
        state = make_states(np.zeros((4, 5)), 0, targets, target=[0, 0, 0, 1])
        step = jax.jit(jax.vmap(env.step))
        keys = jax.random.split(jax.random.key(1), 4)
        rewards, shown = [], []
        for _ in range(18):
            state, reward, terminated, info = step(keys, state, jnp.full(4, FORWARD))
            assert not terminated.any()
            assert info == {}
            rewards.append(reward)
            shown.append(state.target)
        rewards, shown = np.array(rewards), np.array(shown)

        assert state.body.x.min() > 7.5
        assert rewards.sum(0).tolist() == [1, 0, 1, 0]
        assert (shown[:, 3] == 1).all()
        # Reward and new prompt in one step; then driving on over it pays nothing.
        (paid,) = np.nonzero(rewards[:, 2])[0]
        assert (shown[:paid, 2] == 0).all()
        assert (shown[paid:, 2] == shown[-1, 2]).all()
        assert shown[-1, 2] != 0

    @pytest.mark.parametrize(
        "size", [pytest.param(s, marks=pytest.mark.slow) for s in SIZES[:3]] + ["15x15"]
    )
    def test_the_next_target_is_any_other(self, size):
        cells, number, *_ = layouts.SIZES[size]
        env, draws = MemoryMaze(size, layouts=hall(cells)), 6000
        targets = [(0, 0)] + [(3 * k, 6) for k in range(1, number)]
        state = make_states(np.zeros((draws, 5)), targets=targets)
        keys = jax.random.split(jax.random.key(2), draws)
        step = jax.jit(jax.vmap(env.step))
        after, reward, *_ = step(keys, state, jnp.zeros(draws, int))
        counts = np.bincount(after.target, minlength=number)

        assert (reward == 1).all()
        assert counts[0] == 0
        assert_uniform(counts[1:])
        # Staying there pays once.
        later, reward, *_ = step(keys, after, jnp.zeros(draws, int))
        assert (reward == 0).all()
        assert (later.target == after.target).all()

    def test_episodes_are_truncated(self):
        envs = [MemoryMaze(s, layouts=hall(layouts.SIZES[s].cells)) for s in SIZES]
        assert [env.max_episode_steps for env in envs] == [1000, 2000, 3000, 4000]
        keys = jax.random.split(jax.random.key(0), 2)
        states = reset_envs(envs[0], keys)
        states = states._replace(elapsed=jnp.array([996, 0]))
        step = jax.jit(lambda w: step_envs(envs[0], keys, w, jnp.full(2, LEFT)))
        truncated, starts = [], []
        for _ in range(6):
            states, seen = step(states)
            assert not seen.terminated.any()
            truncated.append(seen.truncated.tolist())
            starts.append(states.start.tolist())

        assert [list(row) for row in zip(*truncated, strict=True)] == [
            [False, False, False, True, False, False],
            [False] * 6,
        ]
        assert [row[0] for row in starts] == [False] * 4 + [True, False]

    def test_starts(self):
        pool = hall()
        env = MemoryMaze(layouts=pool)
        keys = jax.random.split(jax.random.key(3), 10_000)
        state = jax.tree.map(np.asarray, jax.jit(jax.vmap(env.reset))(keys))
        turns = np.floor((state.body.heading / np.pi + 1) * 4).astype(int)
        places = np.rint(state.targets / 2 + 5).astype(int)

        assert_uniform(np.bincount(turns, minlength=8))
        assert_uniform(np.bincount(state.target, minlength=3))
        for block in state.blocks.T:
            assert_uniform(np.bincount(block, minlength=8))
        for k in range(3):
            number = np.unique(places[:, k], axis=0, return_counts=True)[1]
            assert len(number) == 6
            assert_uniform(number)
        assert (np.ptp(state.targets, axis=1).max(-1) > 0).all()
        assert (state.body.x == -8).all()
        assert (state.body.y == 8).all()
        assert not any(np.any(v) for v in state.body[4:])


def assert_uniform(counts):
    expected = counts.sum() / len(counts)
    chi = ((counts - expected) ** 2 / expected).sum()
    # Five standard deviations of the distribution that chi has for uniform draws.
    assert chi < len(counts) - 1 + 5 * np.sqrt(2 * (len(counts) - 1)), counts


@pytest.mark.parametrize("size", SIZES)
def test_layouts_are_those_of_memory_maze(size):
    record = load("layouts")
    real = layouts.parse(record[f"{size}_maze"], record[f"{size}_rooms"])

    fast = layouts.make_layouts(size, len(real.walls), seed=17)

    for ours, theirs in zip(fast, real, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def image_states(size):
    record = load("images")
    part = {k[len(size) + 1 :]: v for k, v in record.items() if k.startswith(size)}
    episode = part["episode"]
    targets = part["targets"][episode][..., :2]
    blocks = part["blocks"][episode]
    states = make_states(part["state"], episode, targets, blocks)
    pool = layouts.parse(part["maze"], part["rooms"])
    return part, MemoryMaze(size, layouts=pool), states


@pytest.mark.parametrize("size", SIZES)
def test_images_are_those_of_memory_maze(size):
    part, env, states = image_states(size)
    draw = jax.jit(env.observe_all)
    images = np.asarray(draw(states)).astype(int)
    error = np.abs(images - part["image"])[:, 2:-2, 2:-2].mean((1, 2, 3))
    near = np.arange(len(error)) % 10 >= 8
    without = np.asarray(draw(states._replace(targets=states.targets + 1000)))
    changed = np.abs(images - without)[:, 2:-2, 2:-2].max(-1) > 16

    assert error[~near].mean() <= 1.5
    assert error[~near].max() <= 6
    assert error[near].mean() <= 4
    np.testing.assert_allclose(changed.sum(), part["pixels"].sum(), rtol=0.05)
    np.testing.assert_array_equal(
        env.observe(jax.tree.map(lambda x: x[3], states)), images[3]
    )


def test_the_border_asks_for_a_target():
    _, env, states = image_states("15x15")
    colors = (
        (137, 30, 24),
        (80, 137, 71),
        (31, 113, 176),
        (75, 85, 161),
        (178, 156, 47),
        (178, 103, 86),
    )
    frame = np.ones((64, 64), bool)
    frame[2:-2, 2:-2] = False
    draw = jax.jit(env.observe)
    for target, color in enumerate(colors):
        state = jax.tree.map(lambda x: x[0], states)._replace(target=jnp.int32(target))
        assert (np.asarray(draw(state))[frame] == color).all()


def test_observations_and_spaces():
    both = MemoryMaze("11x11", num_layouts=3, global_observables=True)
    alone = MemoryMaze("11x11", num_layouts=3, global_observables=True, image=False)
    keys = jax.random.split(jax.random.key(0), 2)
    states = jax.vmap(both.reset)(keys)
    seen = jax.tree.map(np.asarray, both.observe_all(states))
    blind = jax.tree.map(np.asarray, alone.observe_all(states))

    one = {key: value[0] for key, value in seen.items()}
    assert one in both.observation_space
    assert both.action_space == gymnasium.spaces.Discrete(6)
    assert set(seen) == {*blind, "image"}
    for key, value in blind.items():
        np.testing.assert_array_equal(seen[key], value)
    # Free cells, row 0 in the south; the walker starts in the middle of one.
    column, row = (one["agent_pos"] - 0.5).astype(int)
    assert one["maze_layout"][row, column] == 1
    np.testing.assert_allclose(one["agent_pos"] % 1, 0.5, atol=1e-5)
    ahead, right = one["agent_dir"], one["agent_dir"][::-1] * (1, -1)
    away = one["targets_pos"] - one["agent_pos"]
    np.testing.assert_allclose(one["targets_vec"][:, 1], away @ ahead, atol=1e-5)
    np.testing.assert_allclose(one["targets_vec"][:, 0], away @ right, atol=1e-5)


@pytest.mark.slow
@pytest.mark.environments("memory_maze")
def test_observables_are_those_of_memory_maze():
    from keras_agalite.environments._maze import import_tasks

    real = import_tasks().memory_maze_9x9(seed=3, global_observables=True)
    real.reset()
    for action in (1, 4, 4, 1, 2, 1):
        expected = real.step(action).observation
    inner = real
    while hasattr(inner, "env"):
        inner = inner.env
    data, task = inner.physics.data.ptr, inner.task
    maze = task._maze_arena.maze
    pool = layouts.parse(
        np.array(maze.entity_layer)[None], np.array(maze.variations_layer)[None]
    )
    env = MemoryMaze(layouts=pool, global_observables=True, image=False)
    targets = [inner.physics.bind(x.geom).xpos[:2] for x in task._targets]
    joints = np.concatenate([data.qpos, data.qvel])[None]
    states = make_states(joints, 0, targets, target=task._current_target_ix)

    for key, value in env.observe_all(states).items():
        np.testing.assert_allclose(value[0], expected[key], atol=1e-5)


@pytest.mark.slow
def test_random_actions_score_as_in_the_real_one():
    number = 1000
    env = MemoryMaze(num_layouts=2000, seed=1)

    def step(states, key):
        keys = jax.random.split(key, number)
        actions = jax.random.randint(key, (number,), 0, 6)
        states, reward, *_ = jax.vmap(env.step)(keys, states, actions)
        return states, reward

    keys = jax.random.split(jax.random.key(5), number)
    states = jax.vmap(env.reset)(keys)
    rewards = jax.jit(lambda s: jax.lax.scan(step, s, keys)[1])(states)

    # The real one: 0.118, sd 0.32, in 51 episodes.
    assert abs(rewards.sum(0).mean() - 0.118) < 1.96 * 0.32 / np.sqrt(51)


def test_the_scripted_player_walks_the_shortest_way():
    """In a maze of two corridors and a room of 3 by 3 between their eastern ends."""
    rows = ["11111", "00111", "11111"]  # north first
    layout = np.array([[int(c) for c in row] for row in rows])[::-1]
    layout = np.pad(layout, ((0, 2), (0, 0)))
    middle = np.arange(5) + 0.5

    def act(here, ahead, target):
        return int(scripted_action(np.array(here), np.array(ahead), layout, target))

    north = np.array([0.5, 2.5])
    expected = np.full((5, 5), 1e4)
    expected[2], expected[1, 2:], expected[0] = range(5), range(3, 6), [8, 7, 4, 5, 6]
    expected[0, :2] = 6, 5
    np.testing.assert_array_equal(steps_to(layout > 0, north), expected)
    # From the south-west corner: east first, to where the target comes into sight.
    assert act([0.5, 0.5], [1.0, 0.0], north) == 1
    assert act([0.5, 0.5], [0.0, 1.0], north) == 3
    assert act([0.5, 0.5], [0.0, -1.0], north) == 2
    assert act([0.5, 0.5], [np.sqrt(0.75), 0.5], north) == 5
    assert act([0.5, 0.5], [np.sqrt(0.75), -0.5], north) == 4
    assert act([2.5, 1.5], [0.0, 1.0], north) == 1
    # Seen along the wall, but for what is less than the margin from it.
    places = np.stack([middle, np.full(5, 2.5)], -1)
    seen = is_seen(np.array([2.5, 1.5]), places, layout.ravel() == 0)
    np.testing.assert_array_equal(seen, [False, False, True, True, True])


@pytest.mark.slow
def test_the_scripted_player_scores_as_in_the_real_one():
    returns = fast_returns("9x9", 300, seed=1)
    # The real one: 29.5, sd 5.7, in 26 episodes.
    assert np.mean(returns) == pytest.approx(29.5, rel=0.05)


@pytest.mark.slow
def test_the_released_policy_finds_targets():
    policy = zoo.memory_maze_policy(weights="pretrained")
    env = FunctionalVectorEnv(MemoryMaze(num_layouts=500, seed=3), 32)
    observation, _ = env.reset(seed=0)
    state, total = policy.initial_state(32), np.zeros(32)
    for _ in range(1000):
        action, state = policy.act(observation, state, deterministic=True)
        observation, reward, *_ = env.step(action)
        total += reward
    # 5.2, sd 3.9, in 300 episodes; random actions score 0.1.
    assert abs(total.mean() - 5.2) < 4 * 3.9 / np.sqrt(32)


def test_without_labmaze_the_message_says_how_to_get_it(monkeypatch):
    from keras_agalite.environments import _packages

    monkeypatch.setattr(_packages, "is_installed", lambda module: module == "jax")

    with pytest.raises(ImportError, match="pip install labmaze pillow"):
        MemoryMaze(num_layouts=1)


def test_an_atlas_holds_all_halvings():
    images = np.random.default_rng(0).integers(256, size=(3, 8, 8, 3))
    atlas = textures.make_atlas(images, 4)

    assert (atlas.size, atlas.number, atlas.texels.size) == (4, 3, 2 * 3 * 16)
    for side in (4, 2, 1):
        level = atlas.texels[3 * side**2 : 6 * side**2].reshape(3, side, side)
        rgb = level[..., None] >> np.array([0, 8, 16], np.uint32) & 255
        block = 8 // side
        mean = images.reshape(3, side, block, side, block, 3).mean((2, 4))
        np.testing.assert_allclose(rgb, mean, atol=0.5)


@pytest.mark.parametrize(
    "arguments",
    [
        {"size": "10x10"},
        {"num_layouts": 0},
        {"num_layouts": 2.0},
        {"num_layouts": 10**7},
        {"seed": -1},
        {"samples": 3},
        {"texture_size": 100},
        {"image": False},
    ],
    ids=str,
)
def test_bad_arguments_are_refused(arguments):
    ((name, value),) = arguments.items()

    with pytest.raises(
        ValueError, match=f"`{name}` must .* Received: {name}={value!r}"
    ):
        MemoryMaze(**arguments)
