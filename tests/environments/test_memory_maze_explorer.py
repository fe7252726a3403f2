"""The player of Memory Maze that knows only what has been in view; no images."""

import functools

import numpy as np
import pytest

jax = pytest.importorskip("jax")
jnp = jax.numpy

from benchmarks.memory_maze_scripted import fast_returns  # noqa: E402
from keras_agalite.environments.functional.memory_maze import (  # noqa: E402
    MemoryMaze,
    explorer,
    scripted,
)
from tests.environments.mazes import (  # noqa: E402
    CELLS,
    make_env,
    make_maze,
    random_maze,
)

pytestmark = pytest.mark.once

update = jax.jit(explorer.update_belief)
act = jax.jit(explorer.explorer_action)
look = jax.jit(explorer.look)


def heading(degrees):
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])


def random_pose(random, maze):
    y, x = random.permutation(np.argwhere(maze))[0]
    here = np.array([x, y]) + random.uniform(0.1, 0.9, 2)
    return here.astype(np.float32), heading(random.uniform(0, 360)).astype(np.float32)


def cells_on_ray(maze, eye, ray):
    """The cells that a ray enters, the wall at its end included; the outer wall not."""
    cell, found = np.floor(eye).astype(int), set()
    side = np.where(ray > 0, 1, -1)
    while True:
        x, y = cell
        if not (0 <= x < CELLS and 0 <= y < CELLS):
            return found
        found.add((y, x))
        if not maze[y, x]:
            return found
        time = (cell + (ray > 0) - eye) / ray
        cell[np.argmin(time)] += side[np.argmin(time)]


def assert_equal(ours, theirs):
    for name, one, other in zip(ours._fields, ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


def observe(env, state):
    seen = env.observe(state)
    names = ("agent_pos", "agent_dir", "maze_layout", "targets_pos")
    return [np.asarray(seen[name]) for name in names]


@functools.cache
def walk(env, steps, seed=0):
    """States, beliefs and actions of one episode, step by step."""
    step = jax.jit(env.step)
    play, belief = jax.jit(env.teacher_action), env.initial_teacher_state()
    state = jax.jit(env.reset)(jax.random.key(seed))
    told = []
    for time in range(steps):
        action, belief = play(state, belief, time == 0)
        told.append((state, belief, action))
        state = step(jax.random.key(1), state, action)[0]
    return tuple(zip(*told, strict=True))


def test_a_cell_behind_a_wall_is_not_seen():
    maze = make_maze(
        ".....",
        ".....",
        "..#..",
        ".....",
        ".....",
    )
    seen, middle = map(
        np.asarray,
        look(jnp.array([2.5, 0.5]), jnp.array([0.0, 1.0]), maze == 0),
    )

    assert seen[2, 2]
    assert not seen[3:, 2].any()
    assert not middle[2:, 2].any()
    assert middle[1, 2]
    assert middle[4, 4]
    # To its sides, beyond the image.
    assert not seen[0, [0, 1, 3, 4]].any()
    # Behind it.
    seen, _ = look(jnp.array([2.5, 0.5]), jnp.array([0.0, -1.0]), maze == 0)
    assert np.argwhere(seen).tolist() == [[0, 2]]


def test_what_the_rays_of_the_image_meet_is_seen():
    random = np.random.default_rng(3)
    for _ in range(30):
        maze = random_maze(random)
        here, ahead = random_pose(random, maze)
        seen, middle = map(np.asarray, look(here, ahead, maze == 0))
        eye = here + 0.075 * ahead
        right = np.array([ahead[1], -ahead[0]])
        expected = np.zeros((CELLS, CELLS), bool)
        for slant in explorer.SLANTS:
            for cell in cells_on_ray(maze, eye, ahead + slant * right):
                expected[cell] = True
        np.testing.assert_array_equal(seen, expected)
        # A middle in view is that of a cell in view, and no wall's.
        assert (seen & (maze > 0))[middle].all()


def test_the_image_shows_forty_degrees_to_each_side():
    hall = jnp.zeros((CELLS, CELLS), bool)
    _, middle = look(jnp.array([0.5, 4.5]), jnp.array([1.0, 0.0]), hall)
    y, x = np.indices((CELLS, CELLS)) - np.array([4, 0])[:, None, None]
    angle = np.degrees(np.arctan2(np.abs(y), x - 0.075))

    assert np.asarray(middle)[(angle < 37) & (x > 0)].all()
    assert not np.asarray(middle)[angle > 39].any()


def test_steps_are_those_of_a_walk():
    random = np.random.default_rng(4)
    count = jax.jit(scripted.steps_to)
    for share in (0.0, 0.2, 0.4):
        free = random_maze(random, share) > 0
        goal, _ = random_pose(random, free)
        expected = np.full(free.shape, scripted.FAR)
        column, row = goal.astype(int)
        front = [(row, column)]
        expected[row, column] = 0
        for y, x in front:
            for cell in ((y, x + 1), (y, x - 1), (y + 1, x), (y - 1, x)):
                inside = all(0 <= k < CELLS for k in cell)
                if inside and free[cell] and expected[cell] == scripted.FAR:
                    expected[cell] = expected[y, x] + 1
                    front.append(cell)
        np.testing.assert_array_equal(count(free, goal), expected)


@pytest.mark.process
def test_a_start_empties_the_belief():
    env = make_env()
    states, beliefs, _ = walk(env, 30)
    fresh = observe(env, walk(env, 1, seed=9)[0][0])

    assert beliefs[-1].known.any()
    assert_equal(
        update(beliefs[-1], *fresh, True),
        update(env.initial_teacher_state(), *fresh, False),
    )
    # Without a start nothing that was known is lost.
    after = update(beliefs[-1], *observe(env, states[-1]), False)
    assert_equal(after, beliefs[-1])
    for name in ("seen", "walls", "known"):
        old, new = getattr(beliefs[9], name), getattr(beliefs[-1], name)
        assert not (np.asarray(old) & ~np.asarray(new)).any(), name


def test_step_by_step_is_scanned():
    env = make_env()
    states, beliefs, actions = walk(env, 60)

    def step(belief, told):
        state, start = told
        action, belief = env.teacher_action(state, belief, start)
        return belief, (belief, action)

    stacked = jax.tree.map(lambda *x: jnp.stack(x), *states)
    scan = jax.jit(lambda b, x: jax.lax.scan(step, b, x)[1])
    begin = env.initial_teacher_state()
    scanned, choices = scan(begin, (stacked, jnp.arange(60) == 0))

    assert_equal(jax.tree.map(lambda *x: np.stack(x), *beliefs), scanned)
    np.testing.assert_array_equal(np.stack(actions), choices)


@pytest.mark.process
@pytest.mark.parametrize("steps", [1, 15, 40])
def test_what_has_not_been_in_view_changes_nothing(steps):
    env = make_env()
    states, beliefs, actions = walk(env, steps)
    last = jax.tree.map(np.asarray, beliefs[-1])
    unknown = np.argwhere(~last.seen)
    assert len(unknown) > 10

    belief = env.initial_teacher_state()
    for time, state in enumerate(states):
        here, ahead, maze, targets = observe(env, state)
        maze = np.where(last.seen, maze, 1 - maze)
        hidden = unknown[: len(targets), ::-1] + 0.5
        targets = np.where(last.known[:, None], targets, hidden)
        belief = update(belief, here, ahead, maze, targets, time == 0)
        assert_equal(belief, beliefs[time])
        assert act(belief, here, ahead, state.target) == actions[time]


def test_a_target_that_was_missed_is_searched_again():
    """It stood at the walker's feet in a maze of one cell's width."""
    maze = make_maze("..#", "###", "###")
    here, east = np.array([0.5, 2.5]), np.array([1.0, 0.0])
    targets = np.array([[0.5, 2.5]])
    belief = update(explorer.initial_belief(3, 1), here, east, maze, targets, True)
    assert np.argwhere(belief.searched).tolist() == [[2, 0], [2, 1]]
    # South of it may be a way, but for the walls that it sees when it turns.
    for degrees in range(0, 360, 30):
        belief = update(belief, here, heading(degrees), maze, targets, False)
    assert not belief.known[0]
    assert not np.asarray(belief.searched).all()
    belief = update(belief, np.array([1.5, 2.5]), -east, maze, targets, False)
    assert belief.known[0]


def test_it_goes_where_the_target_was_and_searches_where_it_may_be():
    maze = make_maze(".....", "####.", ".....")
    maze = np.pad(maze, ((0, 2), (0, 0)))
    here, east, west = np.array([1.5, 0.5]), np.array([1.0, 0.0]), np.array([-1.0, 0.0])
    targets = np.array([[3.5, 0.5], [0.5, 2.5]])
    belief = update(explorer.initial_belief(5, 2), here, east, maze, targets, True)

    assert belief.known.tolist() == [True, False]
    np.testing.assert_array_equal(belief.targets, [[3.5, 0.5], [0.0, 0.0]])
    assert act(belief, here, east, 0) == 1
    assert act(belief, here, west, 0) in (2, 3)
    # The nearest cell that it does not know is at its left, then the one behind it.
    assert np.argwhere(belief.place).tolist() == [[1, 1]]
    assert act(belief, here, east, 1) == 2
    belief = update(belief, here, heading(90), maze, targets, False)
    assert np.argwhere(belief.place).tolist() == [[0, 0]]
    assert act(belief, here, heading(90), 1) == 2
    belief = update(belief, here, west, maze, targets, False)
    # Then the end of the corridor, from which a way to the target goes on.
    assert act(belief, here, east, 1) == 1


@pytest.mark.environments("labmaze")
def test_it_searches_the_maze_and_finds_targets():
    env = MemoryMaze(num_layouts=200, seed=2, image=False, global_observables=True)
    number = 32
    start = jnp.zeros(number, bool)

    def step(carry, key):
        belief, state = carry
        action, belief = jax.vmap(env.teacher_action)(state, belief, start)
        keys = jax.random.split(key, number)
        state, reward, *_ = jax.vmap(env.step)(keys, state, action)
        return (belief, state), reward

    @jax.jit
    def run(key):
        state = jax.vmap(env.reset)(jax.random.split(key, number))
        belief = jax.tree.map(
            lambda x: jnp.zeros((number, *x.shape), x.dtype),
            env.initial_teacher_state(),
        )
        keys = jax.random.split(key, 200)
        (belief, _), rewards = jax.lax.scan(step, (belief, state), keys)
        return belief, rewards.sum(0)

    belief, rewards = run(jax.random.key(0))
    assert belief.seen.mean() > 0.85
    assert belief.known.mean() > 0.8
    # 27 in 1,000 steps, fewer as long as it searches.
    assert rewards.mean() > 3
    assert (rewards > 0).mean() > 0.8


@pytest.mark.slow
@pytest.mark.environments("labmaze")
def test_it_scores_hardly_less_than_the_player_that_knows_the_maze():
    returns = fast_returns("9x9", 300, 1, "explorer")
    assert np.mean(returns) > 25
    assert np.min(returns) >= 8
