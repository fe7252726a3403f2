"""A step of imitation, as a graph of TensorFlow."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from keras import tree

from training.learning.imitation import Imitation, gradient_norm


def compile_update(learner: Imitation) -> Callable[[Any], dict[str, Any]]:
    """One step on inputs in NumPy; the variables change in place."""
    weights = [variable.value for variable in learner.variables]

    @tf.function(autograph=False, jit_compile=True)
    def step(inputs: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            loss = learner.loss(inputs)
        gradients = tape.gradient(
            loss, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        norm = gradient_norm(gradients)
        learner.optimizer.apply(gradients, learner.variables)
        return {"loss": loss, "gradient_norm": norm}

    def update(inputs: Any) -> dict[str, Any]:
        metrics: dict[str, Any] = step(tree.map_structure(tf.convert_to_tensor, inputs))
        return metrics

    return update
