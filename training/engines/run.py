"""A training run: what is the same whichever engine learns."""

import abc
import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import keras
import numpy as np

from training.evaluation.evaluate import check_evaluation
from training.evaluation.validation import Validation
from training.evaluation.video import check_video
from training.learning.policy import check_policy, make_policy
from training.recipe import Recipe
from training.runs.checkpoints import Checkpoints
from training.runs.folder import (
    check_folder,
    check_writable,
    open_folder,
    write_result,
)
from training.runs.footprint import check_ram
from training.runs.lock import FolderLock
from training.runs.session import Session

# Waits for an iteration and gives its metrics (means over minibatches), the episodes
# that ended in it, and the seconds that its parts took, by the name of their speed.
Report = Callable[[], tuple[dict[str, float], list[dict[str, Any]], dict[str, float]]]


class Run(abc.ABC):
    """One training run: made, restored, trained and finished.

    An engine gives the hooks: `spaces`, `build`, `begin_episodes`, `iterate`,
    `arrays`, `restore`, `close_environments`, and where it needs them `settings`,
    `update_policy` and `interrupted`.

    Args:
        recipe: The recipe.
        run_dir: Folder of the run. Nothing is written before all can be built.
        video: Whether an episode is to be drawn in the end.

    Attributes:
        policy: The policy that is trained.
        step: Environment steps done.
        is_chief: Whether this process shows and writes; others only help it.
        overlaps: Whether an iteration goes on in the background while the next one is
            begun: its report is then read one iteration later.

    Raises:
        ValueError: If the folder holds another run, a part cannot be built, saved or
            evaluated, or needs more memory than there is.
        TrainingError: If another process trains in the folder.
        OSError: If the folder cannot be written.
    """

    is_chief = True
    overlaps = False

    def __init__(self, recipe: Recipe, run_dir: Path, video: bool = False) -> None:
        # All that can end a run is looked for before its first step, what costs least
        # first.
        check_folder(recipe, run_dir)
        check_writable(run_dir)
        check_policy(recipe)
        self.recipe = recipe
        self.run_dir = run_dir
        self.step = 0
        # Each process of several keeps it: the folder changes while the chief writes.
        self.saved_step: int | None = None
        self.session: Any = None
        self.lock: FolderLock | None = None
        self.policy = make_policy(recipe, *self.spaces())
        check_ram(self.policy, recipe)
        if video:
            check_video(recipe)
        check_evaluation(recipe, self.policy)
        self.validation = Validation(recipe)
        self.build()
        try:
            if self.is_chief:
                self._open_folder()
            folder = run_dir / "checkpoints"
            self.checkpoints = Checkpoints(folder, recipe.checkpoints_kept)
            if found := self.checkpoints.restore():
                self.step, arrays = found
                self.saved_step = self.step
                self.restore(arrays)
                self.validation.restore(arrays)
        except BaseException:
            self.close()
            raise

    @classmethod
    @contextlib.contextmanager
    def settings(cls) -> Iterator[None]:
        """What a run is made and trained in, whatever the user's settings are."""
        floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
        try:
            yield
        finally:
            keras.config.set_floatx(floatx)
            keras.config.set_dtype_policy(policy)

    @abc.abstractmethod
    def spaces(self) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any]]:
        """The spaces of observations and actions of one environment."""

    @abc.abstractmethod
    def build(self) -> None:
        """Makes the environments and the learner around `policy`."""

    @abc.abstractmethod
    def begin_episodes(self) -> None:
        """Begins episodes where a checkpoint does not hold the environments.

        They are seeded by the recipe's seed and the step.
        """

    @abc.abstractmethod
    def iterate(self) -> Report:
        """Collects one sequence in each environment and learns from them."""

    @abc.abstractmethod
    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that a run goes on from, by name."""

    @abc.abstractmethod
    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes over what `arrays` gave."""

    def update_policy(self) -> None:  # noqa: B027
        """Brings what was learnt into `policy`, where it is not there anyway."""

    @property
    def interrupted(self) -> bool:
        """Whether a signal came: the loop is left after the same iteration by all."""
        return self.session.interrupt.signal_number is not None

    @abc.abstractmethod
    def close_environments(self) -> None:
        """Ends the environments and their processes."""

    def close(self) -> None:
        """Ends what a run holds: environments, and the lock on its folder."""
        self.close_environments()
        if self.lock:
            self.lock.close()
            self.lock = None

    def _open_folder(self) -> None:
        self.lock = FolderLock(self.run_dir)
        check_folder(self.recipe, self.run_dir)  # it may have been made meanwhile
        open_folder(self.recipe, self.run_dir)

    @property
    def curve(self) -> Any:
        return self.session.curve

    def train(self, wandb: str | None = None) -> None:
        """Runs iterations until the recipe's steps are done, or a signal comes.

        Args:
            wandb: Project of Weights & Biases, if metrics go there.
        """
        recipe, size = self.recipe, self.recipe.steps_per_iteration
        with Session(
            recipe, self.run_dir, self.step, self.checkpoints, self.is_chief, wandb
        ) as self.session:
            self._begin()
            report: Report | None = None
            while self.step < recipe.total_steps and not self.interrupted:
                before, report = report, self.iterate()
                if before:
                    self._log(self.step, before)
                self.step += size
                interval = recipe.checkpoint_interval
                due = self.step // interval > (self.step - size) // interval
                validated = self.validation.is_due(self.step - size, self.step)
                if due or validated or not self.overlaps:
                    self._log(self.step, report, validated)
                    report = None
                if due:
                    self._save()
                    self._begin()
            if report:
                self._log(self.step, report)
            if self.step != self.saved_step:
                self._save()
            if self.interrupted:
                self.session.interrupt.raise_if_asked()

    def finish(self) -> dict[str, Any]:
        """Writes the preset, its evaluation and the plot.

        Where the run was validated, the preset is its best policy, and the last one is
        written beside it.

        Returns:
            The evaluation; in processes other than the chief, nothing.
        """
        self.close_environments()
        self.update_policy()
        if not self.is_chief:
            return {}
        self.curve.plot(self.run_dir / "learning_curve.png", self.recipe.name)
        return write_result(
            self.policy, self.recipe, self.run_dir, self.step, self.validation
        )

    def _save(self) -> None:
        arrays = {**self.arrays(), **self.validation.arrays()}
        self.session.save(self.step, arrays)
        self.saved_step = self.step

    def _begin(self) -> None:
        self.begin_episodes()
        self.clock = time.perf_counter()

    def _log(self, step: int, report: Report, validated: bool = False) -> None:
        metrics, episodes, seconds = report()
        now = time.perf_counter()
        seconds = {"steps_per_second": now - self.clock, **seconds}
        self.clock = now
        size = self.recipe.steps_per_iteration
        speed = {name: size / max(x, 1e-9) for name, x in seconds.items()}
        self.session.check(step, metrics)
        if validated:
            self.update_policy()
            if self.is_chief:
                metrics = {**metrics, **self.validation.run(self.policy, step)}
            self.clock = time.perf_counter()
        self.session.log(step, speed, metrics, episodes)
