"""The forms of the recurrences on the device at hand, with JAX.

A sequence runs in a loop over time or by associative scans of chunks; the library
takes the loop on CPUs and the scans elsewhere. Here both run on the same device, and
a row is printed as soon as it is known.
"""

import contextlib
import math
import os
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np

from benchmarks.forms import make_form
from benchmarks.measure import Work, interleave, jax_act, sequences, to_numpy
from keras_agalite.ops import _backend

LEARNING = ((64, 128), (512, 64))  # batch, steps
ACTING = (1, 128, 4096)
CHUNKS = (16, 32, 64, 128)
FORMS = ("ours", "gtrxl", "no_recurrence")
WITHOUT_LOOP = ("gtrxl", "no_recurrence", "memoryless")


def devices(
    forms: Sequence[str],
    learning: Sequence[tuple[int, int]],
    acting: Sequence[int],
    rounds: int,
) -> Iterator[dict[str, Any]]:
    """Rows of forward and backward passes, then of single steps, as they come.

    Raises:
        ValueError: If the backend is not JAX.
    """
    if keras.backend.backend() != "jax":
        raise ValueError(
            "`devices` compares forms that JAX alone has. Received: "
            f"KERAS_BACKEND={keras.backend.backend()}"
        )
    layers = {name: make_form(name) for name in forms}
    for batch, steps in learning:
        for name, layer in layers.items():
            programs = []
            for label, settings in _variants(name, steps):
                with _settings(**settings):
                    program = _lower_learning(layer, batch, steps)
                programs.append((_row("learn", name, label, batch, steps), *program))
            yield from _measure(programs, rounds)
    for batch in acting:
        for name, layer in layers.items():
            program = jax_act(layer, batch)
            yield from _measure([(_row("act", name, "", batch, 1), *program)], rounds)


def _measure(programs: Sequence[Any], rounds: int) -> list[dict[str, Any]]:
    """Compiles the programs at once, in threads, then times them in turns."""
    with ThreadPoolExecutor(min(len(programs), os.cpu_count() or 1)) as threads:
        compiled = list(threads.map(_compile, (lowered for _, lowered, _ in programs)))
    rows, works = [], {}
    for (row, _, arguments), (program, seconds) in zip(programs, compiled, strict=True):
        row["compile_seconds"] = seconds
        row["temporaries_bytes"] = program.memory_analysis().temp_size_in_bytes
        works[row["form"]] = _work(program, arguments, row["work"])
        rows.append(row)
    for row, times in zip(
        rows, interleave(works, rounds, 1, lambda: None).values(), strict=True
    ):
        row["median_ms"] = statistics.median(times)
    if len(rows) > 1:
        _compare(rows, works)
    return rows


def _variants(name: str, steps: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """What the forms of one memory are called, and the settings of each."""
    if name in WITHOUT_LOOP:
        yield "", {}
        return
    scan = {"on_accelerator": lambda: True}
    yield "loop", {"on_accelerator": lambda: False}
    yield "scan", scan
    if name != "ours":
        return
    for size in CHUNKS:
        if size <= steps:
            chunks = {"LONGEST_CHUNK": size, "CHUNK_BYTES": 2**60}
            yield f"scan of {size}", scan | chunks


@contextlib.contextmanager
def _settings(**values: Any) -> Iterator[None]:
    """Sets what `keras_agalite.ops._jax` decides by."""
    module = _backend._implementation
    before = {name: getattr(module, name) for name in values}
    try:
        for name, value in values.items():
            setattr(module, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def _row(work: str, memory: str, form: str, batch: int, steps: int) -> dict[str, Any]:
    import jax

    return {
        "work": work,
        "memory": memory,
        "form": form,
        "device": jax.devices()[0].device_kind,
        "batch": batch,
        "steps": steps,
    }


def _lower_learning(layer: Any, batch: int, steps: int) -> tuple[Any, Any]:
    import jax

    variables = layer.trainable_variables

    def loss(weights: Any, inputs: Any, start: Any) -> Any:
        with keras.StatelessScope(list(zip(variables, weights, strict=True))):
            outputs, *_ = layer(inputs, start=start)
        return keras.ops.sum(keras.ops.square(outputs))

    weights = [v.value for v in variables]
    arguments = jax.device_put((weights, *sequences(batch, steps)))
    return jax.jit(jax.grad(loss)).lower(*arguments), arguments


def _compile(lowered: Any) -> tuple[Any, float]:
    begin = time.perf_counter()
    return lowered.compile(), time.perf_counter() - begin


def _work(program: Any, arguments: Any, work: str) -> Work:
    """Gradients stay on the device; a step takes NumPy arrays and gives them."""
    import jax

    def learn() -> Any:
        return jax.block_until_ready(program(*arguments))

    def act() -> Any:
        weights, _, *inputs = arguments
        outputs, state[0] = program(weights, state[0], *inputs)
        return np.asarray(outputs)

    if work == "learn":
        return Work(learn, lambda: to_numpy(learn()), 0.0, None)
    state = [arguments[1]]
    return Work(act, lambda: [act()], 0.0, None)


def _compare(rows: list[dict[str, Any]], works: dict[str, Work]) -> None:
    """Notes how far the gradients of each form are from those of the first, the loop.

    Raises:
        ValueError: If a gradient is not finite.
    """
    expected = works[rows[0]["form"]].result()
    for row in rows:
        row["difference"] = max(
            float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-12))
            for a, b in zip(works[row["form"]].result(), expected, strict=True)
        )
        if not math.isfinite(row["difference"]):
            raise ValueError(f"a gradient is not finite. Received: {row}")


COLUMNS = {
    "device": "{}",
    "work": "{}",
    "batch": "{}",
    "steps": "{}",
    "memory": "{}",
    "form": "{}",
    "median_ms": "{:.3f}",
    "temporaries_bytes": "{:,}",
    "compile_seconds": "{:.1f}",
    "difference": "{:.0e}",
}


def header() -> str:
    return _line(COLUMNS) + "\n" + "|---" * len(COLUMNS) + "|"


def line(row: dict[str, Any]) -> str:
    """The row in Markdown."""
    cells = (
        form.format(row[name]) if name in row else "" for name, form in COLUMNS.items()
    )
    return _line(cells)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
