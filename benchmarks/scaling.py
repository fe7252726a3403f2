"""How time and memory grow: with an episode, with a sequence, with a batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.forms import make_form
from benchmarks.measure import act_work, learn_work, median_ms

EPISODE = (100, 1_000, 10_000, 100_000, 1_000_000)
SEQUENCE = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
BATCH = (1, 4, 16, 64, 256, 1024)


def scaling(
    plot: Path | None, progress: Callable[[str, int, int], None]
) -> list[dict[str, Any]]:
    """Rows of the three kinds, and the plot of them."""
    rows = _episode(progress) + _sequence(progress) + _batch(progress)
    if plot:
        _plot(rows, plot)
    return rows


def _row(work: str, batch: int, steps: int, ms: float, temporaries: Any) -> Any:
    return {
        "work": work,
        "form": "ours",
        "backend": keras.backend.backend(),
        "batch": batch,
        "steps": steps,
        "median_ms": ms,
        "temporaries_bytes": temporaries,
    }


def _episode(progress: Callable[[str, int, int], None]) -> list[dict[str, Any]]:
    """A step after so many steps of one episode, really taken."""
    layer = make_form("ours")
    work = act_work(layer, 1)
    rows, taken = [], 0
    for steps in EPISODE:
        while taken < steps:
            work.run()
            taken += 1
            if taken % 1000 == 0:
                progress("a step late in an episode", taken, EPISODE[-1])
        rows.append(_row("episode", 1, steps, median_ms(work.run, 500), None))
        taken += 500
    return rows


def _sequence(progress: Callable[[str, int, int], None]) -> list[dict[str, Any]]:
    rows = []
    for i, steps in enumerate(SEQUENCE):
        progress("forward and backward of a sequence", i, len(SEQUENCE))
        work = learn_work(make_form("ours"), 1, steps)
        ms = median_ms(work.run, 3)
        rows.append(_row("sequence", 1, steps, ms, work.temporaries_bytes))
        for array in work.result():
            if not np.isfinite(array).all():
                raise ValueError(f"a gradient is not finite. Received: steps={steps}")
    return rows


def _batch(progress: Callable[[str, int, int], None]) -> list[dict[str, Any]]:
    rows = []
    for i, batch in enumerate(BATCH):
        progress("a step of a batch", i, len(BATCH))
        work = act_work(make_form("ours"), batch)
        ms = median_ms(work.run, 30)
        rows.append(_row("batch", batch, 1, ms, work.temporaries_bytes))
    return rows


def _plot(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.5), layout="constrained")
    titles = {
        "episode": ("steps", "a step, after so many steps of an episode"),
        "sequence": ("steps", "forward and backward, length of a sequence"),
        "batch": ("batch", "a step, environments in a batch"),
    }
    for axis, (work, (key, title)) in zip(axes, titles.items(), strict=True):
        chosen = [row for row in rows if row["work"] == work]
        x = [row[key] for row in chosen]
        axis.loglog(x, [row["median_ms"] for row in chosen], "o-")
        axis.set(xlabel=title, ylabel="ms")
        axis.grid(alpha=0.3)
        if chosen[0]["temporaries_bytes"]:
            memory = axis.twinx()
            mib = [row["temporaries_bytes"] / 2**20 for row in chosen]
            memory.loglog(x, mib, "s--", color="tab:orange")
            memory.set_ylabel("MiB of intermediates", color="tab:orange")
    axes[0].set_yscale("linear")
    axes[0].set_ylim(
        0.0, 2.0 * max(r["median_ms"] for r in rows if r["work"] == "episode")
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)
