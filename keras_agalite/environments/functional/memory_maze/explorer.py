"""A player that knows only what has been in view since the episode began.

What it knows is a `Belief`, carried beside the state of the world and emptied at the
start of an episode. `update_belief` alone is shown the maze, and adds what the camera
shows; `explorer_action` is given the belief. So nothing that it acts on has not been
in view, and a policy that follows it can hold all of it in memory.

It walks to the target asked for where that has been in view, else to where it may be
found soonest. Cells that have not been in view count as free.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keras_agalite.environments.functional.memory_maze import camera
from keras_agalite.environments.functional.memory_maze.layouts import to_bits, to_words
from keras_agalite.environments.functional.memory_maze.motion import CELL
from keras_agalite.environments.functional.memory_maze.scripted import (
    DEAD_BAND,
    FAR,
    is_seen,
    steps_to,
)
from keras_agalite.environments.functional.protocol import TeacherTargets

# What the columns of the image show at the height of the eye: right per ahead.
_PIXEL = np.arange(camera.BORDER, camera.SIZE - camera.BORDER) + 0.5
SLANTS = camera.HALF * camera.COS * (2 * _PIXEL / camera.SIZE - 1)
# Errors of the heading, in degrees: above it turns in place. 60 scores more than the
# 50 of the player that knows the maze, from whichever place in view is best.
TURN_IN_PLACE = 60.0
# To search a cell costs its distance in cells, and so much for each radian of turning.
TURNING = 0.6
# The place being searched is left for another that is nearer by so many cells.
KEEP = 2.0
# A target is touched before the walker is so near, in cells; the camera, which looks
# over what is at its feet, does not show it then.
NEAR = 0.35
# Cells of the way ahead among which it looks for the farthest that is straight ahead.
WAYPOINTS = 10

_MOVES = np.array(((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)), np.int32)


class Belief(NamedTuple):
    """What has been in view since the episode began; all zeros at its start.

    Grids are boolean of shape `(cells, cells)`, index y, x, without the outer wall, as
    memory-maze's observable `maze_layout`.

    Attributes:
        seen: Cells of which a part has been in view.
        walls: Those of them that are walls.
        searched: Cells whose middle has been in view, where a target would stand.
        place: The cell that is searched next; nowhere, or one cell.
        known: Targets that have been in view, boolean of shape `(targets,)`.
        targets: x and y of those, in cells, float32 of shape `(targets, 2)`; zeros
            for the others.
    """

    seen: Any
    walls: Any
    searched: Any
    place: Any
    known: Any
    targets: Any


def initial_belief(cells: int, num_targets: int) -> Belief:
    """Nothing has been in view.

    Args:
        cells: Cells along a side, without the outer wall.
        num_targets: Number of targets.
    """
    grid = jnp.zeros((cells, cells), bool)
    known = jnp.zeros(num_targets, bool)
    return Belief(grid, grid, grid, grid, known, jnp.zeros((num_targets, 2)))


def update_belief(
    belief: Belief,
    agent_pos: Any,
    agent_dir: Any,
    maze_layout: Any,
    targets_pos: Any,
    start: Any,
) -> Belief:
    """Adds what is in view, from memory-maze's global observables.

    Args:
        belief: What had been in view before.
        agent_pos: x and y in cells; the middle of the first cell is 0.5.
        agent_dir: Unit vector of the heading.
        maze_layout: 1 where a cell is free, shape `(cells, cells)`, index y, x.
        targets_pos: x and y of the targets, in cells, shape `(targets, 2)`. They
            stand in the middle of cells.
        start: This is the first step of an episode: what was known is of another.
    """
    belief = jax.tree.map(lambda x: jnp.where(start, jnp.zeros_like(x), x), belief)
    here, heading = jnp.asarray(agent_pos), jnp.asarray(agent_dir)
    wall = jnp.asarray(maze_layout) == 0
    in_view, middle_in_view = look(here, heading, wall)
    seen = belief.seen | in_view
    walls = belief.walls | (in_view & wall)
    column, row = jnp.floor(targets_pos.T).astype(jnp.int32)
    found = middle_in_view[row, column]
    targets = jnp.where(found[:, None], targets_pos, belief.targets)
    away = _middles(wall.shape) - here
    distance = steps_to(~walls, here)
    is_open = ~walls & (distance < FAR)
    searched = belief.searched | middle_in_view | ((away**2).sum(-1) < NEAR**2)
    # All is searched, and a target was missed: one that stood at its feet.
    searched &= (is_open & ~searched).any()
    turn = jnp.abs(_angle(heading, away))
    cost = distance + TURNING * turn - KEEP * belief.place
    cost = jnp.where(is_open & ~searched, cost, 2 * FAR)
    place = jnp.arange(cost.size).reshape(cost.shape) == jnp.argmin(cost)
    return Belief(seen, walls, searched, place, belief.known | found, targets)


def explorer_action(belief: Belief, agent_pos: Any, agent_dir: Any, target: Any) -> Any:
    """The action of one walker.

    Args:
        belief: What has been in view, this step included.
        agent_pos: x and y in cells.
        agent_dir: Unit vector of the heading.
        target: Number of the target asked for.

    Returns:
        The number of an action, int32.
    """
    here, heading = jnp.asarray(agent_pos), jnp.asarray(agent_dir)
    middles = _middles(belief.place.shape)
    place = jnp.where(belief.place[..., None], middles, 0.0).sum((0, 1))
    goal = jnp.where(belief.known[target], belief.targets[target], place)
    error = jnp.degrees(_angle(heading, _waypoint(~belief.walls, here, goal) - here))
    side, size = jnp.where(error > 0, 0, 1), jnp.abs(error)
    return jnp.where(
        size > TURN_IN_PLACE, 2 + side, jnp.where(size > DEAD_BAND, 4 + side, 1)
    ).astype(jnp.int32)


def belief_targets(belief: Belief, agent_pos: Any, agent_dir: Any) -> TeacherTargets:
    """The belief as the walker sees it: where it began is in no image.

    Args:
        belief: What has been in view, this step included.
        agent_pos: x and y in cells.
        agent_dir: Unit vector of the heading.

    Returns:
        Flags: which places of a square around the walker are walls, asked where they
        have been in view, and which targets are known. The places are one cell apart,
        as many as the maze has cells, their rows across the heading. Values: right
        and ahead of each target, in sides of the maze, asked of those that are known.
    """
    here, ahead = jnp.asarray(agent_pos), jnp.asarray(agent_dir)
    axes = jnp.stack([jnp.stack([ahead[1], -ahead[0]]), ahead])
    cells = len(belief.seen)
    offsets = (_middles(belief.seen.shape) - cells / 2).reshape(-1, 2)
    column, row = jnp.floor(here + offsets @ axes).astype(jnp.int32).T
    inside = (jnp.minimum(row, column) >= 0) & (jnp.maximum(row, column) < cells)
    walls, seen = belief.walls[row, column], belief.seen[row, column]
    away = (belief.targets - here) @ axes.T / cells
    return TeacherTargets(
        jnp.concatenate([walls, belief.known]),
        jnp.concatenate([seen & inside, jnp.ones_like(belief.known)]),
        away.ravel(),
        jnp.repeat(belief.known, 2),
    )


def look(here: Any, heading: Any, wall: Any) -> tuple[Any, Any]:
    """What the camera shows: where its rays along the ground go before they end.

    One ray stands for a column of the image.

    Args:
        here: x and y of the walker, in cells.
        heading: Unit vector.
        wall: Which cells are walls, boolean of shape `(cells, cells)`.

    Returns:
        Which cells a ray enters, the wall at its end included, and of which cells the
        middle is in view; both of shape `(cells, cells)`.
    """
    cells = len(wall) + 2
    # The outer wall is added, so that each ray meets one.
    wall = jnp.pad(wall, 1, constant_values=True)
    right = jnp.stack([heading[1], -heading[0]])
    eye = here + 1.0 + camera.AHEAD / CELL * heading
    slants = jnp.asarray(SLANTS, jnp.float32)
    rays = heading[:, None] + slants * right[:, None]
    rays = jnp.where(jnp.abs(rays) < 1e-6, 1e-6, rays)
    x_lines = _cross(to_words(wall.T), *eye, *rays)
    y_lines = _cross(to_words(wall), *eye[::-1], *rays[::-1])
    # Rays are 1 long along the heading, so that this is their depth.
    depth = jnp.minimum(x_lines[2], y_lines[2])
    columns = _enter(x_lines, depth, eye[0], rays[0], cells)
    rows = _enter(y_lines, depth, eye[1], rays[1], cells)
    column, row = jnp.floor(eye).astype(jnp.int32)
    seen = (to_bits(columns, cells).T | to_bits(rows, cells)).at[row, column].set(True)
    away = _middles(wall.shape) - eye
    ahead = away @ heading
    slant = (away @ right) / jnp.maximum(ahead, 1e-6)
    number = (slant - SLANTS[0]) / (SLANTS[1] - SLANTS[0])
    nearest = jnp.clip(jnp.round(number), 0, len(SLANTS) - 1).astype(jnp.int32)
    inside = (ahead > 0) & (jnp.abs(slant) < SLANTS[-1])
    middle = inside & (depth[nearest] > ahead)
    return seen[1:-1, 1:-1], middle[1:-1, 1:-1]


def _cross(words: Any, x: Any, y: Any, dx: Any, dy: Any) -> tuple[Any, Any, Any]:
    """The lines between columns that rays cross, the nearest first.

    The k-th is the same line for all rays that go the same way; see `raycast.cast`.

    Args:
        words: uint32 of shape `(cells,)`: bit i of word j is a wall at row i, column j.
        x: Of the eye; y likewise.
        dx: Directions of the rays, of shape `(rays,)`; dy likewise.

    Returns:
        When each line is crossed, and in which row, of shape `(cells - 2, rays)`; when
        a wall is met.
    """
    cells = len(words)
    home = jnp.floor(x).astype(jnp.int32)
    k = jnp.arange(cells - 2)[:, None]
    time = jnp.where(dx > 0, home + 1 - x + k, home - x - k) / dx
    row = jnp.clip(jnp.floor(y + time * dy), 0, cells - 1).astype(jnp.uint32)
    after = words[jnp.minimum(home + 1 + k, cells - 1)]
    before = words[jnp.maximum(home - 1 - k, 0)]
    meets = (jnp.where(dx > 0, after, before) >> row) & 1 > 0
    return time, row, jnp.min(jnp.where(meets, time, FAR), 0)


def _enter(lines: Any, depth: Any, x: Any, dx: Any, cells: int) -> Any:
    """Which cells rays enter across `lines`: words as those of `_cross`."""
    time, row, _ = lines
    bit = jnp.where(time <= depth, jnp.uint32(1) << row, 0)
    home = jnp.floor(x).astype(jnp.int32)
    k = jnp.arange(cells)

    def union(bits: Any) -> Any:
        return jax.lax.reduce(bits, np.uint32(0), jax.lax.bitwise_or, (1,))

    after = union(jnp.where(dx > 0, bit, 0))[jnp.clip(k - home - 1, 0)]
    before = union(jnp.where(dx > 0, 0, bit))[jnp.clip(home - 1 - k, 0)]
    return jnp.where(k > home, after, jnp.where(k < home, before, 0))


def _waypoint(free: Any, here: Any, goal: Any) -> Any:
    """The farthest place of the way to the goal to which it can walk straight on."""
    distance = jnp.pad(steps_to(free, goal), 1, constant_values=FAR)

    def follow(cell: Any, _: Any) -> Any:
        x, y = (cell + _MOVES).T
        cell = cell + jnp.asarray(_MOVES)[jnp.argmin(distance[y + 1, x + 1])]
        return cell, cell

    cell = jnp.floor(here).astype(jnp.int32)
    cells = jax.lax.scan(follow, cell, None, WAYPOINTS, unroll=True)[1]
    # The last place is where the goal is, not the middle of its cell.
    at_goal = (cells == jnp.floor(goal).astype(jnp.int32)).all(-1)
    places = jnp.where(at_goal[:, None], goal, cells + 0.5)
    clear = is_seen(here, places, ~free.ravel())
    return places[jnp.max(jnp.where(clear, jnp.arange(WAYPOINTS), 0))]


def _middles(shape: tuple[int, ...]) -> Any:
    """x and y of the middles of cells, of shape `(*shape, 2)`."""
    y, x = jnp.indices(shape)
    return jnp.stack([x, y], -1) + 0.5


def _angle(heading: Any, away: Any) -> Any:
    """Angles from the heading to directions, positive to the left."""
    across = heading[0] * away[..., 1] - heading[1] * away[..., 0]
    return jnp.arctan2(across, away @ heading)
