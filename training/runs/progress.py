"""What a run shows and writes while it goes on: terminal, curve, plot."""

import contextlib
import json
import math
import sys
from collections import deque
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from training.atomic_write import write_text, write_whole
from training.runs.tell import tell


class Curve:
    """Episode statistics over steps: a JSON line an iteration, and the plot.

    Args:
        path: File of the lines. Lines after `step` are dropped, so that a resumed
            run does not repeat them.
        step: Step that the run continues from.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.rows = [row for row in read_curve(path) if row["step"] <= step]
        write_text(path, "".join(json.dumps(row) + "\n" for row in self.rows))

    def add(self, row: dict[str, Any]) -> None:
        """Writes a line.

        Raises:
            OSError: If it cannot be written; the message names the file.
        """
        self.rows.append(row)
        try:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise OSError(f"Cannot write {self.path}: {error}") from error

    def plot(self, path: Path, title: str) -> None:
        """Draws mean return and success over steps.

        Lines are the training episodes, dots the validations.
        """
        figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
        lines = []
        for key, color, axis in (
            ("mean_return", "tab:blue", axes),
            ("success_rate", "tab:orange", axes.twinx()),
        ):
            rows = [row for row in self.rows if row.get(key) is not None]
            label = key.replace("_", " ")
            x, y = [row["step"] for row in rows], [row[key] for row in rows]
            lines += axis.plot(x, y, color=color, label=label)
            dots = [row for row in self.rows if f"validation_{key}" in row]
            axis.plot(
                [row["step"] for row in dots],
                [row[f"validation_{key}"] for row in dots],
                "o",
                color=color,
            )
            axis.set_ylabel(label, color=color)
            if key == "success_rate":
                axis.set_ylim(-0.02, 1.02)
        axes.set_xlabel("environment steps")
        axes.set_title(title)
        axes.grid(alpha=0.3)
        axes.legend(handles=lines, loc="lower right")
        try:
            write_whole(path, lambda file: figure.savefig(file, dpi=120))
        finally:
            plt.close(figure)


class Display:
    """A progress bar; on no terminal, a plain line now and then.

    Args:
        total: Steps of the run.
        start: Steps done already.
        shown: False for a display that shows nothing.
    """

    def __init__(self, total: int, start: int, shown: bool = True) -> None:
        self.total = total
        self.episodes: deque[dict[str, Any]] = deque(maxlen=200)
        self.progress = Progress(
            TextColumn("steps"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            disable=not (shown and sys.stdout.isatty()),
        )
        self.task = self.progress.add_task("", total=total, completed=start, status="")
        self.next_line = start if shown else math.inf

    def __enter__(self) -> "Display":
        self.progress.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        with contextlib.suppress(OSError):  # the terminal may be gone
            self.progress.__exit__(*error)

    def update(
        self, step: int, speed: dict[str, float], episodes: list[dict[str, Any]]
    ) -> None:
        """Shows the step, steps a second and the means over recent episodes."""
        self.episodes.extend(episodes)
        status = describe(speed, summarize(list(self.episodes)))
        self.progress.update(self.task, completed=min(step, self.total), status=status)
        if self.progress.disable and step >= self.next_line:
            tell(f"{step:>10,} / {self.total:,} steps  {status}")
            self.next_line = step + self.total // 20


def describe(speed: dict[str, float], recent: dict[str, Any]) -> str:
    """Speed and episode statistics in a few words; what is not known is left out."""
    text = f"{speed['steps_per_second']:,.0f} steps/s"
    apart = [
        f"{what} {speed[key]:,.0f}"
        for what, key in (
            ("collect", "collect_steps_per_second"),
            ("learn", "learn_steps_per_second"),
        )
        if key in speed
    ]
    if apart:
        text += f" ({', '.join(apart)})"
    if recent["mean_return"] is not None:
        text += f"  return {recent['mean_return']:.2f}"
        text += f"  length {recent['mean_length']:.0f}"
    if recent["success_rate"] is not None:
        text += f"  success {recent['success_rate']:.0%}"
    return text


def read_curve(path: Path) -> list[dict[str, Any]]:
    """The lines of a curve; one that a full disk left half written is no line."""
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def summarize(episodes: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over episodes; None where there is nothing to average."""
    names = {
        "mean_return": "return",
        "mean_length": "length",
        "success_rate": "success",
    }
    values = {k: [e[v] for e in episodes if v in e] for k, v in names.items()}
    means = {k: sum(v) / len(v) if v else None for k, v in values.items()}
    return {"episodes": len(episodes), **means}
