"""A comparison as text and as a plot."""

from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

HEADER = "group", "seeds", "actions", "IQM", "95% interval"


def table(comparison: dict[str, Any]) -> list[tuple[str, ...]]:
    """Rows of the table, the header first."""
    rows = [HEADER]
    for name, group in comparison["groups"].items():
        for actions, result in group.items():
            seeds = "+".join(str(len(s)) for s in result["scores"].values())
            interval = f"{result['low']:.3f} to {result['high']:.3f}"
            rows.append((name, seeds, actions, f"{result['value']:.3f}", interval))
    return rows


def remarks(comparison: dict[str, Any]) -> list[str]:
    """What the table does not say: random, published scores, who is better."""
    lines = []
    for task, known in comparison["tasks"].items():
        scores = ", ".join(f"{who} {score:.3f}" for who, score in known.items())
        lines.append(f"{comparison['score']} in {task}: {scores}")
    for pair in comparison["improvement"]:
        lines.append(
            f"a seed of {pair['better']} is better than one of {pair['worse']} with "
            f"probability {pair['value']:.2f} ({pair['low']:.2f} to "
            f"{pair['high']:.2f}), {pair['actions']}"
        )
    return lines


def text(comparison: dict[str, Any]) -> str:
    rows = table(comparison)
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADER))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join([line.rstrip() for line in [*lines, "", *remarks(comparison)]])


def plot(comparison: dict[str, Any], file: Any) -> None:
    """Draws each group's interquartile mean with its interval, and known scores."""
    groups = comparison["groups"]
    figure, axes = plt.subplots(
        figsize=(7, 1.2 + 0.55 * len(groups)), layout="constrained"
    )
    colors = {"greedy": "tab:blue", "sampled": "tab:orange"}
    for i, group in enumerate(groups.values()):
        for shift, (actions, result) in zip((-0.12, 0.12), group.items(), strict=True):
            y, value = i + shift, result["value"]
            axes.plot([result["low"], result["high"]], [y, y], color=colors[actions])
            label = actions if i == 0 else None
            axes.plot(value, y, "o", color=colors[actions], label=label)
    if len(comparison["tasks"]) == 1:
        (known,) = comparison["tasks"].values()
        for who, style in zip(known, (":", "--", "-."), strict=False):
            axes.axvline(known[who], color="gray", linestyle=style, label=who)
    axes.set_yticks(range(len(groups)), list(groups))
    axes.invert_yaxis()
    name = comparison["score"].replace("_", " ")
    scale = ", 0 random, 1 human" if comparison["normalized"] else ""
    axes.set_xlabel(f"{name}{scale}: IQM over training seeds, 95% interval")
    axes.grid(alpha=0.3, axis="x")
    axes.legend(fontsize="small", loc="best")
    figure.savefig(file, dpi=120)
    plt.close(figure)
