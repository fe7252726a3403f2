"""A step of imitation, compiled by JAX."""

from collections.abc import Callable
from typing import Any

import jax
import keras

from training.learning.imitation import Imitation, gradient_norm


def compile_update(learner: Imitation) -> Callable[[Any], dict[str, Any]]:
    """One step on inputs in NumPy; the variables change in place."""
    variables, optimizer = learner.variables, learner.optimizer

    @jax.jit
    def step(weights: Any, moments: Any, inputs: Any) -> Any:
        def loss(weights: Any) -> Any:
            with keras.StatelessScope(list(zip(variables, weights, strict=True))):
                return learner.loss(inputs)

        value, gradients = jax.value_and_grad(loss)(weights)
        metrics = {"loss": value, "gradient_norm": gradient_norm(gradients)}
        return *optimizer.stateless_apply(moments, gradients, weights), metrics

    def update(inputs: Any) -> dict[str, Any]:
        weights = [v.value for v in variables]
        moments = [v.value for v in optimizer.variables]
        weights, moments, metrics = step(weights, moments, inputs)
        for variable, value in zip(
            [*variables, *optimizer.variables], [*weights, *moments], strict=True
        ):
            variable.assign(value)
        return metrics

    return update
