"""The environments of a recipe. Importing this imports no backend: workers do it."""

import functools
import importlib
from typing import Any

import gymnasium

from keras_agalite.environments import PreviousActionReward, make, make_vec
from keras_agalite.environments.registry import resolve
from training.envs.checks import CheckedEnv, CheckedVectorEnv
from training.envs.workers import SupervisedVectorEnv
from training.recipe import Recipe


def make_checked(recipe: Recipe, index: int) -> gymnasium.Env[Any, Any]:
    """One environment of the recipe; `index` is its place among them."""
    env = make(recipe.environment, **recipe.environment_arguments)
    if recipe.previous_action_reward:
        env = PreviousActionReward(env)
    return CheckedEnv(env, index)


def make_vector(
    recipe: Recipe, number: int
) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    """Checked environments: stepped by one program if they can be, else as
    `vectorization_mode` says, one after another or in a process each.

    Raises:
        ValueError: If one program steps them, and `vectorization_mode` is "async".
    """
    parallel = recipe.vectorization_mode == "async"
    if is_stepped_together(recipe.environment):
        if parallel:
            raise ValueError(
                '`vectorization_mode` must be "sync" where one program steps all '
                f"environments. Received: environment={recipe.environment!r}, "
                'vectorization_mode="async"'
            )
        arguments = dict(recipe.environment_arguments)
        if recipe.previous_action_reward:
            arguments["wrappers"] = [PreviousActionReward]  # gymnasium says why not
        return CheckedVectorEnv(make_vec(recipe.environment, number, **arguments))
    makers = [functools.partial(make_checked, recipe, i) for i in range(number)]
    if parallel:
        return SupervisedVectorEnv(makers, recipe.worker_restarts)
    return gymnasium.vector.SyncVectorEnv(makers)


def is_stepped_together(environment: str) -> bool:
    """Whether many of these environments are one vector environment by themselves."""
    identifier, _ = resolve(environment)
    module, _, name = identifier.rpartition(":")
    if module:
        importlib.import_module(module)
    spec = gymnasium.spec(name)
    # Atari's takes other arguments, and gives other observations, than one game does.
    return spec.vector_entry_point is not None and spec.namespace != "ALE"
