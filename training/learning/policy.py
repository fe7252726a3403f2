"""The policy of a recipe."""

from typing import Any

import gymnasium
import keras

from keras_agalite import MemoryPolicy
from keras_agalite.action_masks import mask_sizes
from keras_agalite.layers.catalog import memory_class
from keras_agalite.models.action_heads import head_class
from keras_agalite.models.catalog import encoder_class
from keras_agalite.models.spaces import feature_parts
from keras_agalite.presets import Preset, find_preset
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


def check_spaces(
    observation_space: gymnasium.Space[Any], action_space: gymnasium.Space[Any]
) -> None:
    """Raises a ValueError if no policy takes these spaces; with the reason."""
    feature_parts(observation_space)
    head_class(action_space)
    mask_sizes(observation_space, action_space)


def make_policy(
    recipe: Recipe,
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
) -> MemoryPolicy:
    """The recipe's policy, with fresh weights drawn with its seed or a preset's.

    Raises:
        ValueError: If there is no such encoder or memory or it refuses its arguments,
            if no policy takes the spaces or a preset cannot hold it, or if the
            recipe's preset cannot be loaded or holds another policy.
    """
    check_spaces(observation_space, action_space)
    keras.utils.set_random_seed(recipe.seed)
    policy = MemoryPolicy(
        _make(encoder_class(recipe.encoder), recipe, "encoder", observation_space),
        _make(memory_class(recipe.memory), recipe, "memory"),
        action_space,
        head_units=recipe.head_units,
        head_activation=recipe.head_activation,
    )
    Preset.of(policy)  # refuses now what could not be saved after training
    if preset := recipe.initial_preset:
        weights = MemoryPolicy.from_preset(preset).get_weights()
        if [w.shape for w in weights] != [w.shape for w in policy.get_weights()]:
            raise ValueError(
                "`initial_preset` must hold the policy that the recipe describes. "
                f"Received: initial_preset={preset!r}"
            )
        policy.set_weights(weights)
    return policy


def _make(cls: Any, recipe: Recipe, part: str, *arguments: Any) -> Any:
    keywords = getattr(recipe, f"{part}_arguments")
    try:
        return cls(*arguments, **keywords)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{part}_arguments` must fit {cls.__name__}. Received: "
            f"{part}_arguments={keywords}: {error}"
        ) from error
