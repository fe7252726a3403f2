"""Memories against numbers that other code computed in float64.

Each file of `tests/reference/memories` holds a configuration, weights under the names
of torch, inputs, outputs, memories and gradients of sum(outputs * cotangent).
"""

import json
from pathlib import Path

import numpy as np
from keras import ops

from keras_agalite.ops.slot_attention import (
    attend_to_slots,
    slot_queries,
    slot_values,
)
from keras_agalite.ops.slot_memory import (
    SlotWeights,
    normalize_slots,
    slot_memory,
    write_slots,
)
from tests.helpers import gradients

FOLDER = Path(__file__).parents[1] / "reference" / "memories"


class Reference:
    """The arrays of a file."""

    def __init__(self, name):
        self.arrays = dict(np.load(FOLDER / f"{name}.npz"))
        self.config = json.loads(str(self.arrays.pop("config")))

    def __getitem__(self, name):
        return self.arrays[name]

    def group(self, prefix):
        start = f"{prefix}/"
        return {
            name.removeprefix(start): array
            for name, array in self.arrays.items()
            if name.startswith(start)
        }

    def check(self, function, arrays, expected, tolerance=1e-5):
        """Compares a function of arrays and weights, by torch's names.

        Args:
            function: Takes the tensors of `arrays` and a dict of weights, and returns
                tensors, of which the first is multiplied by the cotangent.
            arrays: Names of the arrays to differentiate by.
            expected: Names of what it returns.
            tolerance: Largest difference of an output.
        """
        weights = self.group("params")
        number = len(arrays)

        def run(*tensors):
            by_name = dict(zip(weights, tensors[number:], strict=True))
            return function(*tensors[:number], by_name)

        outputs, grads = gradients(
            run,
            [*(self[name] for name in arrays), *weights.values()],
            cotangents=lambda y: [self["cotangent"], *(0.0 for _ in y[1:])],
        )

        for name, output in zip(expected, outputs, strict=True):
            np.testing.assert_allclose(output, self[name], atol=tolerance, err_msg=name)
        names = [f"grad_{name}" for name in arrays]
        names += [f"grad_params/{name}" for name in weights]
        for name, grad in zip(names, grads, strict=True):
            difference = np.linalg.norm(grad - self[name])
            assert difference < 1e-4 * max(1.0, np.linalg.norm(self[name])), name


def slot_weights(weights):
    matrices = [ops.transpose(w) for name, w in weights.items() if name != "v_bias"]
    return SlotWeights(weights["v_bias"], *matrices)


def test_one_token_a_segment():
    reference = Reference("memformer_one_token")
    heads, tau = reference.config["heads"], reference.config["temperature"]

    def function(x, slots, weights):
        read, (slots,) = slot_memory(
            x,
            slot_weights(weights),
            [slots],
            heads=heads,
            temperature=tau,
            start=reference["starts"],
        )
        return x + read, slots

    reference.arrays["memory_out"] = reference["memory_out"][:, -1]
    reference.check(function, ["inputs", "memory_in"], ["outputs", "memory_out"])


def test_whole_segments():
    reference = Reference("memformer_equations")
    heads, tau = reference.config["heads"], reference.config["temperature"]

    def function(x, slots, weights):
        w, outputs, reads, memories = slot_weights(weights), [], [], []
        for segment, reset in zip(range(len(x)), reference["resets"], strict=True):
            slots = ops.where(reset[:, None, None], 0.0, slots)
            items = normalize_slots(slots, w.bias, 1.0)
            query = slot_queries(x[segment], w.read_query, w.read_key, heads)
            mixed = [attend_to_slots(query[:, t], items) for t in range(x.shape[2])]
            read = slot_values(ops.stack(mixed, axis=1), w.read_value)
            tokens = x[segment] + ops.matmul(read, w.read_output)
            slots = write_slots(items, tokens, *w[5:], heads, tau)
            outputs.append(tokens)
            reads.append(items)
            memories.append(slots)
        return ops.stack(outputs), ops.stack(reads), ops.stack(memories)

    reference.check(
        function,
        ["inputs", "memory_in"],
        ["outputs", "memory_read", "memory_out"],
    )
