"""Memory Maze, rebuilt for JAX."""

from keras_agalite.environments.functional.memory_maze.env import (
    MemoryMaze as MemoryMaze,
)
from keras_agalite.environments.functional.memory_maze.env import (
    MemoryMazeState as MemoryMazeState,
)
