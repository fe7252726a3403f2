"""What docs/which_memory.md says of the kept results: text, table, figure."""

import hashlib
import json
from pathlib import Path
from typing import Any

from training.analysis.estimates import estimate_improvement
from training.analysis.which_memory import (
    CELLS,
    MEMORIES,
    OURS,
    POINTS,
    RESAMPLES,
    SEEDS,
    STEPS,
    TASKS,
    Cell,
    estimate,
    runs_of_cell,
    scores,
)
from training.atomic_write import write_whole

FIGURE = "docs/images/which_memory.png"
RIVALS = [name for name in MEMORIES if name.startswith("GTrXL")]
WORKS = {
    "act_1": "a step of 1 environment",
    "act_16": "a step of 16 environments",
    "learn": "learning",
}
PAPER, PAGE = "paper", "page"
SIZES = {PAPER: "the paper's sizes", PAGE: "the sizes of this page"}


def losses(kept: dict[str, Any]) -> str:
    """Where other memories are better than AGaLiTe, as a list; the worst first."""
    lines = [_loss(kept, task) for task in TASKS]
    lines.sort(key=lambda line: line[0])
    return "\n".join(f"- {text}" for _, text in [*lines, (0, _cheaper(kept))])


def table(kept: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows: each memory's scores and costs."""
    head = ["memory", "weights"]
    head += [f"{task}, {_unit(task)}" for task in TASKS]
    head += [f"{name}, AGaLiTe = 1" for name in WORKS.values()] + ["state, bytes"]
    costs = _costs(kept, PAGE)
    rows = []
    for name in MEMORIES:
        cells = [Cell(task, name) for task in TASKS]
        row = [name, f"{cells[0].num_weights():,}"]
        row += [_score(kept, cell) or "not run" for cell in cells]
        cost = costs.get(name)
        row += [f"{cost[work]['ratio']:.2g}" if cost else "" for work in WORKS]
        rows.append([*row, f"{cost['state_bytes']:,}" if cost else ""])
    random = kept["random"]
    known = [f"{random[task]:.2f}" if task in random else "" for task in TASKS]
    return head, [*rows, ["random", "", *known, *[""] * (len(WORKS) + 1)]]


def claims(kept: dict[str, Any]) -> str:
    """The paper's claims about GTrXL beside what was measured, as a list."""
    steps, states = [], []
    for setting, sizes in SIZES.items():
        costs = _costs(kept, setting)
        for rival in (name for name in RIVALS if name in costs):
            ours, theirs = costs[OURS], costs[rival]
            where = f"with {sizes} and a window of {theirs['window']}"
            saved = [1 - 1 / theirs[work]["ratio"] for work in ("act_1", "act_16")]
            percent = " and ".join(f"{x:.0%}" for x in saved)
            steps.append((all(x >= 0.4 for x in saved), f"{percent} {where}"))
            share = ours["state_bytes"] / theirs["state_bytes"]
            states.append((share < 0.5, f"{share:.0%} {where}"))
    lines = [
        f'"At least 40% cheaper." {_verdict(steps)} AGaLiTe\'s step of 1 and of 16 '
        f"environments costs less than GTrXL's by {_listed(steps)}.",
        f'"Less than half the memory." {_verdict(states)} Of the bytes of GTrXL\'s '
        f"state, AGaLiTe's has {_listed(states)}.",
        f'"Similar or better." {_beside_rivals(kept)}',
    ]
    return "\n".join(f"- {line}" for line in lines)


def progress(kept: dict[str, Any]) -> str:
    """How much of the experiment is done."""
    done = sum(len(scores(kept, cell)[0]) for cell in CELLS)
    number = SEEDS * len(CELLS)
    if done == number:
        return f"All {number} runs are done: {SEEDS} training seeds of each memory."
    return (
        f"**{done} of {number} runs are done** ({len(CELLS)} pairs of a memory and a "
        f"task, {SEEDS} training seeds each). The others are `not run` below; "
        "`python -m benchmarks.which_memory commands` prints what trains them."
    )


def plot(file: Path, kept: dict[str, Any]) -> None:
    """Draws what the training episodes scored, a panel for each task."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    steps = [STEPS * (part + 0.5) / POINTS / 1e6 for part in range(POINTS)]
    figure, panels = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    for task, axes in zip(TASKS, panels.flat, strict=True):
        for number, name in enumerate(MEMORIES):
            for seed, run in enumerate(runs_of_cell(kept, Cell(task, name))):
                values = [float("nan") if y is None else y for y in run["curve"]]
                label = None if seed else name
                axes.plot(steps, values, color=f"C{number}", label=label, alpha=0.8)
        if task in kept["random"]:
            axes.axhline(kept["random"][task], color="gray", ls=":", label="random")
        axes.set(title=task, ylabel=_unit(task), xlabel="million steps", xlim=(0, 1))
        axes.set_ylim((0, 1.02) if _unit(task) == "success" else (-1, 1))
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize="small")
        else:
            axes.text(0.5, 0, "not run", ha="center")
    metadata = {"Description": fingerprint(kept)}
    write_whole(file, lambda out: figure.savefig(out, dpi=90, metadata=metadata))
    plt.close(figure)


def fingerprint(kept: dict[str, Any]) -> str:
    """Says, in the figure, which results it was drawn from."""
    shown = json.dumps([kept["runs"], kept["random"]], sort_keys=True)
    return hashlib.sha256(shown.encode()).hexdigest()


def _unit(task: str) -> str:
    return TASKS[task].score.replace("_rate", "").replace("mean_", "")


def _costs(kept: dict[str, Any], setting: str) -> dict[str, dict[str, Any]]:
    return {row["memory"]: row for row in kept["costs"] if row["setting"] == setting}


def _score(kept: dict[str, Any], cell: Cell) -> str:
    """A cell's score with its interval and its number of seeds; empty if not run."""
    found, number = estimate(kept, cell), len(runs_of_cell(kept, cell))
    if found is None:
        return ""
    if number == 1:
        return f"{found.value:.2f} (1 seed)"
    interval = f"{found.low:.2f} to {found.high:.2f}"
    return f"{found.value:.2f} ({interval}; {number} seeds)"


def _against(kept: dict[str, Any], ours: Cell, theirs: Cell) -> str:
    """How likely a seed of theirs is better, where that can be told."""
    if min(len(runs_of_cell(kept, ours)), len(runs_of_cell(kept, theirs))) < SEEDS:
        return ""
    chance = estimate_improvement(scores(kept, theirs), scores(kept, ours), RESAMPLES)
    return (
        f", better with probability {chance.value:.2f} ({chance.low:.2f} to "
        f"{chance.high:.2f})"
    )


def _loss(kept: dict[str, Any], task: str) -> tuple[int, str]:
    """Minus the number of better memories, and the line about a task."""
    ours = Cell(task, OURS)
    base = estimate(kept, ours)
    if base is None:
        return 0, f"**{task}:** AGaLiTe was not run."
    found = {name: estimate(kept, Cell(task, name)) for name in MEMORIES}
    del found[OURS]
    known = {name: e for name, e in found.items() if e is not None}
    better = [
        f"{name} {_score(kept, Cell(task, name))}"
        f"{_against(kept, ours, Cell(task, name))}"
        for name, e in known.items()
        if round(e.value, 2) > round(base.value, 2)
    ]
    text = f"**{task}:** AGaLiTe has {_unit(task)} {_score(kept, ours)}. "
    if not known:
        text += "No other memory was run."
    elif better:
        text += f"Higher: {'; '.join(better)}."
    else:
        text += f"None of the others that were run ({len(known)}) scores higher."
    unknown = [name for name, e in found.items() if e is None]
    if known and unknown:
        text += f" Not run: {'; '.join(unknown)}."
    return -len(better), text


def _cheaper(kept: dict[str, Any]) -> str:
    """What costs less than AGaLiTe."""
    costs = _costs(kept, PAGE)
    if not costs:
        return "**Costs** were not measured."
    parts = []
    for work, name in WORKS.items():
        less = [m for m, cost in costs.items() if cost[work]["ratio"] < 0.95]
        shares = [f"{m} {costs[m][work]['ratio']:.2g}" for m in less]
        parts.append(f"{name}: {'; '.join(shares) or 'none'}")
    size = costs[OURS]["state_bytes"]
    less = [m for m, cost in costs.items() if cost["state_bytes"] < size]
    parts.append(f"state: {'; '.join(less) or 'none'}")
    return (
        "**Costs,** as shares of AGaLiTe's, of the memories that take less: "
        f"{'. '.join(parts)}."
    )


def _verdict(cases: list[tuple[bool, str]]) -> str:
    holds = sum(case for case, _ in cases)
    if not cases:
        return "Not measured."
    if holds == len(cases):
        return "Holds in all cases."
    return f"Holds in {holds} of {len(cases)} cases."


def _listed(cases: list[tuple[bool, str]]) -> str:
    return "; ".join(text for _, text in cases) or "(not measured)"


def _beside_rivals(kept: dict[str, Any]) -> str:
    """AGaLiTe beside GTrXL in the tasks in which both were run."""
    known, unknown = [], []
    for task in TASKS:
        found = {m: _score(kept, Cell(task, m)) for m in (OURS, *RIVALS)}
        texts = "; ".join(f"{m} {score or 'not run'}" for m, score in found.items())
        if found[OURS] and any(found[m] for m in RIVALS):
            known.append(f"{task}, {_unit(task)}: {texts}.")
        else:
            unknown.append(task)
    if unknown:
        known.append(f"Not measured in {', '.join(unknown)}.")
    return " ".join(known)
