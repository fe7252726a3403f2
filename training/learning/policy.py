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
from keras_agalite.presets.config import SPACES, argument_names
from training.recipe import Recipe
from training.runs.footprint import check_weights


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

    It is built from its preset: what could not be saved after training, or be loaded
    again, is refused before it is built.

    Raises:
        ValueError: If there is no such encoder or memory or it refuses its arguments,
            if no policy takes the spaces, if a preset cannot hold the policy, if it
            needs more memory than there is, or if the recipe's preset cannot be loaded
            or holds another policy.
    """
    check_spaces(observation_space, action_space)
    described = Preset.of_parts(
        _make(encoder_class(recipe.encoder), recipe, "encoder", observation_space),
        _make(memory_class(recipe.memory), recipe, "memory"),
        action_space,
        recipe.head_units,
        recipe.head_activation,
        normalize_observations=recipe.normalize_observations,
    )
    check_weights(described.num_weights)
    initial = recipe.initial_preset and Preset.find(recipe.initial_preset)
    if initial and initial.num_weights != described.num_weights:
        raise _another_policy(recipe)
    keras.utils.set_random_seed(recipe.seed)
    policy = described.policy(load_weights=False)
    if initial:
        weights = initial.policy().get_weights()
        if [w.shape for w in weights] != [w.shape for w in policy.get_weights()]:
            raise _another_policy(recipe)
        policy.set_weights(weights)
    return policy


def _another_policy(recipe: Recipe) -> ValueError:
    return ValueError(
        "`initial_preset` must hold the policy that the recipe describes. "
        f"Received: initial_preset={recipe.initial_preset!r}"
    )


def _make(cls: Any, recipe: Recipe, part: str, *spaces: Any) -> Any:
    keywords = getattr(recipe, f"{part}_arguments")
    # Keras's own, which the policy sets (return_state) or a preset does not hold.
    legal = [name for name in argument_names(cls) if name not in SPACES] + ["dtype"]
    unknown = sorted(set(keywords) - set(legal))
    if unknown:
        raise ValueError(
            f"`{part}_arguments` must be those of {cls.__name__}: {', '.join(legal)}. "
            f"Received: {part}_arguments={keywords}, with {', '.join(unknown)}"
        )
    try:
        return cls(*spaces, **keywords)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{error} ({cls.__name__} with {part}_arguments={keywords})"
        ) from error
