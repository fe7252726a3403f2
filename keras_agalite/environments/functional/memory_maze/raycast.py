"""Where rays along the ground meet a wall first."""

from typing import Any

import jax.numpy as jnp


def cast(
    rows: Any, columns: Any, x: Any, y: Any, dx: Any, dy: Any
) -> tuple[Any, Any, Any]:
    """The first wall along each ray, without a lookup for each ray.

    The k-th line between columns that a ray crosses is the same for all rays that
    go the same way, and so is the column behind it: its walls are the bits of one
    word, in which the ray tests one bit. Rows likewise.

    Args:
        rows: uint32 of shape `(cells,)`: bit j of row i is a wall at column j.
        columns: The same with rows and columns exchanged.
        x: Column of the eye, in cells: cell j reaches from j to j + 1. A scalar.
        y: Row of the eye, likewise, downward.
        dx: Directions of the rays, shape `(rays,)`; dy likewise.

    Returns:
        inverse: 1 / distance to the wall along the axis that it stands across,
            signed as the ray's direction; in cells. Shape `(rays,)`.
        across_x: Whether the wall stands across the x axis.
        cell: Row times the number of cells plus column of the wall.
    """
    cells = rows.shape[0]
    first = _along(columns, x, y, dx, dy)
    second = _along(rows, y, x, dy, dx)
    across_x = first[0] <= second[0]
    inverse = jnp.where(across_x, first[1], second[1])
    row = jnp.where(across_x, first[3], second[2])
    column = jnp.where(across_x, first[2], second[3])
    return inverse, across_x, row * cells + column


def _along(words: Any, x: Any, y: Any, dx: Any, dy: Any) -> Any:
    """Walls across one axis: distance, 1 / signed offset, index along it and aside."""
    cells = words.shape[0]
    home = jnp.floor(x).astype(jnp.int32)
    ahead = dx > 0
    safe = jnp.where(jnp.abs(dx) < 1e-9, jnp.where(ahead, 1e-9, -1e-9), dx)
    step = 1.0 / safe
    to_right, to_left = (home + 1).astype(x.dtype) - x, home.astype(x.dtype) - x
    slope = dy * step
    best = jnp.full_like(dx, 1e9)
    offset, index = jnp.ones_like(dx), jnp.zeros(dx.shape, jnp.int32)
    for k in reversed(range(cells - 2)):
        right, left = jnp.minimum(home + 1 + k, cells - 1), jnp.maximum(home - 1 - k, 0)
        away = jnp.where(ahead, to_right + k, to_left - k)
        word = jnp.where(ahead, words[right], words[left])
        aside = jnp.clip(jnp.floor(y + slope * away), 0, cells - 1).astype(jnp.uint32)
        hit = (word >> aside) & 1 > 0
        best = jnp.where(hit, away * step, best)
        offset = jnp.where(hit, away, offset)
        index = jnp.where(hit, jnp.where(ahead, right, left), index)
    aside = jnp.clip(jnp.floor(y + slope * offset), 0, cells - 1).astype(jnp.int32)
    return best, 1.0 / offset, index, aside
