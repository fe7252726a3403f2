"""The policy of a recipe."""

from typing import Any

import gymnasium
import keras

import keras_agalite
from keras_agalite.models.presets import find_preset
from training.recipe import Recipe


def check_policy(recipe: Recipe) -> None:
    """Checks what costs nothing to check: names of parts and of a preset.

    Raises:
        ValueError: If there is no such encoder, memory or preset.
    """
    encoder_class(recipe.encoder)
    memory_class(recipe.memory)
    if recipe.initial_preset:
        find_preset(recipe.initial_preset)


def make_policy(
    recipe: Recipe,
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
) -> keras_agalite.MemoryPolicy:
    """The recipe's policy, with fresh weights drawn with its seed or a preset's.

    Raises:
        ValueError: If there is no such encoder or memory or it refuses its arguments,
            or the preset cannot be loaded or holds another policy.
    """
    keras.utils.set_random_seed(recipe.seed)

    def part(what: str, cls: Any, *arguments: Any) -> Any:
        keywords = getattr(recipe, f"{what}_arguments")
        try:
            return cls(*arguments, **keywords)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"`{what}_arguments` must fit {cls.__name__}. Received: "
                f"{what}_arguments={keywords}: {error}"
            ) from error

    policy = keras_agalite.MemoryPolicy(
        part("encoder", encoder_class(recipe.encoder), observation_space),
        part("memory", memory_class(recipe.memory)),
        action_space,
        head_units=recipe.head_units,
        head_activation=recipe.head_activation,
    )
    if preset := recipe.initial_preset:
        weights = keras_agalite.MemoryPolicy.from_preset(preset).get_weights()
        if [w.shape for w in weights] != [w.shape for w in policy.get_weights()]:
            raise ValueError(
                "`initial_preset` must hold the policy that the recipe describes. "
                f"Received: initial_preset={preset!r}"
            )
        policy.set_weights(weights)
    return policy


def encoder_class(name: str) -> Any:
    from keras_agalite.zoo.specs import _ENCODERS

    return getattr(keras_agalite, _ENCODERS[name])


def memory_class(name: str) -> Any:
    from keras_agalite.zoo.specs import CLASSES

    return getattr(keras_agalite, CLASSES[name])
