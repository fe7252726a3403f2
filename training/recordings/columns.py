"""The files of a recording: a column of the .npy format each, and an index.

A folder holds

- `observation.npy`, or one `observation_<i>.npy` for each part of a Dict or Tuple (Dict
  keys in sorted order): `length + 1` rows an episode, the last observation included;
- `action.npy` and `reward.npy` (float64): `length` rows an episode;
- `episodes.json`: spaces, environment, provenance, and an entry for each episode. It is
  written last: a folder without it is not finished.
"""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from keras_agalite.models.spaces import leaves, space_to_config

INDEX = "episodes.json"
FORMAT = 1
REWARD = ("reward", np.dtype(np.float64), ())


def describe_columns(
    observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
) -> tuple[list[Any], Any]:
    """The columns of observations, in the order of `leaves`, and that of actions.

    Returns:
        `(observation columns, action column)`, each `(name, dtype, shape of a row)`.

    Raises:
        ValueError: If a space cannot be recorded; with the reason.
    """
    parts = leaves(observation_space)
    space_to_config(action_space)
    single = len(parts) == 1 and not parts[0][0]
    observations = [
        ("observation" if single else f"observation_{i}", *_rows(part))
        for i, (_, part) in enumerate(parts)
    ]
    if isinstance(action_space, gymnasium.spaces.Dict | gymnasium.spaces.Tuple):
        raise ValueError(
            "`action_space` must be one array of numbers to be recorded: Box, "
            "Discrete, MultiBinary or MultiDiscrete. Received: action_space="
            f"{action_space}"
        )
    return observations, ("action", *_rows(action_space))


def column_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.npy"


def _rows(space: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:
    return np.dtype(space.dtype), tuple(space.shape)
