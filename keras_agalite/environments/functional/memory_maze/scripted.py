"""A player that knows the whole maze: the shortest path to the target asked for."""

from typing import Any

import jax
import jax.numpy as jnp

from keras_agalite.environments.functional.memory_maze.layouts import to_bits, to_words

# Half of the width that a straight way must have, in cells of 2 m: 0.3 m.
MARGIN = 0.15
# Errors of the heading, in degrees: above the first it turns in place, below the second
# it walks straight on.
TURN_IN_PLACE = 50.0
DEAD_BAND = 8.0
# What counts as ahead, degrees; the camera shows 40 to each side.
VIEW = 70.0
FAR = 1e4


def scripted_action(
    agent_pos: Any,
    agent_dir: Any,
    maze_layout: Any,
    target_pos: Any,
    looks_ahead: bool = False,
) -> Any:
    """The action of one walker, from memory-maze's global observables.

    It heads for the visible place from which the rest of the way is shortest, and
    sees the target itself like any other place.

    Args:
        agent_pos: x and y in cells; the middle of the first cell is 0.5.
        agent_dir: Unit vector of the heading.
        maze_layout: 1 where a cell is free, shape `(cells, cells)`, index y, x.
        target_pos: x and y of the target, in cells.
        looks_ahead: Walk on to a place in view, and turn to the left where there is
            none. A student that cannot see the target can then predict every action
            except the choice at a junction.

    Returns:
        The number of an action, int32.
    """
    free = jnp.asarray(maze_layout) > 0
    here, goal = jnp.asarray(agent_pos), jnp.asarray(target_pos)
    y, x = jnp.indices(free.shape)
    places = jnp.stack([x.ravel(), y.ravel()], -1) + 0.5
    left = steps_to(free, goal).ravel()
    # The target's own place comes from where it is, not from its cell.
    places = jnp.where(left[:, None] == 0, goal, places)
    away = places - here
    seen = is_seen(here, places, ~free.ravel())
    # Slightly less for the straight way: of places on a line the farthest is best.
    distance = jnp.sqrt((away**2).sum(-1))
    cost = left + 0.9 * distance + jnp.where(seen, 0.0, FAR)
    axes = jnp.stack([agent_dir, jnp.stack([-agent_dir[1], agent_dir[0]])], -1)
    ahead, across = jnp.moveaxis(away @ axes, -1, 0)
    error = jnp.degrees(jnp.arctan2(across, ahead))
    if looks_ahead:
        seen &= (jnp.abs(error) < VIEW) & ((distance > 0.5) | (left == 0))
        cost = jnp.where(left == 0, -FAR, left - 1.5 * distance)
        cost = jnp.where(seen, cost, FAR)
        error = jnp.where(seen.any(), error, 180.0)
    error = error[jnp.argmin(cost)]
    side = jnp.where(error > 0, 0, 1)
    size = jnp.abs(error)
    return jnp.where(
        size > TURN_IN_PLACE, 2 + side, jnp.where(size > DEAD_BAND, 4 + side, 1)
    ).astype(jnp.int32)


def steps_to(free: Any, goal: Any) -> Any:
    """Steps from each cell to the goal's, along free cells; `FAR` where there is none.

    Args:
        free: Which cells are free, shape `(cells, cells)`, index y, x.
        goal: x and y in cells.
    """
    cells, words = len(free), to_words(free)
    column, row = jnp.floor(goal).astype(jnp.uint32)
    first = jnp.where(jnp.arange(cells) == row, jnp.uint32(1) << column, 0)

    def grow(carry: Any) -> Any:
        _, reached, steps = carry
        wide = jnp.pad(reached, 1)
        near = reached << 1 | reached >> 1 | wide[:-2] | wide[2:]
        return reached, reached | near & words, steps + ~to_bits(reached, cells)

    steps = jnp.zeros(free.shape, jnp.int32)
    _, reached, steps = jax.lax.while_loop(
        lambda carry: (carry[0] != carry[1]).any(),
        grow,
        (jnp.zeros_like(first), first, steps),
    )
    return jnp.where(to_bits(reached, cells), steps.astype(jnp.float32), FAR)


def is_seen(here: Any, places: Any, walls: Any) -> Any:
    """Whether a straight way of twice `MARGIN` leads from here to each place.

    Args:
        here: x and y in cells.
        places: Likewise, shape `(cells * cells, 2)`.
        walls: Which cells are walls, shape `(cells * cells,)`.
    """
    cells = round(len(walls) ** 0.5)
    y, x = jnp.indices((cells, cells))
    middle = jnp.stack([x.ravel(), y.ravel()], -1) + 0.5
    offset = here - middle
    gap = jnp.max(jnp.abs(offset), -1) - 0.5
    # A wall that is nearer than the margin leaves the way along it open.
    half = 0.5 + jnp.clip(gap * 0.99, 0.0, MARGIN)
    way = places - here
    way = jnp.where(jnp.abs(way) < 1e-6, 1e-6, way)
    # The part of the way, from 0 to 1, between the sides of each wall.
    centre = -offset[None] / way[:, None]
    reach = half[None, :, None] / jnp.abs(way)[:, None]
    enter = jnp.max(centre - reach, -1)
    leave = jnp.min(centre + reach, -1)
    blocks = (enter < leave) & (enter < 1.0) & (leave > 0.0) & walls
    return ~blocks.any(-1)
