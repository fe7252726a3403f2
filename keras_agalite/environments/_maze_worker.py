"""A maze in a process of its own: `MazeProcess` here, and the loop of the worker.

TensorFlow and Mesa's software renderer each bring an LLVM, and a process that loads
both crashes, in either order. So the maze is drawn where no TensorFlow is.
"""

import os
import pickle
import subprocess
import sys
from typing import Any

from keras_agalite.environments._maze import Maze


class MazeProcess:
    """A `Maze` whose methods run in a new Python process."""

    def __init__(self, size: str) -> None:
        # Not multiprocessing: it would load the caller's main module there, and with
        # it perhaps TensorFlow.
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, size],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        try:
            self._receive()
        except RuntimeError:
            self.close()
            raise

    def reset(self, seed: int | None) -> Any:
        return self._call("reset", seed)

    def step(self, action: int) -> Any:
        return self._call("step", action)

    def close(self) -> None:
        if self.process.stdout is not None and not self.process.stdout.closed:
            self.process.communicate()  # the end of its input ends it

    def _call(self, method: str, argument: Any) -> Any:
        assert self.process.stdin is not None
        pickle.dump((method, argument), self.process.stdin)
        self.process.stdin.flush()
        return self._receive()

    def _receive(self) -> Any:
        assert self.process.stdout is not None
        try:
            error, result = pickle.load(self.process.stdout)
        except EOFError:
            code = self.process.wait()
            raise RuntimeError(f"The process of a maze ended with {code}.") from None
        if error is not None:
            raise error
        return result


def work(size: str) -> None:
    # What others print must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def answer(function: Any, *arguments: Any) -> Any:
        error, result = None, None
        try:
            result = function(*arguments)
        except Exception as reason:
            error = RuntimeError(f"{type(reason).__name__}: {reason}")
        handed_out = None if isinstance(result, Maze) else result
        pickle.dump((error, handed_out), answers)
        answers.flush()
        return result

    maze = answer(Maze, size)
    while maze is not None:
        try:
            method, argument = pickle.load(sys.stdin.buffer)
        except EOFError:
            maze.close()
            return
        answer(getattr(maze, method), argument)


if __name__ == "__main__":
    work(sys.argv[1])
