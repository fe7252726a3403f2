"""Runs an export without Keras: `run_export.py FOLDER INPUTS.npz OUTPUTS.npz STEPS`."""

import json
import sys
from pathlib import Path

import numpy as np

sys.modules["keras"] = None  # an import of it fails


def onnx(file):
    import onnxruntime

    session = onnxruntime.InferenceSession(file)
    names = [x.name for x in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(None, inputs), strict=True))


def pt2(file):
    import torch

    step = torch.export.load(str(file)).module()

    def run(inputs):
        outputs = step({name: torch.as_tensor(x) for name, x in inputs.items()})
        return {name: x.numpy() for name, x in outputs.items()}

    return run


def saved_model(file):
    import tensorflow as tf

    step = tf.saved_model.load(str(file)).signatures["serving_default"]

    def run(inputs):
        outputs = step(**{name: tf.constant(x) for name, x in inputs.items()})
        return {name: x.numpy() for name, x in outputs.items()}

    return run


def litert(file):
    from ai_edge_litert.interpreter import Interpreter

    step = Interpreter(str(file)).get_signature_runner()
    return lambda inputs: {name: x.copy() for name, x in step(**inputs).items()}


folder, inputs, outputs = map(Path, sys.argv[1:4])
description = json.loads((folder / "export.json").read_text())
run = globals()[description["format"]](folder / description["file"])
arrays = dict(np.load(inputs))  # (steps, batch, ...)
batch = arrays["start"].shape[1]
specs = {x["name"]: x for x in description["inputs"]}
state = {
    name: np.zeros((batch, *specs[name]["shape"][1:]), specs[name]["dtype"])
    for name in description["next_state"]
}
assert {*arrays, *state} == {*specs}
kept = {x["name"]: [] for x in description["outputs"]}
for t in range(int(sys.argv[4])):
    out = run({**{name: x[t] for name, x in arrays.items()}, **state})
    assert {*out} == {*kept}
    for x in description["outputs"]:
        y = out[x["name"]]
        assert (y.shape, y.dtype) == ((batch, *x["shape"][1:]), x["dtype"]), x
        kept[x["name"]].append(y)
    state = {name: out[new] for name, new in description["next_state"].items()}
np.savez(outputs, **{name: np.stack(x) for name, x in kept.items()})
