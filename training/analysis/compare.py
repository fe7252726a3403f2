"""Runs compared: interquartile means, intervals, and who is likely better."""

import itertools
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from training.analysis.estimates import (
    LEVEL,
    RESAMPLES,
    Estimate,
    estimate_improvement,
    estimate_mean,
)
from training.analysis.results import FinishedRun, grouped

ACTIONS = ("greedy", "sampled")
REFERENCES = Path(__file__).parent / "references.toml"


def compare(
    runs: list[FinishedRun], by: str = "memory", score: str | None = None
) -> dict[str, Any]:
    """Compares groups of runs; a training seed's mean over episodes is one score.

    Args:
        runs: The runs.
        by: Key of the recipe that separates the groups.
        score: "success_rate" or "mean_return"; success where all report it if None.

    Returns:
        A dict with `tasks` (random and published scores of each), `groups` (for greedy
        and sampled actions `value`, `low`, `high` and the `scores`) and `improvement`
        (for pairs of groups, the probability that the first is better).

    Raises:
        ValueError: If a group lacks a task that another has, or returns of several
            tasks cannot be put on one scale.
    """
    groups = grouped(runs, by)
    tasks = list(dict.fromkeys(run.task for run in runs))
    for name, members in groups.items():
        missing = set(tasks) - {run.task for run in members}
        if missing:
            raise ValueError(
                f"Every group needs a run of every task. Received: {by}={name} without "
                f"{', '.join(sorted(missing))}"
            )
    if score is None:
        reported = all("success_rate" in run.evaluation("greedy") for run in runs)
        score = "success_rate" if reported else "mean_return"
    about = {task: _about(_of(runs, task)[0], score) for task in tasks}
    scale = _scale(about, score)
    table: dict[str, Any] = {name: {} for name in groups}
    improvement = []
    for actions in ACTIONS:
        scores = {
            name: [
                scale(
                    task, [_score(r, actions, score) for r in members if r.task == task]
                )
                for task in tasks
            ]
            for name, members in groups.items()
        }
        for name, values in scores.items():
            table[name][actions] = {
                **estimate_mean(values)._asdict(),
                "scores": {t: v.tolist() for t, v in zip(tasks, values, strict=True)},
            }
        for one, other in itertools.combinations(groups, 2):
            estimate: Estimate = estimate_improvement(scores[one], scores[other])
            pair = {"better": one, "worse": other, "actions": actions}
            improvement.append({**pair, **estimate._asdict()})
    return {
        "by": by,
        "score": score,
        "normalized": len(tasks) > 1 and score == "mean_return",
        "unit": "a training seed",
        "level": LEVEL,
        "resamples": RESAMPLES,
        "tasks": about,
        "groups": table,
        "improvement": improvement,
    }


def _of(runs: list[FinishedRun], task: str) -> list[FinishedRun]:
    return [run for run in runs if run.task == task]


def _score(run: FinishedRun, actions: str, score: str) -> float:
    evaluation = run.evaluation(actions)
    if score not in evaluation:
        raise ValueError(
            f"Expected runs whose evaluation reports `{score}`. Received: {run.folder}"
        )
    return float(evaluation[score])


def _about(run: FinishedRun, score: str) -> dict[str, Any]:
    """What random actions score in a run's task, and what others published."""
    known = tomllib.loads(REFERENCES.read_text()).get(run.environment_id, [])
    return {
        "random": _score(run, "random", score),
        **{row["who"]: row[score] for row in known if score in row},
    }


def _scale(about: dict[str, Any], score: str) -> Any:
    """What makes scores of several tasks comparable: 0 is random, 1 is human."""
    if len(about) == 1 or score == "success_rate":
        return lambda task, values: np.array(values)
    without = [task for task, known in about.items() if "human" not in known]
    if without:
        raise ValueError(
            "Returns of several tasks are compared where a human's score is known. "
            f"Received: {', '.join(without)}; compare one task at a time"
        )

    def normalized(task: str, values: list[float]) -> np.ndarray:
        low, high = about[task]["random"], about[task]["human"]
        return (np.array(values) - low) / (high - low)

    return normalized
