"""Recordings from Farama's Minari data sets, and to them, without loss."""

import contextlib
import importlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from keras import tree

from keras_agalite.environments._packages import require
from keras_agalite.environments.catalog import MODULE, NAMESPACE
from keras_agalite.environments.registry import resolve
from training.recordings.reader import Recordings
from training.recordings.writer import RecordingWriter

# Episodes that are in memory at once while a data set is written.
EPISODES_AT_ONCE = 64


def from_minari(
    dataset: Any,
    folder: str | Path,
    environment: str | None = None,
    environment_arguments: dict[str, Any] | None = None,
) -> Recordings:
    """Writes recordings with the episodes of a Minari data set.

    Observations, actions, rewards, seeds, ends of episodes and the metadata `success`
    are kept; infos are not. What Minari kept as JPEG was changed when it was written:
    the provenance says so.

    Args:
        dataset: A `minari.MinariDataset`, or the id of one that is on this machine.
        folder: Where to write; it must be empty, or not be there.
        environment: What `keras_agalite.environments.make` takes; that of the data
            set if None.
        environment_arguments: Its arguments; likewise.

    Returns:
        The recordings.

    Raises:
        ImportError: If Minari is missing; it says how to install.
        ValueError: If the data set's spaces cannot be recorded, an episode goes on
            after its end, or the arguments of its environment are not in JSON's types.

    Example:
        >>> recordings = from_minari("mujoco/hopper/expert-v0", "hopper")
    """
    minari = _minari()
    if isinstance(dataset, str):
        dataset = minari.load_dataset(dataset)
    spec = dataset.env_spec
    if environment is None and spec is not None:
        environment, environment_arguments = spec.id, spec.kwargs
        if environment.startswith(f"{NAMESPACE}/"):
            environment = f"{MODULE}:{environment}"
    metadata = dataset.storage.metadata
    provenance = {
        "minari": dataset.id,
        "minari_version": dataset.minari_version,
        "jpeg": dataset.storage.jpeg_encoding and _has_image(dataset),
        **{key: metadata[key] for key in KEPT if _is_json(metadata.get(key))},
    }
    with RecordingWriter(
        folder,
        dataset.observation_space,
        dataset.action_space,
        environment or "",
        dict(environment_arguments or {}),
        provenance,
    ) as writer:
        known = dataset.storage.get_episode_metadata(dataset.episode_indices)
        for episode, facts in zip(dataset.iterate_episodes(), known, strict=True):
            _check_ends(episode)
            success = facts.get("success")
            writer.add(
                episode.observations,
                episode.actions,
                episode.rewards,
                bool(episode.terminations[-1]),
                bool(episode.truncations[-1]),
                facts.get("seed"),
                None if success is None else bool(success),
            )
    return Recordings(folder)


def to_minari(recordings: Recordings, dataset_id: str, **metadata: Any) -> Any:
    """Writes a Minari data set with the episodes of recordings.

    Images are kept as they are, never as JPEG. `success`, where it is known, is
    metadata of an episode. `recover_environment()` of the data set makes the
    recordings' environment.

    Args:
        recordings: The episodes.
        dataset_id: Minari's name of the data set, such as `"tmaze/teacher-v0"`.
        **metadata: Further arguments of `minari.create_dataset_from_buffers`, such
            as `author` and `description`.

    Returns:
        The `minari.MinariDataset`.

    Raises:
        ImportError: If Minari is missing; it says how to install.
        ValueError: If there is a data set of this name, or the recordings'
            environment has other spaces than they.

    Example:
        >>> to_minari(Recordings("recordings"), "tmaze/teacher-v0", author="me")
    """
    minari = _minari()
    if "jpeg_encoding" in metadata:
        raise ValueError(
            "Images are written as they are. Received: jpeg_encoding="
            f"{metadata['jpeg_encoding']!r}"
        )
    dataset, numbers = None, iter(range(len(recordings)))
    while chunk := list(itertools.islice(numbers, EPISODES_AT_ONCE)):
        buffers = [_to_buffer(recordings, i) for i in chunk]
        if dataset is not None:
            dataset.update_dataset_from_buffer(buffers)
            continue
        with _made(recordings) as env:
            dataset = minari.create_dataset_from_buffers(
                dataset_id,
                buffers,
                env,
                observation_space=recordings.observation_space,
                action_space=recordings.action_space,
                jpeg_encoding=False,
                **metadata,
            )
    assert dataset is not None  # recordings have an episode
    outcomes = [episode["success"] for episode in recordings.episodes]
    told = [i for i, success in enumerate(outcomes) if success is not None]
    dataset.storage.update_episode_metadata(
        [{"success": outcomes[i]} for i in told], told
    )
    return dataset


# Of a data set's metadata, what says where it comes from.
KEPT = ("algorithm_name", "author", "code_permalink", "description", "requirements")


def _minari() -> Any:
    require("minari", "minari")
    return importlib.import_module("minari")


def _check_ends(episode: Any) -> None:
    early = episode.terminations[:-1] | episode.truncations[:-1]
    if early.any():
        raise ValueError(
            "An episode must end with its last step. Received: episode "
            f"{episode.id}, which ends at step {int(np.argmax(early)) + 1} of "
            f"{len(episode.rewards)}"
        )


def _has_image(dataset: Any) -> bool:
    storage = importlib.import_module("minari.dataset.minari_storage")
    parts = [dataset.observation_space, dataset.action_space]
    while parts:
        part = parts.pop()
        if storage.is_image_space(part):
            return True
        inner = getattr(part, "spaces", ())
        parts += inner.values() if isinstance(inner, dict) else inner
    return False


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return value is not None


@contextlib.contextmanager
def _made(recordings: Recordings) -> Iterator[Any]:
    """The recordings' environment, which Minari asks for its description."""
    if not recordings.environment:
        yield None
        return
    identifier, arguments = resolve(recordings.environment)
    if identifier.startswith(f"{NAMESPACE}/"):
        # So that it is found where nothing has imported this package.
        identifier = f"{MODULE}:{identifier}"
    env = gymnasium.make(
        identifier, **{**arguments, **recordings.environment_arguments}
    )
    with contextlib.closing(env):
        ours = recordings.observation_space, recordings.action_space
        theirs = env.observation_space, env.action_space
        if ours != theirs:
            raise ValueError(
                f"The recordings' environment must have their spaces, {ours}. "
                f"Received: {recordings.environment!r} with {theirs}"
            )
        yield env


def _to_buffer(recordings: Recordings, number: int) -> Any:
    from minari.data_collector import EpisodeBuffer

    episode = recordings.episode(number)
    length = len(episode.rewards)
    last = np.arange(length) == length - 1
    return EpisodeBuffer(
        id=number,
        seed=episode.seed,
        observations=tree.map_structure(np.asarray, episode.observations),
        actions=np.asarray(episode.actions),
        rewards=np.asarray(episode.rewards),
        terminations=last & episode.terminated,
        truncations=last & episode.truncated,
    )
