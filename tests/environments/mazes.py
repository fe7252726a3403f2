"""Memory Mazes for tests, without labmaze."""

import functools

import numpy as np

from keras_agalite.environments.functional.memory_maze import MemoryMaze, layouts

CELLS = 9


def make_maze(*rows):
    """`maze_layout` from text, north first: "#" is a wall."""
    return np.array([[x != "#" for x in row] for row in rows])[::-1].astype(np.uint8)


def random_maze(random, share=0.3):
    return (random.random((CELLS, CELLS)) > share).astype(np.uint8)


@functools.cache
def make_env(teacher="explorer"):
    """An environment with ten mazes of the fixtures' form, without labmaze."""
    random = np.random.default_rng(5)
    pool = np.full((10, CELLS + 2, CELLS + 2), "*")
    for maze in pool:
        maze[1:-1, 1:-1] = np.where(random_maze(random, 0.25), " ", "*")
        maze[1::2, 1] = maze[5, 1:-1] = " "
        maze[5, 5], maze[1, 1], maze[9, 1], maze[5, 9] = "P", "G", "G", "G"
    return MemoryMaze(
        layouts=layouts.parse(pool, np.full_like(pool, ".")),
        image=False,
        global_observables=True,
        teacher=teacher,
    )
