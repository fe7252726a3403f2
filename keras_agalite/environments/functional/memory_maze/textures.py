"""Textures of the walls and the floor, taken from the installed labmaze."""

import functools
from typing import NamedTuple

import numpy as np

from keras_agalite.environments._packages import require

STYLE = "style_01"
FLOORS = ("blue", "blue_bright")  # of corridors, of rooms
NUM_WALLS = 8


class Atlas(NamedTuple):
    """All textures at all sizes, one after the other.

    Attributes:
        texels: uint32, red in the lowest byte, then green and blue. The level of
            `side` texels begins at `number * side**2`: texture by texture (walls, then
            floors), row by row.
        size: Side of the largest level in texels, a power of two.
        number: Number of textures.
    """

    texels: np.ndarray
    size: int
    number: int


def wall_names() -> list[str]:
    """Names of the walls' textures, in the order of their numbers here."""
    require("FastMemoryMaze", "labmaze")
    from labmaze import assets

    return list(assets.get_wall_texture_paths(STYLE))


@functools.cache
def load_atlas(size: int = 512) -> Atlas:
    """The textures, at most `size` texels wide, with all their halvings.

    Raises:
        ImportError: If labmaze or Pillow is missing.
    """
    require("FastMemoryMaze", "labmaze")
    from labmaze import assets
    from PIL import Image

    walls = assets.get_wall_texture_paths(STYLE)
    floors = assets.get_floor_texture_paths(STYLE)
    paths = [*walls.values(), *(floors[name] for name in FLOORS)]
    images = []
    for path in paths:
        with Image.open(path) as image:
            images.append(np.asarray(image.convert("RGBA"), np.float32)[..., :3])
    return make_atlas(np.stack(images), size)


def make_atlas(images: np.ndarray, size: int) -> Atlas:
    """The atlas of images of shape `(number, side, side, 3)`, values from 0 to 255."""
    level = images.astype(np.float32)
    number, side = level.shape[:2]
    size = min(size, side)
    texels = np.zeros(2 * number * size**2, np.uint32)
    while True:
        if side <= size:
            rgb = np.rint(level).astype(np.uint32)
            packed = rgb[..., 0] | rgb[..., 1] << 8 | rgb[..., 2] << 16
            begin = number * side**2
            texels[begin : 2 * begin] = packed.ravel()
        if side == 1:
            return Atlas(texels, size, number)
        side //= 2
        level = level.reshape(number, side, 2, side, 2, 3).mean((2, 4))
