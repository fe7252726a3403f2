"""Batches of segments of recorded episodes, for learning."""

from typing import Any, NamedTuple

import numpy as np
from keras import tree

from keras_agalite.previous import add_previous, flatten_actions, previous_space
from training.recordings.reader import Recordings


class SegmentBatch(NamedTuple):
    """Segments of shape `(batch, time, ...)`, padded at their ends.

    Attributes:
        observation: Observations; where padded, those of the last step again.
        action: Actions; likewise.
        reward: float32; where padded, 0.
        return_to_go: Sum of the rewards from this step to the end of the episode, not
            of the segment, float32; where padded, 0.
        mask: The step was recorded, bool.
        start: The observation is the first of an episode, bool.
    """

    observation: Any
    action: np.ndarray
    reward: np.ndarray
    return_to_go: np.ndarray
    mask: np.ndarray
    start: np.ndarray


class Segments:
    """Episodes cut into segments of one length, in an order drawn from a seed.

    An episode of `n` steps gives `ceil(n / length)` segments, one after another, the
    last of them padded. An epoch has every segment once, in an order of its own; a
    batch may begin in one epoch and end in the next. Batch `i` depends on nothing but
    the seed and `i`, which is therefore all that a run must keep to go on.

    Args:
        recordings: The episodes.
        length: Steps of a segment; for a policy that reads segments itself, N of its
            segments of K steps.
        batch_size: Segments in a batch.
        seed: Decides the order.
        previous: Add the parts `previous_action` and `previous_reward` to the
            observations, as the wrapper `PreviousActionReward` does.

    Raises:
        ValueError: If a number is not positive, or the observations already have one
            of the two parts.

    Example:
        >>> segments = Segments(Recordings("recordings"), length=30, batch_size=32)
        >>> batch = segments.batch(0)
        >>> batch.mask.shape
        (32, 30)
    """

    def __init__(
        self,
        recordings: Recordings,
        length: int,
        batch_size: int,
        seed: int = 0,
        previous: bool = False,
    ) -> None:
        for name, value in {"length": length, "batch_size": batch_size}.items():
            if value < 1:
                raise ValueError(
                    f"`{name}` must be at least 1. Received: {name}={value!r}"
                )
        if previous:
            previous_space(recordings.observation_space, recordings.action_space)
        self.recordings = recordings
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.previous = previous
        number = -(-recordings.lengths // length)
        # The episode of each segment, and the step of it that comes first.
        self.episode = np.repeat(np.arange(len(recordings)), number)
        before = np.repeat(np.cumsum(number) - number, number)
        self.begin = (np.arange(len(self.episode)) - before) * length
        self._order: tuple[int, np.ndarray] = (-1, self.episode)

    def __len__(self) -> int:
        """Number of segments."""
        return len(self.episode)

    def batch(self, index: int) -> SegmentBatch:
        """Batch number `index`, from 0; there is no last one."""
        places = np.arange(index * self.batch_size, (index + 1) * self.batch_size)
        epochs, places = np.divmod(places, len(self))
        chosen = [
            self._permutation(int(epoch))[places[epochs == epoch]]
            for epoch in np.unique(epochs)
        ]
        return self._read(np.concatenate(chosen))

    def _permutation(self, epoch: int) -> np.ndarray:
        if self._order[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            self._order = epoch, rng.permutation(len(self))
        return self._order[1]

    def _read(self, which: np.ndarray) -> SegmentBatch:
        recordings, episode = self.recordings, self.episode[which]
        last = recordings.lengths[episode][:, None] - 1
        time = self.begin[which][:, None] + np.arange(self.length)
        mask = time <= last
        rows = recordings.first[episode][:, None] + np.minimum(time, last)
        observation = tree.map_structure(
            lambda column: np.asarray(column[rows + episode[:, None]]),
            recordings.observations,
        )
        if self.previous:
            observation = self._add_previous(observation, rows, time, mask)
        return SegmentBatch(
            observation,
            np.asarray(recordings.actions[rows]),
            np.where(mask, recordings.rewards[rows], 0.0).astype(np.float32),
            self._returns_to_go(which) * mask,
            mask,
            time == 0,
        )

    def _returns_to_go(self, which: np.ndarray) -> np.ndarray:
        result = np.zeros((len(which), self.length), np.float32)
        recordings = self.recordings
        for row, i in enumerate(which):
            first, episode = self.begin[i], self.episode[i]
            rest = recordings.rewards[
                recordings.first[episode] + first : recordings.first[episode]
                + recordings.lengths[episode]
            ]
            sums = np.cumsum(rest[::-1])[::-1][: self.length]
            result[row, : len(sums)] = sums
        return result

    def _add_previous(
        self, observation: Any, rows: np.ndarray, time: np.ndarray, mask: np.ndarray
    ) -> dict[str, Any]:
        known = ((time > 0) & mask)[..., None]
        before = np.maximum(rows - 1, 0)
        space = self.recordings.action_space
        action = flatten_actions(space, self.recordings.actions[before])
        reward = self.recordings.rewards[before][..., None].astype(np.float32)
        return add_previous(
            observation,
            *(np.where(known, part, np.float32(0)) for part in (action, reward)),
        )
