"""Environments and policies from a recipe."""

from typing import Any

import gymnasium
import keras

import keras_agalite
from keras_agalite.environments import PreviousActionReward, make_vec
from training.recipe import ENCODERS, MEMORIES, Recipe


def make_environments(
    recipe: Recipe, number: int
) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    """A vector of the recipe's environments, in this process.

    Raises:
        ImportError: If the environment's package is missing; it says how to install.
        ValueError: If there is no such environment or it refuses its arguments.
    """
    arguments = dict(recipe.environment_arguments)
    if recipe.previous_action_reward:
        arguments["wrappers"] = [PreviousActionReward]
    try:
        return make_vec(recipe.environment, number, **arguments)
    except (gymnasium.error.Error, TypeError, ValueError) as error:
        raise ValueError(
            f"`environment` cannot be made. Received: environment="
            f"{recipe.environment!r}, environment_arguments="
            f"{recipe.environment_arguments}: {error}"
        ) from error


def make_policy(
    recipe: Recipe, environments: gymnasium.vector.VectorEnv[Any, Any, Any]
) -> keras_agalite.MemoryPolicy:
    """The recipe's policy with fresh weights, drawn with the recipe's seed.

    Raises:
        ValueError: If the encoder or the memory refuses its arguments.
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

    space = environments.single_observation_space
    return keras_agalite.MemoryPolicy(
        part("encoder", ENCODERS[recipe.encoder], space),
        part("memory", MEMORIES[recipe.memory]),
        environments.single_action_space,
        head_units=recipe.head_units,
        head_activation=recipe.head_activation,
    )
