"""Finished runs: what they scored, greedy, sampled, and beside random actions."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_agalite.environments.registry import resolve
from training.atomic_write import write_text
from training.recipe import Recipe, load_recipe
from training.runs.folder import runs_of


@dataclass(frozen=True)
class FinishedRun:
    """A run that has been evaluated.

    Args:
        folder: Its folder.
        recipe: Its recipe.
    """

    folder: Path
    recipe: Recipe

    @property
    def task(self) -> str:
        """The environment and its arguments, in words."""
        arguments = ", ".join(
            f"{k} {v}" for k, v in self.recipe.environment_arguments.items()
        )
        return self.recipe.environment + (f" ({arguments})" if arguments else "")

    @property
    def environment_id(self) -> str:
        return resolve(self.recipe.environment)[0]

    def evaluation(self, actions: str | None = None) -> dict[str, Any]:
        """The evaluation with `actions`: "greedy", "sampled" or "random".

        None means those that the run was evaluated with.

        What training has not measured is measured now, and kept in the run's folder
        until the run is continued.
        """
        trained = json.loads((self.folder / "evaluation.json").read_text())
        if actions in (None, trained.get("actions", "greedy")):
            return trained
        file, steps = self.folder / f"evaluation_{actions}.json", "trained_steps"
        if file.is_file():
            kept = json.loads(file.read_text())
            same = (steps, "episodes", "seed")
            if all(kept.get(key) == trained.get(key) for key in same):
                return kept
        result = {**self._measure(actions), steps: trained.get(steps)}
        write_text(file, json.dumps(result, indent=2) + "\n")
        return result

    def policy(self) -> Any:
        from keras_agalite.models import Policy

        return Policy.from_preset(self.folder / "preset")

    def _measure(self, actions: str) -> dict[str, Any]:
        from training.evaluation.evaluate import evaluate_recipe

        policy = None if actions == "random" else self.policy()
        return evaluate_recipe(policy, self.recipe, sampled=actions == "sampled")


def finished_runs(folders: list[Path]) -> list[FinishedRun]:
    """The runs of folders, each of which is a run or a sweep.

    Raises:
        ValueError: If one of them is not finished, or has no environment.
    """
    runs = [run for folder in folders for run in runs_of(folder)]
    for run in runs:
        needed = [run / "recipe.toml", run / "evaluation.json", run / "preset"]
        missing = [path.name for path in needed if not path.exists()]
        if missing:
            raise ValueError(
                "Expected finished runs, or sweeps of them. Received: "
                f"{run}, without {', '.join(missing)}"
            )
    found = [FinishedRun(run, load_recipe(run / "recipe.toml")) for run in runs]
    for run in found:
        if not run.recipe.environment:
            raise ValueError(
                "Expected runs that were evaluated. Received: "
                f"{run.folder}, whose recipe has no environment"
            )
    return found


def grouped(runs: list[FinishedRun], key: str) -> dict[str, list[FinishedRun]]:
    """Runs by what their recipes say for a key.

    Raises:
        ValueError: If there is no such key.
    """
    if key not in Recipe.__dataclass_fields__:
        raise ValueError(
            f"`--by` must be a key of a recipe, one of "
            f"{', '.join(Recipe.__dataclass_fields__)}. Received: --by {key}"
        )
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        groups.setdefault(str(getattr(run.recipe, key)), []).append(run)
    return groups
