"""SavedModel and LiteRT, by TensorFlow."""

import warnings
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_agalite.export.step import Step, Tensor


def _trace(step: Step) -> tuple[tf.Module, Any]:
    """A module that holds the weights, and the traced step.

    A function that the module held would be traced once more when it is saved.
    """
    module = tf.Module()
    module.weights = [v.value for v in step.policy.variables]
    function = tf.function(lambda **inputs: step(inputs), autograph=False)
    specs = {
        x.name: tf.TensorSpec((None, *x.shape), x.dtype, name=x.name)
        for x in step.inputs
    }
    return module, function.get_concrete_function(**specs)


def _outputs(traced: Any) -> list[Tensor]:
    return [
        Tensor(name, tuple(x.shape[1:]), x.dtype.name)
        for name, x in traced.structured_outputs.items()
    ]


def write_saved_model(step: Step, path: Path) -> list[Tensor]:
    module, traced = _trace(step)
    tf.saved_model.save(module, str(path), signatures=traced)
    return _outputs(traced)


def write_litert(step: Step, path: Path) -> list[Tensor]:
    module, traced = _trace(step)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], module)
        path.write_bytes(converter.convert())
    return _outputs(traced)


WRITERS = {"saved_model": write_saved_model, "litert": write_litert}
