"""What memories keep for the backward pass, in full and in 8 bits."""

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from keras import ops

from benchmarks.forms import FEATURES
from benchmarks.measure import BACKEND, interleave, learn_work, median_ratio, sequences
from keras_agalite.layers import MEMORIES
from keras_agalite.layers.sequence_memory import SequenceMemory
from training.release.tables import comparison_config

FORMS = (None, "int8")


def saved_activations(
    names: list[str] | None,
    batch: int,
    steps: int,
    rounds: int,
    progress: Callable[[str, int, int], None],
) -> Iterator[dict[str, Any]]:
    """One row a memory, of the sizes of docs/memories.md.

    Args:
        names: Short names; all memories that can keep 8 bits if None.
        batch: Sequences.
        steps: Their length.
        rounds: Of timing.
        progress: Is told what is measured, and how far it is.
    """
    able = [n for n, cls in MEMORIES.items() if issubclass(cls, SequenceMemory)]
    names = names or able
    for name in names:
        if name not in able:
            raise ValueError(
                f"Expected memories that keep activations in 8 bits: {', '.join(able)}."
                f" Received: {name!r}"
            )
    if BACKEND not in _KEPT:
        raise ValueError(
            f"Expected a backend that says what it keeps: {', '.join(_KEPT)}. "
            f"Received: {BACKEND}"
        )
    for i, name in enumerate(names):
        progress(f"saved_activations: {name}", i, len(names))
        layers = [make(name, form) for form in FORMS]
        layers[1].set_weights(layers[0].get_weights())
        yield {"memory": name, **compare(*layers, batch, steps, rounds)}
    progress("", 0, 0)


def make(name: str, form: str | None, **arguments: Any) -> Any:
    """A built memory that keeps its activations in this form."""
    layer = MEMORIES[name](
        **{**comparison_config(name), **arguments},
        return_state=True,
        saved_activations=form,
    )
    layer.build((None, None, FEATURES))
    layer.built = True
    return layer


def compare(
    plain: Any, saved: Any, batch: int, steps: int, rounds: int
) -> dict[str, Any]:
    """What two layers of the same weights keep, and how their gradients differ.

    Returns:
        For `plain` and `saved`, bytes kept a step of a sequence, and on JAX the
        temporaries of the compiled gradient; the relative difference of all gradients
        by norm; and how much longer a gradient takes.
    """
    layers = {"plain": plain, "saved": saved}
    works = {key: learn_work(layer, batch, steps) for key, layer in layers.items()}
    flat = {
        key: np.concatenate([g.ravel() for g in work.result()])
        for key, work in works.items()
    }
    times = interleave(works, rounds, 1, lambda: None) if rounds else {}
    kept = {key: kept_bytes(layer, batch, steps) for key, layer in layers.items()}
    row: dict[str, Any] = {
        "backend": BACKEND,
        "batch": batch,
        "steps": steps,
        "kept_bytes": {key: size / (batch * steps) for key, size in kept.items()},
        "temporaries_bytes": {k: work.temporaries_bytes for k, work in works.items()},
        "gradient_error": float(
            np.linalg.norm(flat["saved"] - flat["plain"])
            / np.linalg.norm(flat["plain"])
        ),
    }
    if times:
        row["median_ms"] = {key: statistics.median(ms) for key, ms in times.items()}
        row["time_ratio"] = median_ratio(times["saved"], times["plain"])
    return row


def kept_bytes(layer: Any, batch: int, steps: int) -> int:
    """Bytes that a forward pass over sequences keeps for the backward pass.

    Weights are not counted, and on torch not the inputs of chunks that are computed
    again.
    """
    inputs, start = sequences(batch, steps)
    return _KEPT[BACKEND](layer, inputs, start)


def _loss(outputs: Any) -> Any:
    return ops.sum(ops.square(outputs))


def _jax_kept(layer: Any, inputs: Any, start: Any) -> int:
    import jax

    weights = [v.value for v in layer.trainable_variables]

    def loss(weights: Any) -> Any:
        (outputs, *_), _ = layer.stateless_call(weights, [], inputs, start=start)
        return _loss(outputs)

    _, pull = jax.vjp(loss, weights)
    leaves = [x for x in jax.tree.leaves(pull) if isinstance(x, jax.Array)]
    given = {x.unsafe_buffer_pointer() for x in weights}
    sizes = {x.unsafe_buffer_pointer(): x.nbytes for x in leaves}
    return sum(size for place, size in sizes.items() if place not in given)


def _torch_kept(layer: Any, inputs: Any, start: Any) -> int:
    import torch

    weights = {v.value.untyped_storage().data_ptr() for v in layer.variables}
    sizes = {}

    def pack(x: Any) -> Any:
        storage = x.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        outputs, *_ = layer(inputs, start=start)
        loss = _loss(outputs)
    del loss
    return sum(sizes.values())


_KEPT = {"jax": _jax_kept, "torch": _torch_kept}


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a table of Markdown."""
    lines = [
        "| memory | kept a step, KB | in 8 bits | share | peak, MB | in 8 bits | share "
        "| gradient error | time |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row["memory"]]
        for key, unit in (("kept_bytes", 1e3), ("temporaries_bytes", 1e6)):
            plain, saved = row[key]["plain"], row[key]["saved"]
            if plain is None or not plain:
                cells += ["", "", ""]
            else:
                sizes = [f"{x / unit:.1f}" for x in (plain, saved)]
                cells += [*sizes, f"{saved / plain:.0%}"]
        cells.append(f"{row['gradient_error']:.2%}")
        cells.append(f"x{row['time_ratio']:.2f}" if "time_ratio" in row else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
