"""The environments of a recipe. Importing this imports no backend: workers do it."""

import contextlib
import functools
import importlib
from collections.abc import Iterator
from typing import Any

import gymnasium

from keras_agalite.environments import (
    PreviousActionReward,
    functional,
    make,
    make_vec,
)
from keras_agalite.environments.registry import resolve
from training.envs.checks import CheckedEnv, CheckedVectorEnv
from training.envs.watched import WatchedVectorEnv
from training.envs.workers import SupervisedVectorEnv
from training.recipe import Recipe


def make_environments(
    recipe: Recipe, number: int, vectorization_mode: str | None = None
) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    """A vector of the recipe's environments, each of them checked.

    One program steps all of them if it can; else they are stepped one after another,
    or in a process each.

    Args:
        recipe: The recipe.
        number: How many environments.
        vectorization_mode: "sync" or "async"; the recipe's if None.

    Raises:
        ImportError: If the environment's package is missing; it says how to install.
        ValueError: If there is no such environment, it refuses its arguments, or
            "async" is asked of environments of ours that one program steps.
    """
    asynchronous = (vectorization_mode or recipe.vectorization_mode) == "async"
    with explained(recipe):
        together = is_stepped_together(recipe.environment)
        if together and functional.has_functional(recipe.environment):
            if asynchronous:
                raise ValueError(
                    '`vectorization_mode` must be "sync" where one program steps all '
                    'environments. Received: vectorization_mode="async"'
                )
            return CheckedVectorEnv(_make_compiled(recipe, number))
        # Other vectors cannot be wrapped inside: of these the plain form is.
        if together and not (asynchronous or recipe.previous_action_reward):
            arguments = recipe.environment_arguments
            return CheckedVectorEnv(make_vec(recipe.environment, number, **arguments))
        makers = [functools.partial(make_checked, recipe, i) for i in range(number)]
        if asynchronous:
            return SupervisedVectorEnv(
                makers, recipe.worker_restarts, recipe.worker_timeout
            )
        return WatchedVectorEnv(makers, recipe.worker_timeout)


def _make_compiled(
    recipe: Recipe, number: int
) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    if recipe.previous_action_reward:
        env = make_functional_environment(recipe)
        return functional.FunctionalVectorEnv(env, number)
    return make_vec(recipe.environment, number, **recipe.environment_arguments)


def make_spaces(recipe: Recipe) -> tuple[Any, Any]:
    """The spaces of one of the recipe's environments: observations, actions.

    Raises:
        As `make_environments`.
    """
    one = make_environments(recipe, 1, "sync")
    one.close()
    return one.single_observation_space, one.single_action_space


def make_functional_environment(recipe: Recipe) -> Any:
    """The recipe's environment as pure functions; None if it has no such form.

    Raises:
        ImportError: If the environment's package is missing; it says how to install.
        ValueError: If the environment refuses its arguments.
    """
    if not functional.has_functional(recipe.environment):
        return None
    with explained(recipe):
        arguments = recipe.environment_arguments
        env = functional.make_functional(recipe.environment, **arguments)
    if recipe.previous_action_reward:
        env = functional.PreviousActionReward(env)
    return env


def make_single(recipe: Recipe, **arguments: Any) -> gymnasium.Env[Any, Any]:
    """One environment of the recipe, for example with a `render_mode`."""
    arguments = {**recipe.environment_arguments, **arguments}
    env = make(recipe.environment, **arguments)
    return PreviousActionReward(env) if recipe.previous_action_reward else env


def make_checked(recipe: Recipe, index: int) -> gymnasium.Env[Any, Any]:
    """One environment of the recipe; `index` is its place among them."""
    return CheckedEnv(make_single(recipe), index)


def is_stepped_together(environment: str) -> bool:
    """Whether many of these environments are one vector environment by themselves."""
    identifier, _ = resolve(environment)
    module, _, name = identifier.rpartition(":")
    if module:
        importlib.import_module(module)
    spec = gymnasium.spec(name)
    # Atari's takes other arguments, and gives other observations, than one game does.
    return spec.vector_entry_point is not None and spec.namespace != "ALE"


@contextlib.contextmanager
def explained(recipe: Recipe) -> Iterator[None]:
    """Says which environment cannot be made, and why."""
    try:
        yield
    except (gymnasium.error.Error, TypeError, ValueError) as error:
        raise ValueError(
            f"`environment` cannot be made. Received: environment="
            f"{recipe.environment!r}, environment_arguments="
            f"{recipe.environment_arguments}: {error}"
        ) from error
