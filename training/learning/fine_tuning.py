"""Which weights of a released policy are trained for another task.

- `heads`: actor and critic.
- `sherl`: these, the memory's last block and the merge in front of it, which reads what
  encoder and earlier blocks give (`keras_agalite.layers.sherl_merge`).
- `lora`: these, and adapters of low rank on the dense layers of encoder and memory (Hu
  et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685), by
  Keras, which adds them to the kernels where the policy is saved.

All begin with a policy that acts as the preset does.
"""

from typing import Any

import keras

from keras_agalite import MemoryPolicy
from keras_agalite.layers.initializers import LecunNormal
from training.recipe import Recipe


def merge_units(recipe: Recipe) -> int:
    """Width of the merge that the recipe's policy has; 0: none."""
    return recipe.fine_tune_units if recipe.fine_tune == "sherl" else 0


def frozen_weights(policy: Any) -> list[Any]:
    """The weights of a policy that no gradient changes, but for its normaliser's."""
    normalizer = getattr(policy, "normalizer", None)
    others = _ids(policy.trainable_weights + (normalizer.weights if normalizer else []))
    return [v for v in policy.weights if id(v) not in others]


def freeze(policy: MemoryPolicy, recipe: Recipe) -> None:
    """Lets the weights be trained that the recipe's `fine_tune` names, and no others.

    Raises:
        ValueError: If there is no layer for adapters.
    """
    if recipe.fine_tune == "full":
        return
    trained = [policy.actor, policy.critic_hidden, policy.critic_output]
    if recipe.fine_tune == "sherl":
        cell = policy.memory.cell
        trained += [cell.merge, cell.blocks[-1]]
    weights = [v for layer in trained for v in layer.weights]
    if recipe.fine_tune == "lora":
        weights += _add_adapters(policy, recipe.fine_tune_units)
    kept = _ids(weights)
    for variable in policy.trainable_variables:
        variable.trainable = id(variable) in kept


def _add_adapters(policy: MemoryPolicy, rank: int) -> list[Any]:
    layers = [
        layer
        for part in (policy.encoder, policy.memory)
        for layer in part._flatten_layers()
        if isinstance(layer, keras.layers.Dense)
    ]
    if not layers:
        raise ValueError(
            '`fine_tune` must not be "lora" without a dense layer in the encoder or '
            f"the memory. Received: {type(policy.encoder).__name__}, "
            f"{type(policy.memory).__name__}"
        )
    for layer in layers:
        layer.enable_lora(rank, a_initializer=LecunNormal())
    return [v for x in layers for v in (x.lora_kernel_a, x.lora_kernel_b)]


def _ids(variables: list[Any]) -> set[int]:
    return {id(variable) for variable in variables}
