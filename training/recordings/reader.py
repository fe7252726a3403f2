"""Reading recordings: columns are mapped into memory, not read."""

import json
import operator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_agalite.models.spaces import map_leaves, space_from_config
from training.recordings.columns import (
    FORMAT,
    INDEX,
    REWARD,
    column_file,
    describe_columns,
)

OUTCOME = ("terminated", "truncated", "seed", "success")


class RecordedEpisode(NamedTuple):
    """An episode of `n` steps.

    Attributes:
        observations: Arrays of shape `(n + 1, ...)`, in the structure of the space.
        actions: Array of shape `(n, ...)`.
        rewards: float64 of shape `(n,)`.
        terminated: Whether the environment ended the episode.
        truncated: Whether something else did.
        seed: The seed that the environment was reset with; None if it is not known.
        success: Whether the episode succeeded; None if it is not known.
    """

    observations: Any
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool
    truncated: bool
    seed: int | None
    success: bool | None


class Recordings:
    """Episodes that `RecordingWriter` wrote.

    Args:
        folder: Their folder.

    Attributes:
        observation_space: Space of the observations.
        action_space: Space of the actions.
        environment: The environment's name, or empty.
        environment_arguments: Its arguments.
        provenance: What else is known of the episodes.
        episodes: A dict for each: `length`, `return`, `terminated`, `truncated`,
            `seed`, `success`.
        lengths: Steps of each episode, int64.
        first: The row of each episode's first step in `actions` and `rewards`; its
            first observation is in row `first[i] + i`.
        observations: Memory-mapped columns, in the structure of the space.
        actions: The memory-mapped column of actions.
        rewards: That of rewards.

    Raises:
        ValueError: If the folder holds no recording, one that is not finished, or one
            whose files do not fit its index; with the reason.

    Example:
        >>> recordings = Recordings("runs/recordings")
        >>> len(recordings), recordings.episode(0).rewards.sum()
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        index = self._read_index()
        try:
            self.observation_space = space_from_config(index["observation_space"])
            self.action_space = space_from_config(index["action_space"])
            self.environment: str = index["environment"]
            self.environment_arguments: dict[str, Any] = index["environment_arguments"]
            self.provenance: dict[str, Any] = index["provenance"]
            self.episodes: list[dict[str, Any]] = index["episodes"]
            self.lengths = np.array([_length(e) for e in self.episodes], np.int64)
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise self._refuse(f"its {INDEX} cannot be understood: {error}") from error
        if not (self.lengths > 0).all() or not len(self.lengths):
            raise self._refuse(f"its {INDEX} has episodes without a step, or none")
        self.first = np.concatenate([[0], np.cumsum(self.lengths)[:-1]])
        steps = int(self.lengths.sum())
        parts, action = describe_columns(self.observation_space, self.action_space)
        columns = iter([self._map(*c, steps + len(self.lengths)) for c in parts])
        self.observations = map_leaves(
            self.observation_space, lambda path, space: next(columns)
        )
        self.actions = self._map(*action, steps)
        self.rewards = self._map(*REWARD, steps)

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self.lengths)

    @property
    def num_steps(self) -> int:
        """Steps of all episodes."""
        return len(self.rewards)

    def episode(self, number: int) -> RecordedEpisode:
        """One whole episode; its arrays are read from the files when they are used."""
        number = range(len(self))[number]
        entry, first = self.episodes[number], int(self.first[number])
        steps = slice(first, first + entry["length"])
        seen = slice(first + number, first + number + entry["length"] + 1)
        return RecordedEpisode(
            _map_arrays(lambda column: column[seen], self.observations),
            self.actions[steps],
            self.rewards[steps],
            *(entry[k] for k in OUTCOME),
        )

    def _read_index(self) -> dict[str, Any]:
        if not self.folder.is_dir():
            raise ValueError(
                f"Expected a folder of recordings. Received: {self.folder}"
            )
        if not (self.folder / INDEX).is_file():
            begun = next(self.folder.glob("*.npy"), None)
            raise self._refuse(
                f"it has columns and no {INDEX}: what wrote it was stopped, or is "
                "still at work. Remove the folder and record again"
                if begun
                else f"it has no {INDEX}"
            )
        try:
            index = json.loads((self.folder / INDEX).read_text("utf-8"))
        except ValueError as error:
            raise self._refuse(f"its {INDEX} is no JSON: {error}") from error
        if not isinstance(index, dict) or index.get("format") != FORMAT:
            raise self._refuse(f"its {INDEX} is not of format {FORMAT}")
        return index

    def _map(
        self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], rows: int
    ) -> np.ndarray:
        file = column_file(self.folder, name)
        try:
            column: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise self._refuse(f"{file.name} cannot be read: {error}") from error
        expected = (dtype, (rows, *shape))
        if (column.dtype, column.shape) != expected:
            raise self._refuse(
                f"{file.name} should be {dtype} of shape {expected[1]}, not "
                f"{column.dtype} of shape {column.shape}"
            )
        return column

    def _refuse(self, reason: str) -> ValueError:
        return ValueError(
            f"Expected finished recordings in the folder. Received: {self.folder}: "
            f"{reason}"
        )


def _length(entry: dict[str, Any]) -> int:
    """The steps of an episode, whose entry has all its keys."""
    if missing := [key for key in OUTCOME if key not in entry]:
        raise KeyError(*missing)
    return operator.index(entry["length"])


def _map_arrays(function: Any, tree: Any) -> Any:
    """A function of each array of nested dicts and tuples."""
    if isinstance(tree, dict):
        return {key: _map_arrays(function, part) for key, part in tree.items()}
    if isinstance(tree, tuple):
        return tuple(_map_arrays(function, part) for part in tree)
    return function(tree)
