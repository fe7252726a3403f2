"""Environments and policies from a recipe."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import gymnasium
import keras

import keras_agalite
from keras_agalite.environments import functional
from keras_agalite.environments.functional.registry import has_functional
from keras_agalite.environments.functional_vector import FunctionalVectorEnv
from training.checked import CheckedVectorEnv
from training.environments import is_stepped_together, make_vector
from training.recipe import ENCODERS, MEMORIES, Recipe


def make_environments(
    recipe: Recipe, number: int
) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    """A vector of the recipe's environments, each of them checked.

    Raises:
        ImportError: If the environment's package is missing; it says how to install.
        ValueError: If there is no such environment or it refuses its arguments.
    """
    with _explained(recipe):
        name = recipe.environment
        together = is_stepped_together(name) and has_functional(name)
        if recipe.previous_action_reward and together:
            # Gymnasium cannot wrap the single worlds of such a vector.
            env = make_functional_environment(recipe)
            return CheckedVectorEnv(FunctionalVectorEnv(env, number))
        return make_vector(recipe, number)


def make_spaces(recipe: Recipe) -> tuple[Any, Any]:
    """The spaces of one of the recipe's environments: observations, actions.

    Raises:
        As `make_environments`.
    """
    one = make_environments(dataclasses.replace(recipe, vectorization_mode="sync"), 1)
    one.close()
    return one.single_observation_space, one.single_action_space


def make_functional_environment(recipe: Recipe) -> Any:
    """The recipe's environment as pure functions; None if it has no such form.

    Raises:
        ImportError: If the environment's package is missing; it says how to install.
        ValueError: If the environment refuses its arguments.
    """
    if not has_functional(recipe.environment):
        return None
    with _explained(recipe):
        arguments = recipe.environment_arguments
        env = functional.make_functional(recipe.environment, **arguments)
    if recipe.previous_action_reward:
        env = functional.PreviousActionReward(env)
    return env


@contextlib.contextmanager
def _explained(recipe: Recipe) -> Iterator[None]:
    try:
        yield
    except (gymnasium.error.Error, TypeError, ValueError) as error:
        raise ValueError(
            f"`environment` cannot be made. Received: environment="
            f"{recipe.environment!r}, environment_arguments="
            f"{recipe.environment_arguments}: {error}"
        ) from error


def make_policy(
    recipe: Recipe,
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
) -> keras_agalite.MemoryPolicy:
    """The recipe's policy, with fresh weights drawn with its seed or a preset's.

    Raises:
        ValueError: If the encoder or the memory refuses its arguments, or the preset
            cannot be loaded or holds another policy.
    """
    keras.utils.set_random_seed(recipe.seed)

    def part(what: str, name: str, *arguments: Any) -> Any:
        keywords = getattr(recipe, f"{what}_arguments")
        try:
            return getattr(keras_agalite, name)(*arguments, **keywords)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"`{what}_arguments` must fit {name}. Received: "
                f"{what}_arguments={keywords}: {error}"
            ) from error

    policy = keras_agalite.MemoryPolicy(
        part("encoder", ENCODERS[recipe.encoder], observation_space),
        part("memory", MEMORIES[recipe.memory]),
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
