"""Learning from recordings, on every backend.

A run repeats itself: weights, noise and the order of the segments follow from the seed
and the number of the batch, so that a run that is resumed goes on as if it had never
stopped.
"""

import time
from typing import Any

import numpy as np
from keras import ops

from keras_agalite.evaluation import lacks_previous
from keras_agalite.previous import previous_space
from training.engines import run
from training.learning.imitation import Imitation
from training.recordings.reader import Recordings
from training.recordings.segments import Segments


class Run(run.Run):
    """One training run. Its steps are those of the segments, padding included.

    Args:
        recipe: The recipe.
        run_dir: Folder of the run.

    Raises:
        ValueError: If the recordings cannot be read, or a part cannot be built.
    """

    def spaces(self) -> Any:
        recipe = self.recipe
        self.recordings = Recordings(recipe.recordings)
        spaces = self.recordings.observation_space, self.recordings.action_space
        if recipe.previous_action_reward:
            return previous_space(*spaces), spaces[1]
        return spaces

    def build(self) -> None:
        recipe = self.recipe
        self.segments = Segments(
            self.recordings,
            recipe.sequence_length,
            recipe.batch_size,
            recipe.seed,
            lacks_previous(self.policy, self.recordings.observation_space),
        )
        self.learner = Imitation(self.policy, recipe)

    def begin_episodes(self) -> None:
        """There are none: segments follow from the step."""

    def iterate(self) -> run.Report:
        recipe = self.recipe
        begin = time.perf_counter()
        first = self.step // (recipe.batch_size * recipe.sequence_length)
        rows = [
            self.learner.update(self.segments.batch(i), i)
            for i in range(first, first + recipe.batches_per_iteration)
        ]
        metrics = {
            name: float(np.mean([ops.convert_to_numpy(row[name]) for row in rows]))
            for name in rows[0]
        }
        seconds = {"learn_steps_per_second": time.perf_counter() - begin}
        return lambda: (metrics, [], seconds)

    def arrays(self) -> dict[str, np.ndarray]:
        return self.learner.arrays()

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        self.learner.restore(arrays)

    def close_environments(self) -> None:
        """There are none: an evaluation closes its own."""
