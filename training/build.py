"""Environments and policies from a recipe."""

from typing import Any

import gymnasium
import keras

import keras_agalite
from keras_agalite.environments import PreviousActionReward
from training.recipe import ENCODERS, MEMORIES, Recipe


def make_environments(recipe: Recipe, number: int) -> gymnasium.vector.SyncVectorEnv:
    """A vector of the recipe's environments, in this process.

    Raises:
        ValueError: If there is no such environment or it refuses its arguments.
    """

    def make() -> gymnasium.Env[Any, Any]:
        env = gymnasium.make(recipe.environment, **recipe.environment_arguments)
        return PreviousActionReward(env) if recipe.previous_action_reward else env

    try:
        return gymnasium.vector.SyncVectorEnv([make] * number)
    except (gymnasium.error.Error, TypeError) as error:
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
