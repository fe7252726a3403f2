"""Layouts, made on the host by labmaze as memory-maze makes them."""

from typing import Any, NamedTuple

import numpy as np

from keras_agalite.environments._packages import require
from keras_agalite.environments.catalog import MEMORY_MAZE_STEPS


class Size(NamedTuple):
    """What a size of the maze stands for; cells with the outer wall."""

    cells: int
    targets: int
    steps: int
    max_rooms: int
    room_max_size: int


SIZES = {
    "9x9": Size(11, 3, MEMORY_MAZE_STEPS["9x9"], 6, 5),
    "11x11": Size(13, 4, MEMORY_MAZE_STEPS["11x11"], 6, 5),
    "13x13": Size(15, 5, MEMORY_MAZE_STEPS["13x13"], 6, 5),
    "15x15": Size(17, 6, MEMORY_MAZE_STEPS["15x15"], 9, 3),
}
MAX_ROOMS = 9


class Layouts(NamedTuple):
    """A pool of layouts.

    Attributes:
        walls: Boolean, shape `(layouts, cells, cells)`, row 0 in the north.
        rooms: Cells of rooms, which have another floor, likewise.
        spawns: Row and column of the cells where an episode may start, int32 of shape
            `(layouts, 9, 2)`.
        objects: Row and column of the cells where a target may stand, likewise.
        num_spawns: How many of the spawns count, int32 of shape `(layouts,)`.
        num_objects: How many of the objects count.
    """

    walls: np.ndarray
    rooms: np.ndarray
    spawns: np.ndarray
    objects: np.ndarray
    num_spawns: np.ndarray
    num_objects: np.ndarray


def make_layouts(size: str, number: int, seed: int) -> Layouts:
    """The first layouts of memory-maze's environment of this size and seed.

    Args:
        size: "9x9", "11x11", "13x13" or "15x15".
        number: How many.
        seed: Seed of the environment.

    Raises:
        ImportError: If labmaze is missing.
    """
    require("FastMemoryMaze", "labmaze")
    import labmaze

    shape = SIZES[size]
    maze = labmaze.RandomMaze(
        height=shape.cells,
        width=shape.cells,
        max_rooms=shape.max_rooms,
        room_min_size=3,
        room_max_size=shape.room_max_size,
        max_variations=26,
        spawns_per_room=1,
        objects_per_room=1,
        simplify=True,
        random_seed=int(np.random.RandomState(seed).randint(2**31)),
    )
    entities: list[np.ndarray] = []
    variations: list[np.ndarray] = []
    while len(entities) < number:
        # The constructor's own layout is never used: each episode makes a new one,
        # and another where there are fewer places than targets.
        maze.regenerate()
        layer = np.array(maze.entity_layer)
        if (layer == "G").sum() >= shape.targets:
            entities.append(layer)
            variations.append(np.array(maze.variations_layer))
    return parse(np.stack(entities), np.stack(variations))


def parse(entities: np.ndarray, variations: np.ndarray) -> Layouts:
    """Layouts from labmaze's layers.

    Args:
        entities: Characters of shape `(layouts, cells, cells)`: " " is free, "P" a
            cell to start from, "G" a place for a target, everything else a wall.
        variations: Likewise: a capital letter is a cell of a room.
    """
    walls = ~np.isin(entities, list(" PG"))
    rooms = (variations >= "A") & (variations <= "Z")
    spawns, num_spawns = _places(entities == "P")
    objects, num_objects = _places(entities == "G")
    return Layouts(walls, rooms, spawns, objects, num_spawns, num_objects)


def _places(marks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the marked cells of each layout, and how many there are."""
    layout, row, column = np.nonzero(marks)
    number = np.bincount(layout, minlength=len(marks)).astype(np.int32)
    if number.max() > MAX_ROOMS:
        raise ValueError(
            f"a layout has at most {MAX_ROOMS} places of a kind. Received: "
            f"number={number.max()}"
        )
    rank = np.arange(len(layout)) - np.repeat(np.cumsum(number) - number, number)
    places = np.zeros((len(marks), MAX_ROOMS, 2), np.int32)
    places[layout, rank] = np.stack([row, column], -1)
    return places, number


def to_words(bits: Any) -> Any:
    """Rows of bits as uint32, in NumPy or JAX: bit j of a word is column j."""
    return (bits.astype(np.uint32) << np.arange(bits.shape[-1], dtype=np.uint32)).sum(
        -1, dtype=np.uint32
    )


def to_bits(words: Any, cells: int) -> Any:
    """The inverse of `to_words`: boolean, of shape `(*words.shape, cells)`."""
    return (words[..., None] >> np.arange(cells, dtype=np.uint32)) & 1 > 0
