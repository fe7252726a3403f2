"""What each memory remembers, and for how long, after the same small training.

Three tasks in one form: 16 inputs, 8 classes, and few steps at which an answer is due.
Networks have about the same number of weights. They are trained on distances up to
64, and tested beyond.
"""

import dataclasses
import itertools
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from gymnasium import spaces

from keras_agalite.layers.catalog import MEMORIES, SpatialMemory
from keras_agalite.zoo.specs import PolicySpec

FEATURES, CLASSES, COPIED = 16, 8, 4
QUESTION = FEATURES - 1
DISTANCES = (4, 8, 16, 32, 64, 128, 192)
LONGEST_TRAINED = 64
ROWS, TEST_ROWS = 32, 200
SEQUENCE = PolicySpec(
    name="recall",
    environment="",
    observation_space=spaces.Box(0.0, 1.0, (FEATURES,), np.float32),
    action_space=spaces.Discrete(CLASSES),
    encoder="mlp",
    encoder_arguments={"units": [], "activation": "tanh"},
    head_units=32,
    num_layers=2,
    num_heads=2,
    head_dim=16,
    hidden_dim=32,
)


class Batch(NamedTuple):
    """Sequences, padded with zeros after the last answer.

    Attributes:
        inputs: Shape `(batch, time, 16)`.
        answers: Classes, shape `(batch, time)`.
        due: 1 where an answer counts, else 0, shape `(batch, time)`.
    """

    inputs: np.ndarray
    answers: np.ndarray
    due: np.ndarray


def first(random: np.random.Generator, distance: np.ndarray) -> Batch:
    """Remember the first of eight symbols while seven others distract."""
    return _symbols(random, distance, shown=1)


def copy(random: np.random.Generator, distance: np.ndarray) -> Batch:
    """Say four symbols again, in their order, each `distance` steps after it."""
    return _symbols(random, distance, shown=COPIED)


def tmaze(random: np.random.Generator, distance: np.ndarray) -> Batch:
    """Walk the corridor of `keras_agalite/TMaze-v0`, and say where to turn."""
    batch, time = _empty(distance, 0)
    rows = np.arange(len(distance))
    goal = random.integers(2, size=len(distance))
    position = np.minimum(time, distance[:, None])
    gray = position ^ position >> 1
    batch.inputs[:, :, 2:10] = gray[:, :, None] >> np.arange(8)[::-1] & 1
    batch.inputs[:, 1:, 10:] = random.integers(2, size=(*gray[:, 1:].shape, 6))
    batch.inputs[rows, 0, 1 - goal] = 1.0
    batch.inputs[time > distance[:, None]] = 0.0
    batch.answers[rows, distance] = goal
    batch.due[rows, distance] = 1.0
    return batch


TASKS = {"first": first, "copy": copy, "tmaze": tmaze}


def _empty(distance: np.ndarray, more: int) -> tuple[Batch, np.ndarray]:
    # Two lengths in all, so that programs are compiled twice.
    longest = LONGEST_TRAINED if distance.max() <= LONGEST_TRAINED else DISTANCES[-1]
    shape = len(distance), longest + more + 1
    inputs = np.zeros((*shape, FEATURES), np.float32)
    answers, due = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    return Batch(inputs, answers, due), np.arange(shape[1])[None, :]


def _symbols(random: np.random.Generator, distance: np.ndarray, shown: int) -> Batch:
    batch, time = _empty(distance, COPIED - 1)
    rows = np.arange(len(distance))
    noise = random.integers(CLASSES, QUESTION, size=batch.due.shape)
    np.put_along_axis(batch.inputs, noise[:, :, None], 1.0, axis=2)
    for i in range(shown):
        symbol = random.integers(CLASSES, size=len(distance))
        batch.inputs[:, i] = np.eye(FEATURES)[symbol]
        asked = distance + i
        batch.inputs[rows, asked] = np.eye(FEATURES)[QUESTION]
        batch.answers[rows, asked] = symbol
        batch.due[rows, asked] = 1.0
    batch.inputs[time > distance[:, None] + shown - 1] = 0.0
    return batch


class Learner:
    """A memory with a linear read-out, compiled once for all tasks and seeds."""

    def __init__(self, memory: str) -> None:
        # A memory of places takes the last feature for one. The tasks have one place.
        self.one_place = memory == SpatialMemory.short_name
        space = spaces.Box(0.0, 1.0, (FEATURES + self.one_place,), np.float32)
        spec = dataclasses.replace(SEQUENCE, observation_space=space)
        self.preset = spec.preset(memory)
        self.model = self._make()
        optimizer = keras.optimizers.Adam(2e-3, global_clipnorm=1.0)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model.compile(optimizer, loss)
        optimizer.build(self.model.trainable_variables)
        self.fresh = [np.array(v) for v in optimizer.variables]

    def _make(self) -> keras.Model:
        inputs = read = keras.Input((None, FEATURES))
        if self.one_place:
            read = keras.ops.pad(read, [[0, 0], [0, 0], [0, 1]])
        outputs, *_ = self.preset.policy(load_weights=False).memory(read)
        return keras.Model(inputs, keras.layers.Dense(CLASSES)(outputs))

    def restart(self, seed: int) -> None:
        """Fresh weights and a fresh optimizer."""
        keras.utils.set_random_seed(seed)
        self.model.set_weights(self._make().get_weights())
        for variable, value in zip(
            self.model.optimizer.variables, self.fresh, strict=True
        ):
            variable.assign(value)

    def train(self, task: str, seed: int, updates: int) -> None:
        random = np.random.default_rng([seed, updates])
        for _ in range(updates):
            # As many short distances as long ones: powers of two, evenly.
            power = random.uniform(2, np.log2(LONGEST_TRAINED), ROWS)
            x, y, due = TASKS[task](random, np.round(2**power).astype(int))
            self.model.train_on_batch(x, y, sample_weight=due)

    def accuracy(self, task: str, distance: int) -> float:
        """Share of right answers, over the same sequences for all."""
        random = np.random.default_rng(distance)
        batch = TASKS[task](random, np.full(TEST_ROWS, distance))
        logits = self.model.predict(batch.inputs, batch_size=TEST_ROWS, verbose=0)
        right = np.argmax(logits, axis=-1) == batch.answers
        return float(right[batch.due > 0].mean())


def recall(
    names: list[str] | None,
    updates: int,
    seeds: range,
    progress: Callable[[str, int, int], None],
    tasks: list[str] | None = None,
) -> list[dict[str, Any]]:
    """One row for each memory, task, seed and distance; of all, where None says so."""
    names = list(MEMORIES) if names is None else names
    tasks = list(TASKS) if tasks is None else tasks
    for option, given, known in (
        ("--forms", names, MEMORIES),
        ("--tasks", tasks, TASKS),
    ):
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ValueError(
                f"`{option}` must be of {', '.join(known)}. Received: {unknown}"
            )
    rows = []
    trainings = list(itertools.product(tasks, seeds))
    for i, name in enumerate(names):
        learner = Learner(name)
        for j, (task, seed) in enumerate(trainings):
            done = i * len(trainings) + j
            progress(f"{name}: {task}, seed {seed}", done, len(names) * len(trainings))
            learner.restart(seed)
            learner.train(task, seed, updates)
            for distance in DISTANCES:
                row = {
                    "work": "recall",
                    "form": name,
                    "backend": keras.backend.backend(),
                    "parameters": learner.model.count_params(),
                    "updates": updates,
                    "task": task,
                    "seed": seed,
                    "distance": distance,
                    "accuracy": learner.accuracy(task, distance),
                }
                rows.append(row)
    progress("", 0, 0)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Mean accuracies over seeds, in percent, one line a memory and task."""
    lines = [
        "| task | memory | parameters | " + " | ".join(map(str, DISTANCES)) + " |",
        "|---" * (3 + len(DISTANCES)) + "|",
    ]
    for (task, name), scores in _grouped(rows).items():
        parameters = next(r["parameters"] for r in rows if r["form"] == name)
        cells = [f"{100 * statistics.mean(scores[d]):.0f}" for d in DISTANCES]
        lines.append(f"| {task} | {name} | {parameters:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _grouped(rows: list[dict[str, Any]]) -> dict[Any, dict[int, list[float]]]:
    groups: dict[Any, dict[int, list[float]]] = {}
    for task in TASKS:
        for row in rows:
            if row["task"] == task:
                scores = groups.setdefault((task, row["form"]), {})
                scores.setdefault(row["distance"], []).append(row["accuracy"])
    return groups


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Accuracy over distance: means, and bands from the worst seed to the best."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        1, len(TASKS), figsize=(13, 4), sharey=True, layout="constrained"
    )
    chances = {"first": 1 / CLASSES, "copy": 1 / CLASSES, "tmaze": 1 / 2}
    for axis, task in zip(axes, TASKS, strict=True):
        for (of, name), scores in _grouped(rows).items():
            if of == task:
                low, middle, high = zip(
                    *[(min(x), statistics.mean(x), max(x)) for x in scores.values()],
                    strict=True,
                )
                # The colours of the others repeat after ten.
                own = {"color": "black"} if name == "memoryless" else {}
                (line,) = axis.plot(DISTANCES, middle, "o-", ms=3, label=name, **own)
                axis.fill_between(
                    DISTANCES, low, high, alpha=0.1, color=line.get_color()
                )
        axis.axvline(LONGEST_TRAINED, color="gray", lw=0.8, ls="--")
        axis.axhline(chances[task], color="gray", lw=0.8, ls=":")
        axis.set_xscale("log", base=2)
        axis.set(title=task, xlabel="distance, steps", ylim=(0, 1.02))
    axes[0].set_ylabel("share of right answers")
    axes[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=110)
    plt.close(figure)
