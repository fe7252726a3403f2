"""Returns by episode of a trial: which policies learn within it."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from keras_agalite.evaluation import Step, rollout
from keras_agalite.previous import END
from training.analysis.estimates import LEVEL, estimate_mean
from training.analysis.results import FinishedRun, grouped
from training.recipe import Recipe


def episode_returns(
    policy: Any, recipe: Recipe, trials: int, sampled: bool = False
) -> np.ndarray:
    """The return of each episode of a policy's trials.

    Args:
        policy: The policy; None for actions that are drawn evenly.
        recipe: Says which environment, and the seed of the first trial.
        trials: Number of trials.
        sampled: Draw actions instead of taking the most likely ones.

    Returns:
        An array of shape `(trials, episodes)`.

    Raises:
        ValueError: If the environment has no trials of several episodes.
    """
    returns: list[list[float]] = []
    rows: list[list[float]] = []  # of the trials that are played now
    running = np.zeros(0, bool)

    def on_step(step: Step) -> None:
        nonlocal rows, running
        if not isinstance(step.observation, dict) or END not in step.observation:
            raise ValueError(
                "Expected an environment whose episodes are trials, with "
                f"`{END}` in the observation. Received: environment="
                f"{recipe.environment!r}"
            )
        if step.action is None:
            rows = [[0.0] for _ in step.running]
            returns.extend(rows)
        else:
            ends = step.observation[END][:, 0] > 0
            for row in np.nonzero(running)[0]:
                rows[row][-1] += float(step.reward[row])
                if ends[row] and step.running[row]:
                    rows[row].append(0.0)
        running = step.running

    rollout(
        policy,
        recipe.environment,
        trials,
        recipe.evaluation_seed,
        deterministic=not sampled,
        environment_arguments=recipe.environment_arguments,
        on_step=on_step,
    )
    episodes = [len(trial) for trial in returns[:trials]]
    if len(set(episodes)) > 1:
        raise ValueError(
            "Expected trials of equally many episodes. Received: trials of "
            f"{min(episodes)} to {max(episodes)} in {recipe.environment}"
        )
    return np.array(returns[:trials])


def compare_trials(
    runs: list[FinishedRun],
    by: str = "memory",
    trials: int | None = None,
    sampled: bool = False,
) -> dict[str, Any]:
    """Compares groups of runs in one environment, episode by episode of a trial.

    Args:
        runs: The runs.
        by: Key of the recipe that separates the groups.
        trials: Number of trials; `evaluation_episodes` of the recipes if None.
        sampled: Draw actions instead of taking the most likely ones.

    Returns:
        A dict with `groups`: for each, and for random actions, `value`, `low` and
        `high` by episode (interquartile means over training seeds, and their
        intervals), and `scores`, the mean returns by seed and episode.

    Raises:
        ValueError: If the runs are of several environments, or of one without trials.
    """
    tasks = sorted({run.task for run in runs})
    if len(tasks) != 1:
        raise ValueError(f"Expected runs of one environment. Received: {tasks}")

    def means(policy: Any, recipe: Recipe) -> list[float]:
        number = recipe.evaluation_episodes if trials is None else trials
        found = episode_returns(policy, recipe, number, sampled)
        return [float(mean) for mean in found.mean(axis=0)]

    scores = {
        name: [means(run.policy(), run.recipe) for run in members]
        for name, members in grouped(runs, by).items()
    }
    scores["random"] = [means(None, runs[0].recipe)]
    table = {}
    for name, rows in scores.items():
        episodes = [estimate_mean([np.array(x)]) for x in zip(*rows, strict=True)]
        table[name] = {
            "value": [e.value for e in episodes],
            "low": [e.low for e in episodes],
            "high": [e.high for e in episodes],
            "scores": rows,
        }
    return {
        "task": tasks[0],
        "by": by,
        "actions": "sampled" if sampled else "greedy",
        "unit": "a training seed",
        "level": LEVEL,
        "groups": table,
    }


def text(result: dict[str, Any]) -> str:
    """The interquartile means as a table in Markdown, one line a group."""
    groups = result["groups"]
    episodes = range(1, 1 + len(groups["random"]["value"]))
    lines = [
        f"| {result['by']} | seeds | " + " | ".join(map(str, episodes)) + " |",
        "|---" * (2 + len(episodes)) + "|",
    ]
    for name, group in groups.items():
        cells = [
            f"{value:.2f} ({low:.2f} to {high:.2f})"
            for value, low, high in zip(
                group["value"], group["low"], group["high"], strict=True
            )
        ]
        lines.append(f"| {name} | {len(group['scores'])} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(results: list[dict[str, Any]], file: Path) -> None:
    """Draws the return over the episodes of a trial, a panel for each environment."""
    figure, panels = plt.subplots(
        1, len(results), figsize=(5 * len(results), 3.6), layout="constrained"
    )
    for axes, result in zip(np.atleast_1d(panels), results, strict=True):
        for name, group in result["groups"].items():
            episodes = range(1, 1 + len(group["value"]))
            own = {"color": "gray", "ls": ":"} if name == "random" else {}
            style = {"marker": "o", "label": name, **own}
            (line,) = axes.plot(episodes, group["value"], **style)
            low, high, color = group["low"], group["high"], line.get_color()
            axes.fill_between(episodes, low, high, alpha=0.15, color=color)
        axes.set(title=result["task"], xlabel="episode of the trial")
        axes.set_xticks(list(episodes))
        axes.grid(alpha=0.3)
    np.atleast_1d(panels)[0].set_ylabel("return of the episode")
    axes.legend(fontsize="small")
    figure.savefig(file, dpi=110)
    plt.close(figure)
