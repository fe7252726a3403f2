"""A step of imitation in PyTorch, which is not compiled."""

from collections.abc import Callable
from typing import Any

import torch
from keras import tree

from training.learning.imitation import Imitation, gradient_norm


def compile_update(learner: Imitation) -> Callable[[Any], dict[str, Any]]:
    """One step on inputs in NumPy; the variables change in place."""
    variables, optimizer = learner.variables, learner.optimizer
    weights = [variable.value for variable in variables]

    def update(inputs: Any) -> dict[str, Any]:
        device = weights[0].device
        inputs = tree.map_structure(lambda x: torch.as_tensor(x, device=device), inputs)
        loss = learner.loss(inputs)
        found = torch.autograd.grad(loss, weights, allow_unused=True)
        gradients = [
            torch.zeros_like(weight) if gradient is None else gradient
            for weight, gradient in zip(weights, found, strict=True)
        ]
        with torch.no_grad():
            norm = gradient_norm(gradients)
            optimizer.apply(gradients, variables)
        return {"loss": loss.detach(), "gradient_norm": norm}

    return update
