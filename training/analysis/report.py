"""A web page about runs, in one file that needs no other."""

import base64
import html
import io
import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from training.analysis.compare import compare
from training.analysis.estimates import band
from training.analysis.memory_panel import caption, play, write_gif
from training.analysis.results import FinishedRun, grouped
from training.analysis.views import plot, remarks, table
from training.atomic_write import write_text
from training.runs.progress import read_curve

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import EngFormatter

POINTS = 200
EPISODES = 2  # in the gallery, of each group
CURVES = {
    "success_rate": "success rate",
    "mean_return": "mean return",
    "validation_success_rate": "success rate of the validation",
    "validation_mean_return": "mean return of the validation",
    "entropy": "entropy",
    "explained_variance": "explained variance",
}
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; color: #222; background: #fff }
table { border-collapse: collapse } td, th { padding: .2rem .8rem; text-align: left;
  border-bottom: 1px solid #ddd } img { max-width: 100% } pre { background: #f6f6f6;
  padding: .8rem; overflow: auto; font-size: 13px } figure { margin: 0 0 1rem }
figcaption { font-size: 14px; color: #555 }
"""


def write_report(runs: list[FinishedRun], by: str, file: Path) -> None:
    """Writes the page: scores, curves, episodes with their memory, recipes, machine.

    Args:
        runs: Finished runs.
        by: Key of the recipe that separates groups.
        file: The page.

    Raises:
        ValueError: As `compare`.
    """
    comparison = compare(runs, by)
    groups = grouped(runs, by)
    tasks = ", ".join(comparison["tasks"])
    sections = [
        _scores(comparison),
        "<h2>Learning</h2>",
        _image(_png(lambda out: draw_curves(groups, out)), "Learning curves"),
        "<p>Means over training seeds of the episodes that ended in the last five "
        "iterations; the bands are 95% bootstrap intervals over the seeds.</p>",
        _chosen(groups),
        "<h2>Episodes</h2>",
        "<p>Played by the first seed of each group with its most likely actions. "
        "Beside each: the Euclidean norm of every state tensor of the memory, and "
        "below it what the memory gives to the actor and the critic at each step.</p>",
        *(_gallery(name, members[0]) for name, members in groups.items()),
        "<h2>Recipes</h2>",
        *(_recipe(name, members) for name, members in groups.items()),
        "<h2>Machine and versions</h2>",
        _machine(runs),
    ]
    title = html.escape(f"{' and '.join(groups)} in {tasks}")
    body = "\n".join([f"<h1>{title}</h1>", *sections])
    write_text(
        file,
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body>{body}</body>"
        "</html>\n",
    )


def draw_curves(groups: dict[str, list[FinishedRun]], out: Any) -> None:
    """Draws what all runs recorded of `CURVES`, with bands over seeds."""
    curves = {
        name: [read_curve(run.folder / "curve.jsonl") for run in runs]
        for name, runs in groups.items()
    }
    rows = [row for many in curves.values() for one in many for row in one]
    keys = [key for key in CURVES if any(row.get(key) is not None for row in rows)]
    figure, all_axes = plt.subplots(
        (len(keys) + 1) // 2, 2, figsize=(9, 3 * ((len(keys) + 1) // 2)),
        layout="constrained", squeeze=False,
    )  # fmt: skip
    for axes in all_axes.flat[len(keys) :]:
        axes.remove()
    for key, axes in zip(keys, all_axes.flat, strict=False):
        for name, many in curves.items():
            steps, values = on_one_grid(many, key)
            if not len(values):
                continue
            (line,) = axes.plot(steps, values.mean(axis=0), label=name)
            low, high = band(values)
            axes.fill_between(steps, low, high, alpha=0.2, color=line.get_color())
        axes.set_title(CURVES[key], fontsize="medium")
        axes.set_xlabel("environment steps")
        axes.xaxis.set_major_formatter(EngFormatter())
        axes.grid(alpha=0.3)
    all_axes.flat[0].legend()
    figure.savefig(out, dpi=100)
    plt.close(figure)


def on_one_grid(
    curves: list[list[dict[str, Any]]], key: str
) -> tuple[np.ndarray, np.ndarray]:
    """A metric of several curves at the same steps, as far as the shortest goes.

    Returns:
        `(steps, values)`, of shapes `(points,)` and `(curves, points)`.
    """
    pairs = []
    for rows in curves:
        known = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
        if known:
            steps, values = np.array(known, float).T
            window = min(5, len(values))
            smooth = np.convolve(values, np.ones(window) / window, "valid")
            pairs.append((steps[window - 1 :], smooth))
    if not pairs:
        return np.zeros(0), np.zeros((0, 0))
    first = max(steps[0] for steps, _ in pairs)
    grid = np.linspace(first, min(steps[-1] for steps, _ in pairs), POINTS)
    return grid, np.array([np.interp(grid, steps, v) for steps, v in pairs])


def _scores(comparison: dict[str, Any]) -> str:
    header, *rows = table(comparison)
    cells = [
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    ]
    head = "".join(f"<th>{cell}</th>" for cell in header)
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in remarks(comparison))
    return (
        "<h2>Scores</h2><p>Interquartile mean of "
        f"{comparison['score'].replace('_', ' ')} over training seeds, with stratified "
        f"bootstrap intervals.</p><table><tr>{head}</tr>{''.join(cells)}</table>"
        f"<ul>{lines}</ul>" + _image(_png(lambda out: plot(comparison, out)), "Scores")
    )


def _chosen(groups: dict[str, list[FinishedRun]]) -> str:
    """Which policy of each run was chosen, where one was."""
    lines = []
    for name, runs in groups.items():
        for run in runs:
            evaluation = json.loads((run.folder / "evaluation.json").read_text())
            if chosen := evaluation.get("validation"):
                lines.append(
                    f"<li>{html.escape(name)}, seed {run.recipe.seed}: the policy of "
                    f"step {chosen['step']:,} of {evaluation['trained_steps']:,}, "
                    f"{chosen['actions']} actions, with a mean return of "
                    f"{chosen['mean_return']:.3g} in the validation</li>"
                )
    if not lines:
        return ""
    return (
        "<p>Chosen by episodes that no score is measured with:</p>"
        f"<ul>{''.join(lines)}</ul>"
    )


def _gallery(name: str, run: FinishedRun) -> str:
    policy, parts = run.policy(), [f"<h3>{html.escape(name)}</h3>"]
    first = run.recipe.evaluation_seed
    for seed in range(first, first + EPISODES):
        episode, file = play(policy, run.recipe, seed), io.BytesIO()
        write_gif(episode, file)
        parts.append(_image(_uri("gif", file.getvalue()), caption(episode, seed)))
    return "".join(parts)


def _recipe(name: str, runs: list[FinishedRun]) -> str:
    text = html.escape((runs[0].folder / "recipe.toml").read_text())
    seeds = ", ".join(str(run.recipe.seed) for run in runs)
    return (
        f"<details><summary>{html.escape(name)}, seeds {seeds}</summary>"
        f"<pre>{text}</pre></details>"
    )


def _machine(runs: list[FinishedRun]) -> str:
    """The machines that the runs noted, each once."""
    files = [run.folder / "machine.json" for run in runs]
    texts = dict.fromkeys(file.read_text() for file in files if file.is_file())
    if not texts:
        return "<p>The runs did not note it.</p>"
    return "".join(f"<pre>{html.escape(text)}</pre>" for text in texts)


def _image(uri: str, words: str) -> str:
    words = html.escape(words)
    return (
        f'<figure><img src="{uri}" alt="{words}"><figcaption>{words}</figcaption>'
        "</figure>"
    )


def _png(draw: Any) -> str:
    out = io.BytesIO()
    draw(out)
    return _uri("png", out.getvalue())


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
