"""Writing recordings, an episode at a time."""

import json
import os
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.lib import format as npy

from keras_agalite.models.observations import categories
from keras_agalite.models.spaces import leaves, pick, space_to_config
from training.atomic_write import write_text
from training.recordings.columns import (
    FORMAT,
    INDEX,
    REWARD,
    column_file,
    describe_columns,
)
from training.runs.provenance import describe


class RecordingWriter:
    """Writes recordings: columns grow with each episode, the index comes last.

    Killed at any moment, it leaves a folder that `Recordings` refuses, or a whole one.

    Args:
        folder: Where to write; it must be empty, or not be there.
        observation_space: Space of the observations: Box, Discrete, MultiBinary,
            MultiDiscrete, or a Dict or Tuple of them.
        action_space: Space of the actions: one of these, but no Dict or Tuple.
        environment: What `keras_agalite.environments.make` takes to make the
            environment; empty if there is none.
        environment_arguments: Its arguments, in JSON's types.
        provenance: What else is known of the episodes, in JSON's types. The index
            also gets the machine and the versions.

    Raises:
        ValueError: If a space cannot be recorded, the folder is not empty, or a
            description is not in JSON's types.
        OSError: If the folder cannot be written.

    Example:
        >>> with RecordingWriter("logs", observation_space, action_space) as writer:
        ...     for log in logs:  # n + 1 observations, n actions and rewards
        ...         writer.add(log.observations, log.actions, log.rewards, True)
    """

    def __init__(
        self,
        folder: str | Path,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        environment: str = "",
        environment_arguments: dict[str, Any] | None = None,
        provenance: dict[str, Any] | None = None,
    ) -> None:
        self.folder = Path(folder)
        observations, action = describe_columns(observation_space, action_space)
        self.paths = [path for path, _ in leaves(observation_space)]
        parts = [part for _, part in leaves(observation_space)]
        self.index = {
            "format": FORMAT,
            "observation_space": space_to_config(observation_space),
            "action_space": space_to_config(action_space),
            "environment": environment,
            "environment_arguments": environment_arguments or {},
            "provenance": provenance or {},
            "machine": describe(),
        }
        try:
            json.dumps(self.index, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(
                "`environment_arguments` and `provenance` must be in JSON's types. "
                f"Received: {error}"
            ) from error
        if self.folder.exists() and any(self.folder.iterdir()):
            raise ValueError(
                f"`folder` must be empty, or not be there. Received: {self.folder}"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        self.episodes: list[dict[str, Any]] = []
        self.closed = False
        self.observations = [
            _Column(self.folder, *column, part)
            for column, part in zip(observations, parts, strict=True)
        ]
        self.action = _Column(self.folder, *action, action_space)
        self.reward = _Column(self.folder, *REWARD)

    def add(
        self,
        observations: Any,
        actions: Any,
        rewards: Any,
        terminated: bool,
        truncated: bool | None = None,
        seed: int | None = None,
        success: bool | None = None,
    ) -> None:
        """Adds an episode of `n` steps.

        Args:
            observations: Arrays of shape `(n + 1, ...)`, in the structure of the
                space; the last observation is what the last action led to.
            actions: Array of shape `(n, ...)`: actions of the space.
            rewards: Array of shape `(n,)`.
            terminated: Whether the environment ended the episode.
            truncated: Whether something else did, as a time limit; if None, what
                did not terminate was truncated.
            seed: The seed that the environment was reset with, if it is known.
            success: Whether the episode succeeded, if it is known.

        Raises:
            ValueError: If the episode has no step, a part is missing, a shape does not
                fit, a number is none that its column can hold or no category of its
                space, or is NaN or infinite, as the sum of the rewards may not be.
            OSError: If it cannot be written.
        """
        if self.closed:
            raise ValueError(
                "A recording that is finished takes no episode. Received: "
                f"{self.folder}"
            )
        reward = self.reward.check(rewards)
        with np.errstate(over="ignore"):
            total = float(reward.sum())
        if not np.isfinite(total):
            raise ValueError(
                f"`reward` must have a sum that is finite. Received: {total}"
            )
        length = len(reward)
        if not length:
            raise ValueError("An episode must have a step. Received: rewards=[]")
        action = self.action.check(actions, length)
        try:
            found = [pick(observations, path) for path in self.paths]
        except (LookupError, TypeError) as error:
            raise ValueError(
                "`observations` must have the parts "
                f"{['/'.join(map(str, path)) for path in self.paths]}. Received: "
                f"{observations!r:.200}"
            ) from error
        parts = [
            column.check(part, length + 1)
            for column, part in zip(self.observations, found, strict=True)
        ]
        for column, rows in zip(self.observations, parts, strict=True):
            column.write(rows)
        self.action.write(action)
        self.reward.write(reward)
        self.episodes.append(
            {
                "length": length,
                "return": total,
                "terminated": bool(terminated),
                "truncated": not terminated if truncated is None else bool(truncated),
                "seed": None if seed is None else int(seed),
                "success": None if success is None else bool(success),
            }
        )

    def close(self) -> None:
        """Finishes the recording; once more, it does nothing.

        Raises:
            ValueError: If it has no episode.
            OSError: If it cannot be written.
        """
        if self.closed:
            return
        if not self.episodes:
            self._abandon()
            raise ValueError(
                f"A recording must have an episode. Received: none in {self.folder}"
            )
        for column in self._columns():
            column.close()
        lines = ",\n".join(json.dumps(episode) for episode in self.episodes)
        head = json.dumps(self.index, indent=2).removesuffix("\n}")
        write_text(self.folder / INDEX, f'{head},\n  "episodes": [\n{lines}\n]\n}}\n')
        self.closed = True

    def _columns(self) -> list["_Column"]:
        return [*self.observations, self.action, self.reward]

    def _abandon(self) -> None:
        """Leaves what has no index; columns without an episode are removed."""
        self.closed = True
        for column in self._columns():
            column.file.close()
            if not self.episodes:
                Path(column.file.name).unlink(missing_ok=True)

    def __enter__(self) -> "RecordingWriter":
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0]:
            self._abandon()
        else:
            self.close()


class _Column:
    """A file of the .npy format that grows; its header is right once it is closed."""

    def __init__(
        self,
        folder: Path,
        name: str,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        space: Any = None,
    ) -> None:
        self.name, self.dtype, self.shape, self.space = name, dtype, shape, space
        self.rows = 0
        self.file = column_file(folder, name).open("wb")
        self._write_header()

    def _write_header(self) -> None:
        # NumPy leaves room in a header for the number of rows to grow.
        self.file.seek(0)
        descr = npy.dtype_to_descr(self.dtype)
        shape = (self.rows, *self.shape)
        npy.write_array_header_1_0(
            self.file, {"descr": descr, "fortran_order": False, "shape": shape}
        )

    def check(self, rows: Any, number: int | None = None) -> np.ndarray:
        """Rows in the column's dtype, with the same values."""
        received = np.asarray(rows)
        number = len(received) if number is None and received.ndim else number
        if received.shape != (number, *self.shape):
            raise ValueError(
                f"`{self.name}` must have the shape ({number}, "
                f"{', '.join(map(str, self.shape))}). Received: shape "
                f"{received.shape}"
            )
        if received.dtype.kind not in "biuf":
            raise ValueError(
                f"`{self.name}` must hold numbers. Received: dtype {received.dtype}"
            )
        if received.dtype.kind == "f" and not np.isfinite(received).all():
            raise ValueError(
                f"`{self.name}` must hold finite numbers. Received: "
                f"{received[~np.isfinite(received)][0]}"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            kept = received.astype(self.dtype, copy=False)
        if not np.can_cast(received.dtype, self.dtype) and (kept != received).any():
            lost = received[kept != received].flat[0]
            raise ValueError(
                f"`{self.name}` must hold numbers of dtype {self.dtype}. Received: "
                f"{lost!r} (of dtype {received.dtype})"
            )
        low, high = (None, None) if self.space is None else categories(self.space)
        if low is not None and (outside := (kept < low) | (kept > high)).any():
            raise ValueError(
                f"`{self.name}` must hold numbers of {self.space}. Received: "
                f"{kept[outside].flat[0]}"
            )
        return kept

    def write(self, rows: np.ndarray) -> None:
        try:
            self.file.write(np.ascontiguousarray(rows).data)
        except OSError as error:
            raise OSError(f"Cannot write {self.file.name}: {error}") from error
        self.rows += len(rows)

    def close(self) -> None:
        self._write_header()
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
