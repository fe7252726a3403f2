"""`python -m benchmarks WORK`: costs of memories.

Forms are timed in interleaved rounds of one process; figures are medians and ratios.
`recall` trains every memory of the zoo on the same small tasks; `load` measures the
time until a policy has chosen its first action; `devices` runs each form that a CPU
or an accelerator takes on the device at hand; `saved_activations` says what each memory
keeps for the backward pass, in full and in 8 bits.
Run one backend at a time: KERAS_BACKEND, or --backend.
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

RECURRENT = ("ours", "textbook", "no_recurrence")
# They print their own.
OWN_TABLES = ("devices", "recall", "load", "saved_activations")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("work", choices=tuple(_WORKS))
    parser.add_argument("--backend", choices=("jax", "tensorflow", "torch"))
    parser.add_argument("--device", choices=("cpu", "gpu"), help="default: the first")
    parser.add_argument("--batch", type=int, nargs="+", help="batch sizes")
    parser.add_argument(
        "--steps", type=int, default=128, help="of a sequence, to learn"
    )
    parser.add_argument("--rounds", type=int, help="default: by the work")
    parser.add_argument(
        "--calls", type=int, help="in a row in a round; default: 10 to act, 1 to learn"
    )
    parser.add_argument("--forms", nargs="*", help="default: all")
    parser.add_argument(
        "--jit-compile", action="store_true", help="learn: XLA on TensorFlow"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="scaling and recall: the plot"
    )
    parser.add_argument(
        "--rows", type=Path, nargs="+", default=[], metavar="FILE",
        help="recall: add what --json wrote before",
    )  # fmt: skip
    parser.add_argument("--updates", type=int, default=1000, help="recall: of training")
    parser.add_argument("--seeds", type=int, default=3, help="recall: of training")
    parser.add_argument("--first-seed", type=int, default=0, help="recall: of them")
    parser.add_argument("--tasks", nargs="+", help="recall: default: all")
    options = parser.parse_args(arguments)
    if options.backend:
        os.environ["KERAS_BACKEND"] = options.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        os.environ["JAX_PLATFORMS"] = "cpu"
    import keras

    keras.utils.set_random_seed(0)
    try:
        rows = _WORKS[options.work](options)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.work not in OWN_TABLES:
        _print(rows)
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    return 0


def _act(options: Any) -> list[dict[str, Any]]:
    from benchmarks.forms import FORMS
    from benchmarks.measure import act_work

    rows = []
    for batch in options.batch or (1, 16, 128):
        names = options.forms or FORMS
        rows += _compare(
            options,
            "act",
            {name: lambda layer, batch=batch: act_work(layer, batch) for name in names},
            batch,
            1,
            rounds=60 if batch < 64 else 30,
            calls=10,
        )
    return rows


def _learn(options: Any) -> list[dict[str, Any]]:
    from benchmarks.measure import learn_work

    rows = []
    for batch in options.batch or (16,):
        names = options.forms or RECURRENT
        rows += _compare(
            options,
            "learn",
            {
                name: lambda layer, batch=batch: learn_work(
                    layer, batch, options.steps, options.jit_compile
                )
                for name in names
            },
            batch,
            options.steps,
            rounds=7,
            calls=1,
        )
    return rows


def _compare(
    options: Any,
    work: str,
    makers: dict[str, Any],
    batch: int,
    steps: int,
    rounds: int,
    calls: int,
) -> list[dict[str, Any]]:
    """Times the forms of one work in interleaved rounds, once they are equal."""
    import keras

    from benchmarks.forms import make_form
    from benchmarks.measure import (
        check_equal,
        interleave,
        median_ratio,
        page_faults,
        state_bytes,
    )

    rounds = options.rounds or rounds
    works, layers = {}, {}
    for i, (name, make) in enumerate(makers.items()):
        _progress(f"{work} batch {batch}: compiling {name}", i, len(makers))
        layers[name] = make_form(name)
        if "ours" in layers and name in RECURRENT:
            layers[name].set_weights(layers["ours"].get_weights())
        works[name] = make(layers[name])
    has_textbook = {"ours", "textbook"} <= set(works)
    if has_textbook:
        check_equal(works, steps)
    done = iter(range(1, 10**9))
    total = rounds * len(works)
    times = interleave(
        works,
        rounds,
        options.calls or calls,
        lambda: _progress(f"{work} batch {batch}: measuring", next(done), total),
    )
    _progress("", 0, 0)
    rows = []
    for name, ms in times.items():
        row = {
            "work": work,
            "form": name,
            "backend": keras.backend.backend(),
            "device": options.device or "default",
            "jit_compile": options.jit_compile,
            "batch": batch,
            "steps": steps,
            "median_ms": statistics.median(ms),
            "compile_seconds": works[name].compile_seconds,
            "temporaries_bytes": works[name].temporaries_bytes,
            "kernels": works[name].kernels,
            "page_faults": page_faults(works[name].run),
            "state_bytes": state_bytes(layers[name]),
            "parameters": layers[name].count_params(),
        }
        if has_textbook:
            row["speedup_over_textbook"] = median_ratio(times["textbook"], ms)
            base = works["textbook"].temporaries_bytes
            if base:
                row["temporaries_over_textbook"] = row["temporaries_bytes"] / base
        rows.append(row)
    return rows


def _scaling(options: Any) -> list[dict[str, Any]]:
    from benchmarks.scaling import scaling

    return scaling(options.plot, _progress)


def _recall(options: Any) -> list[dict[str, Any]]:
    from benchmarks.recall import plot, recall, table

    first = options.first_seed
    seeds = range(first, first + options.seeds)
    rows = recall(options.forms, options.updates, seeds, _progress, options.tasks)
    for file in options.rows:
        rows += json.loads(file.read_text())["rows"]
    if options.plot:
        plot(rows, options.plot)
    print(table(rows))
    return rows


def _load(options: Any) -> list[dict[str, Any]]:
    from benchmarks.load import load, table

    rows = load(_progress)
    print(table(rows))
    return rows


def _saved_activations(options: Any) -> list[dict[str, Any]]:
    from benchmarks.saved_activations import saved_activations, table

    [batch] = options.batch or [4]
    rounds = 3 if options.rounds is None else options.rounds
    rows = list(
        saved_activations(options.forms, batch, options.steps, rounds, _progress)
    )
    print(table(rows))
    return rows


def _devices(options: Any) -> list[dict[str, Any]]:
    from benchmarks import devices

    learning, acting = devices.LEARNING, devices.ACTING
    if options.batch:
        learning = tuple((batch, options.steps) for batch in options.batch)
        acting = tuple(options.batch)
    forms, rounds = options.forms or devices.FORMS, options.rounds or 15
    print(devices.header(), flush=True)
    rows = []
    for row in devices.devices(forms, learning, acting, rounds):
        print(devices.line(row), flush=True)
        rows.append(row)
    return rows


def _progress(text: str, done: int, total: int) -> None:
    if not sys.stderr.isatty():
        return
    bar = f" {done}/{total}" if total else ""
    print(f"\r\x1b[K{text}{bar}", end="", file=sys.stderr, flush=True)


def _print(rows: list[dict[str, Any]]) -> None:
    columns = {
        "work": "{}",
        "form": "{}",
        "batch": "{}",
        "steps": "{}",
        "median_ms": "{:.3f}",
        "speedup_over_textbook": "{:.2f}",
        "temporaries_bytes": "{:,}",
        "temporaries_over_textbook": "{:.2f}",
        "kernels": "{}",
        "page_faults": "{:,}",
        "compile_seconds": "{:.1f}",
        "state_bytes": "{:,}",
    }
    table = [list(columns)]
    for row in rows:
        cells = [
            "" if row.get(key) is None else form.format(row[key])
            for key, form in columns.items()
        ]
        table.append(cells)
    widths = [max(len(line[i]) for line in table) for i in range(len(columns))]
    for line in table:
        print("  ".join(cell.rjust(n) for cell, n in zip(line, widths, strict=True)))


_WORKS = {
    "act": _act,
    "learn": _learn,
    "devices": _devices,
    "scaling": _scaling,
    "recall": _recall,
    "load": _load,
    "saved_activations": _saved_activations,
}

if __name__ == "__main__":
    sys.exit(main())
