"""The policy of a recipe."""

import dataclasses
from typing import Any

import gymnasium
import keras

from keras_agalite import ReturnConditionedPolicy
from keras_agalite.action_masks import mask_sizes
from keras_agalite.layers.catalog import memory_class
from keras_agalite.models import Policy
from keras_agalite.models.action_heads import head_class
from keras_agalite.models.catalog import OFFLINE_POLICIES, encoder_class
from keras_agalite.models.spaces import feature_parts
from keras_agalite.presets import Preset, find_preset
from keras_agalite.presets.config import SPACES, argument_names
from keras_agalite.presets.offline import OfflinePreset, find_policy
from training.learning.fine_tuning import freeze, merge_units
from training.recipe import Recipe
from training.runs.footprint import check_weights

# What a recipe's memory may name beside the memories: policies of their own.
TRANSFORMERS = {
    name: cls
    for name, cls in OFFLINE_POLICIES.items()
    if cls is not ReturnConditionedPolicy
}


def is_transformer(recipe: Recipe) -> bool:
    """Whether a recipe's memory is a policy of its own."""
    return recipe.memory in TRANSFORMERS


def check_policy(recipe: Recipe) -> None:
    """Checks what costs nothing to check: names of parts and of a preset.

    Raises:
        ValueError: If there is no such encoder, memory or preset, or the engine does
            not train such a policy.
    """
    encoder_class(recipe.encoder)
    if not is_transformer(recipe):
        memory_class(recipe.memory)
    elif not recipe.is_offline:
        raise ValueError(
            '`engine` must be "offline" with the memories '
            f"{', '.join(TRANSFORMERS)}. Received: engine={recipe.engine!r}, "
            f"memory={recipe.memory!r}"
        )
    if recipe.policy_arguments and not recipe.is_offline:
        raise ValueError(
            '`policy_arguments` must be empty but with the engine "offline". '
            f"Received: policy_arguments={recipe.policy_arguments}"
        )
    if recipe.policy_arguments.get("normalize_observations"):
        raise ValueError(
            '`policy_arguments` must not normalise observations: the engine "offline" '
            f"counts none. Received: policy_arguments={recipe.policy_arguments}"
        )
    if recipe.initial_preset:
        find_preset(recipe.initial_preset)
    if recipe.fine_tune != "full" and _is_for_recordings(recipe):
        raise ValueError(
            '`fine_tune` must be "full" with a policy for recordings alone. '
            f"Received: fine_tune={recipe.fine_tune!r}, memory={recipe.memory!r}, "
            f"policy_arguments={recipe.policy_arguments}"
        )


def _is_for_recordings(recipe: Recipe) -> bool:
    return is_transformer(recipe) or bool(recipe.policy_arguments)


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
) -> Policy:
    """The recipe's policy, with fresh weights drawn with its seed or a preset's.

    Of the latter those are frozen that `fine_tune` does not train.

    It is built from its preset: what could not be saved after training, or be loaded
    again, is refused before it is built.

    Raises:
        ValueError: If there is no such encoder or memory or it refuses its arguments,
            if no policy takes the spaces, if a preset cannot hold the policy, if it
            needs more memory than there is, or if the recipe's preset cannot be loaded
            or holds another policy.
    """
    check_spaces(observation_space, action_space)
    encoder = _make(encoder_class(recipe.encoder), recipe, "encoder", observation_space)
    if _is_for_recordings(recipe):
        return _make_offline(recipe, encoder, action_space)
    described = Preset.of_parts(
        encoder,
        _make(memory_class(recipe.memory), recipe, "memory"),
        action_space,
        recipe.head_units,
        recipe.head_activation,
        normalize_observations=recipe.normalize_observations,
        merge_units=merge_units(recipe),
    )
    check_weights(described.num_weights)
    initial = recipe.initial_preset and Preset.find(recipe.initial_preset)
    if initial:
        expected = dataclasses.replace(described, merge_units=initial.merge_units)
        if initial.num_weights != expected.num_weights or (
            initial.merge_units not in (0, described.merge_units)
        ):
            raise _another_policy(recipe)
    keras.utils.set_random_seed(recipe.seed)
    policy = described.policy(load_weights=False)
    if initial:
        _take_weights(policy, initial.policy(), recipe)
    freeze(policy, recipe)
    return policy


def _make_offline(recipe: Recipe, encoder: Any, action_space: Any) -> Policy:
    """A policy that recordings alone train."""
    more = recipe.policy_arguments
    keras.utils.set_random_seed(recipe.seed)
    if is_transformer(recipe):
        cls = TRANSFORMERS[recipe.memory]
        policy = _make(cls, recipe, "memory", encoder, action_space, **more)
    else:
        try:
            policy = ReturnConditionedPolicy(
                encoder,
                _make(memory_class(recipe.memory), recipe, "memory"),
                action_space,
                recipe.head_units,
                recipe.head_activation,
                **more,
            )
        except TypeError as error:
            raise ValueError(f"{error} (policy_arguments={more})") from error
    longest = policy.max_length
    if longest is not None and recipe.sequence_length > longest:
        raise ValueError(
            f"`sequence_length` must be at most {longest}, the segment_length of a "
            "policy that sees one window. Received: sequence_length="
            f"{recipe.sequence_length}"
        )
    check_weights(OfflinePreset.of(policy).num_weights)
    if recipe.initial_preset:
        initial = find_policy(type(policy), recipe.initial_preset, True, None)
        _take_weights(policy, initial, recipe)
    return policy


def _take_weights(policy: Policy, initial: Policy, recipe: Recipe) -> None:
    variables, weights = policy.weights, initial.get_weights()
    if len(weights) < len(variables) and getattr(policy, "merge_units", 0):  # is new
        merge = {id(v) for v in policy.memory.cell.merge.weights}
        variables = [v for v in variables if id(v) not in merge]
    if [w.shape for w in weights] != [tuple(v.shape) for v in variables]:
        raise _another_policy(recipe)
    for variable, weight in zip(variables, weights, strict=True):
        variable.assign(weight)


def _another_policy(recipe: Recipe) -> ValueError:
    return ValueError(
        "`initial_preset` must hold the policy that the recipe describes. "
        f"Received: initial_preset={recipe.initial_preset!r}"
    )


def _make(cls: Any, recipe: Recipe, part: str, *given: Any, **more: Any) -> Any:
    keywords = {**getattr(recipe, f"{part}_arguments"), **more}
    # Keras's own are set by the policy (return_state), or a preset does not hold them.
    legal = [name for name in argument_names(cls) if name not in SPACES]
    legal += ["dtype", "saved_activations"]
    unknown = sorted(set(keywords) - set(legal))
    if unknown:
        raise ValueError(
            f"`{part}_arguments` must be those of {cls.__name__}: {', '.join(legal)}. "
            f"Received: {part}_arguments={keywords}, with {', '.join(unknown)}"
        )
    try:
        return cls(*given, **keywords)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{error} ({cls.__name__} with {part}_arguments={keywords})"
        ) from error
