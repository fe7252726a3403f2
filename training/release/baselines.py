"""What a policy has to be better than before its weights are released."""

from pathlib import Path
from typing import Any

import numpy as np

from training.analysis.estimates import mean_interval
from training.analysis.results import FinishedRun, finished_runs
from training.evaluation.validation import SCORES
from training.recipe import Recipe, load_recipe

# Score -> its values in an evaluation, one an episode.
VALUES = {"success_rate": "successes", "mean_return": "returns"}
RANDOM, MEMORYLESS = "random", "memoryless"
RECIPES = Path(__file__).parents[1] / "recipes"
# Of a recipe without a memory these are its own; the settings are told on the card.
SETTINGS = ("initial_preset", "memory_arguments", "policy_arguments")
OWN = {"name", "memory", "seed", *SETTINGS}


def intervals(evaluations: list[dict[str, Any]]) -> dict[str, list[float]]:
    """95% bootstrap intervals of means over training seeds, and episodes of each."""
    return {
        key: mean_interval(np.array([e[values] for e in evaluations], float))
        for key, values in VALUES.items()
        if all(values in e for e in evaluations)
    }


def baselines(run: FinishedRun, memoryless: Path) -> dict[str, Any]:
    """The scores of random actions and of a policy without a memory.

    Args:
        run: The policy's run, whose episodes random actions play.
        memoryless: The run, or the sweep, of its recipe with the memory `memoryless`.

    Returns:
        For `random` and `memoryless`, means and `intervals` of the scores; for
        `memoryless` also the `settings` that it has besides its memory, if any.

    Raises:
        ValueError: If the second run is not finished, or not one of the same recipe.
    """
    runs = finished_runs([memoryless])
    for other in runs:
        _check_same(run.recipe, other)
    evaluations = [other.evaluation() for other in runs]
    return {
        RANDOM: _summary([run.evaluation(RANDOM)]),
        MEMORYLESS: {
            **_summary(evaluations),
            "trained_steps": evaluations[0]["trained_steps"],
            "training_seeds": len(evaluations),
            **_settings(run.recipe.name, run.folder, runs[0].recipe),
        },
    }


def not_beaten(evaluation: dict[str, Any]) -> list[str]:
    """The baselines above that the policy is not better than.

    It is better if the interval of one of its scores is above theirs, and that of none
    below: in an environment in which nobody succeeds the returns decide.

    Args:
        evaluation: With `baselines` and `intervals`.
    """
    return [
        name
        for name, baseline in evaluation["baselines"].items()
        if not _is_better(evaluation["intervals"], baseline["intervals"])
    ]


def _is_better(mine: dict[str, Any], theirs: dict[str, Any]) -> bool:
    above = any(mine[key][0] > theirs[key][1] for key in mine)
    below = any(mine[key][1] < theirs[key][0] for key in mine)
    return above and not below


def _settings(name: str, folder: Path, other: Recipe) -> dict[str, Any]:
    """What the recipe needs to be `other`, besides `memory=memoryless`."""
    file = RECIPES / f"{name}.toml"
    file = file if file.is_file() else folder / "recipe.toml"
    alone = vars(load_recipe(file, [f"memory={MEMORYLESS}"]))
    changed = {k: vars(other)[k] for k in SETTINGS if vars(other)[k] != alone[k]}
    return {"settings": changed} if changed else {}


def _summary(evaluations: list[dict[str, Any]]) -> dict[str, Any]:
    first = evaluations[0]
    return {
        "episodes": first["episodes"],
        "seed": first["seed"],
        "actions": first["actions"],
        **{
            key: float(np.mean([e[key] for e in evaluations]))
            for key in SCORES
            if key in first
        },
        "intervals": intervals(evaluations),
    }


def _check_same(recipe: Recipe, other: FinishedRun) -> None:
    ours, theirs = vars(recipe), vars(other.recipe)
    changed = sorted(key for key in ours if ours[key] != theirs[key])
    if other.recipe.memory != MEMORYLESS or set(changed) - OWN:
        raise ValueError(
            "`--memoryless` must be a run of the same recipe with memory=memoryless. "
            f"Received: {other.folder} with memory={other.recipe.memory}, and other "
            f"values of {', '.join(changed)}"
        )
