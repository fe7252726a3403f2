"""The image of a maze: walls, floor, sky and targets, shaded by the headlight.

Lengths are in cells of 2 m. Positions are `(column, row)`, row 0 in the north.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from keras_agalite.environments.functional.memory_maze import camera
from keras_agalite.environments.functional.memory_maze.raycast import cast
from keras_agalite.environments.functional.memory_maze.textures import NUM_WALLS, Atlas

WALL_TOP = 0.75
TARGET_RADIUS = 0.3
AMBIENT, DIFFUSE = 0.3, 0.6
# Colours of the targets (memory-maze's table), and of the border that asks for them.
COLORS = np.array(
    (
        (170, 38, 30),
        (99, 170, 88),
        (39, 140, 217),
        (93, 105, 199),
        (220, 193, 59),
        (220, 128, 107),
    ),
    np.float32,
)
TARGETS = COLORS * np.float32(255 / 220)
BORDERS = np.trunc(COLORS.astype(np.float64) / 220 * 255 * 0.7).astype(np.uint8)


class Scene(NamedTuple):
    """What one image shows.

    Attributes:
        x: Column of the eye.
        y: Row of the eye.
        height: Of the eye above the floor.
        cos: Of the heading, in world axes (y to the north); sin likewise.
        rows: Walls: bit j of word i. uint32 of shape `(cells,)`.
        columns: Walls: bit i of word j.
        rooms: Cells of rooms: bit j of word i.
        blocks: Texture of the walls of each block of 3 by 3, int32 of shape `(9,)`.
        targets: Column and row of the targets, shape `(targets, 2)`.
    """

    x: Any
    y: Any
    height: Any
    cos: Any
    sin: Any
    rows: Any
    columns: Any
    rooms: Any
    blocks: Any
    targets: Any


def look(scene: Scene) -> Any:
    """The walls that the rays along the ground meet, uint32 of shape `(rays,)`.

    The upper bits are those of `1 / distance` as a float32, the lowest five the
    texture, and whether the wall stands across the x axis.
    """
    # Directions in rows and columns: heading, and its right.
    fx, fy, rx, ry = scene.cos, -scene.sin, scene.sin, scene.cos
    rays = camera.RAYS
    inverse, across_x, cell = cast(
        scene.rows, scene.columns, scene.x, scene.y, fx + rays * rx, fy + rays * ry
    )
    block = jnp.asarray(_blocks(scene.rows.shape[0]))[cell]
    code = (scene.blocks[block] * 2 + across_x).astype(jnp.uint32)
    bits = jax.lax.bitcast_convert_type(inverse, jnp.uint32)
    return (bits & ~np.uint32(31)) | code


def draw(
    scene: Scene, walls: Any, atlas: Atlas, texels: Any, views: tuple[camera.View, ...]
) -> Any:
    """Colours inside the border, uint32 of shape `(3600,)`.

    Red, green and blue have ten bits each: the sum over the rays of a pixel.

    Args:
        scene: The scene.
        walls: What `look` found.
        atlas: The textures.
        texels: The atlas's, on the device.
        views: The rays.
    """
    total = jnp.uint32(0)
    for view in views:
        red, green, blue = [
            jnp.round(x).astype(jnp.uint32)
            for x in _shade(scene, walls[view.column], atlas, texels, view)
        ]
        total += red | green << 10 | blue << 20
    return total


def _shade(
    scene: Scene, wall_bits: Any, atlas: Atlas, texels: Any, view: camera.View
) -> Any:
    cells = scene.rows.shape[0]
    fx, fy, rx, ry = scene.cos, -scene.sin, scene.sin, scene.cos
    inverse = jax.lax.bitcast_convert_type(wall_bits & ~np.uint32(31), jnp.float32)
    across_x = wall_bits & 1 > 0
    # Rays hit the wall's plane at 1 / distance, linear in their slant.
    near = jnp.where(across_x, fx + view.slant * rx, fy + view.slant * ry)
    aside = jnp.where(across_x, fy + view.slant * ry, fx + view.slant * rx)
    wall = 1.0 / jnp.maximum(inverse * near * view.ahead, 1e-6)
    z = scene.height + wall * view.up
    below = view.up < 0
    ground = scene.height * np.where(below, -1 / np.where(below, view.up, -1.0), 0.0)
    is_floor = below & (z < 0)
    is_sky = z > WALL_TOP
    depth = jnp.where(is_floor, ground, wall)
    # Texture coordinates, in repeats.
    along = jnp.where(across_x, scene.y, scene.x) + depth * view.ahead * aside
    mirrored = across_x != (inverse > 0)
    column = scene.x + depth * (view.ahead * fx + view.right * rx)
    row = scene.y + depth * (view.ahead * fy + view.right * ry)
    u = jnp.where(is_floor, column, jnp.where(mirrored, -along, along))
    v = jnp.where(is_floor, row, WALL_TOP - z)
    i = jnp.clip(row.astype(jnp.int32), 0, cells - 1)
    j = jnp.clip(column.astype(jnp.int32), 0, cells - 1).astype(jnp.uint32)
    room = ((scene.rooms[i] >> j) & 1).astype(jnp.int32)
    of_wall = ((wall_bits >> 1) & 15).astype(jnp.int32)
    texture = jnp.where(is_floor, NUM_WALLS + room, of_wall)
    # Texels of the largest level under one pixel, and how bright the light is.
    facing = jnp.where(is_floor, -view.up, jnp.abs(near) * view.ahead)
    pixel = 2 * camera.HALF / camera.SIZE * atlas.size
    wide = depth * (pixel * view.length) / jnp.maximum(facing, 1e-6)
    toward = jnp.where(across_x, fx, fy) * jnp.sign(inverse)
    wall_light = AMBIENT + DIFFUSE * camera.COS * jnp.maximum(toward, 0.0)
    light = jnp.where(is_floor, AMBIENT + DIFFUSE * camera.SIN, wall_light)
    sampled = sample(atlas, texels, texture, u, v, wide)
    color = [
        jnp.where(is_sky, sky * view.sky, light * x)
        for sky, x in zip(camera.SKY, sampled, strict=True)
    ]
    return _add_targets(scene, view, jnp.where(is_sky, 1e6, depth), color)


def _add_targets(scene: Scene, view: camera.View, depth: Any, color: Any) -> Any:
    cos, sin = scene.cos, scene.sin
    for k in range(scene.targets.shape[0]):
        dx, dy = scene.x - scene.targets[k, 0], scene.targets[k, 1] - scene.y
        ahead, right = cos * dx + sin * dy, sin * dx - cos * dy
        along = view.ahead * ahead + view.right * right + view.up * scene.height
        rest = dx * dx + dy * dy + scene.height**2 - TARGET_RADIUS**2
        root = along * along - view.squared * rest
        distance = (-along - jnp.sqrt(jnp.maximum(root, 0.0))) / view.squared
        seen = (root > 0) & (distance > 0) & (distance < depth)
        facing = camera.COS * ahead - camera.SIN * scene.height + distance
        light = AMBIENT + DIFFUSE * jnp.maximum(-facing / TARGET_RADIUS, 0.0)
        color = [
            jnp.where(seen, jnp.minimum(light * base, 255.0), x)
            for base, x in zip(TARGETS[k], color, strict=True)
        ]
        depth = jnp.where(seen, distance, depth)
    return color


def sample(
    atlas: Atlas, texels: Any, texture: Any, u: Any, v: Any, wide: Any
) -> list[Any]:
    """Red, green and blue of a texture: the nearest texel of one of its levels.

    The mean over the rays of a pixel does what a filter would do, for less.

    Args:
        atlas: The textures.
        texels: The atlas's, on the device.
        texture: Number of the texture.
        u: Place in repeats, to the right.
        v: Place in repeats, downward.
        wide: Texels of the largest level under a pixel; the level is the whole part
            of their binary logarithm, which is the exponent of the float.
    """
    last = atlas.size.bit_length() - 1
    wide = jnp.maximum(1.19 * wide, 1.0)  # the factor fits recorded images best
    exponent = jax.lax.bitcast_convert_type(wide, jnp.int32) >> 23
    shift = jnp.maximum(last + 127 - exponent, 0)
    side = jnp.left_shift(1, shift)
    scale = side.astype(jnp.float32)
    x = ((u - jnp.floor(u)) * scale).astype(jnp.int32) & (side - 1)
    y = ((v - jnp.floor(v)) * scale).astype(jnp.int32) & (side - 1)
    texel = texels[((atlas.number + texture) << (2 * shift)) + (y << shift) + x]
    return [((texel >> k) & 255).astype(jnp.float32) for k in (0, 8, 16)]


def _blocks(cells: int) -> np.ndarray:
    """Block of each cell: the grid is cut in three at `k * cells // 3`."""
    cuts = [cells // 3, 2 * cells // 3]
    part = np.searchsorted(cuts, np.arange(cells), side="right")
    return (3 * part[:, None] + part).astype(np.int32).ravel()


def finish(total: Any, samples: int, target: Any) -> Any:
    """The images, uint8, from what `draw` gave.

    Args:
        total: Of shape `(batch, 3600)`.
        samples: Rays of a pixel.
        target: Number of the target asked for, of shape `(batch,)`.
    """
    shape = (-1, camera.INNER, camera.INNER, 1)
    channels = total.reshape(shape) >> np.array([0, 10, 20], np.uint32)
    inside = ((channels & 1023) + samples // 2) // np.uint32(samples)
    edge = camera.BORDER
    padding = [(0, 0), (edge, edge), (edge, edge), (0, 0)]
    image = jnp.pad(inside.astype(jnp.uint8), padding)
    frame = np.ones((camera.SIZE, camera.SIZE, 1), bool)
    frame[edge:-edge, edge:-edge] = False
    return jnp.where(frame, jnp.asarray(BORDERS)[target][:, None, None], image)
