"""Evaluation of a policy in the environment of a recipe, on any backend."""

import contextlib
from pathlib import Path
from typing import Any

import keras_agalite
from keras_agalite.environments.functional.registry import has_functional
from keras_agalite.evaluation import lacks_previous
from keras_agalite.presets import find_preset
from keras_agalite.previous import previous_space
from training.envs.make import explained, make_checked
from training.recipe import Recipe


def evaluate_recipe(
    policy: keras_agalite.MemoryPolicy | None,
    recipe: Recipe,
    episodes: int | None = None,
    seed: int | None = None,
    sampled: bool = False,
) -> dict[str, Any]:
    """`keras_agalite.evaluate` in the recipe's environment.

    Args:
        policy: The policy; None for actions that are drawn evenly.
        recipe: Says which environment.
        episodes: Number of episodes; the recipe's if None.
        seed: Seed of the first episode; the recipe's if None.
        sampled: Draw actions instead of taking the most likely ones.

    Returns:
        What `keras_agalite.evaluate` returns.

    Raises:
        ValueError: If the recipe has no environment, or as there.
    """
    if not recipe.environment:
        raise ValueError(
            "An evaluation needs an environment, and the recipe has no environment: "
            f"name one with --set environment=NAME. Received: {recipe.name!r}"
        )
    return keras_agalite.evaluate(
        policy,
        recipe.environment,
        recipe.evaluation_episodes if episodes is None else episodes,
        recipe.evaluation_seed if seed is None else seed,
        deterministic=not sampled,
        environment_arguments=recipe.environment_arguments,
    )


def score(evaluation: dict[str, Any]) -> tuple[float, float]:
    """What is compared: success where it is reported, then the return."""
    return evaluation.get("success_rate", 0.0), evaluation["mean_return"]


def check_evaluation(recipe: Recipe, policy: keras_agalite.MemoryPolicy) -> None:
    """Checks that a policy can be evaluated where the recipe says, without playing.

    Environments that have a vector form of their own are trained in it, and evaluated
    in their plain form. Recordings may be of any environment, or of none at hand.

    Raises:
        ValueError: If the environment cannot be made, or has other spaces than those
            that the policy was made for.
        EnvironmentFault: If it raises, or gives wrong data, in a reset.
    """
    if not recipe.environment:
        return
    if has_functional(recipe.environment) and not recipe.is_offline:
        return  # the same functions are trained and evaluated
    with explained(recipe):
        env = make_checked(recipe, 0)
    with contextlib.closing(env):
        found = env.observation_space, env.action_space
        expected = policy.observation_space, policy.action_space
        if lacks_previous(policy, found[0]):
            found = previous_space(*found), found[1]
        if found != expected:
            source = "the recordings" if recipe.is_offline else "a vector"
            raise ValueError(
                f"`environment` must have the same spaces alone as in {source}, "
                f"{expected}. Received: environment={recipe.environment!r} with {found}"
            )
        env.reset(seed=recipe.evaluation_seed)


def preset_recipe(preset: str | Path) -> Path:
    """The recipe of a preset, which says what it is evaluated on.

    Raises:
        ValueError: If the preset has no recipe.
    """
    recipe = find_preset(preset) / "recipe.toml"
    if not recipe.is_file():
        raise ValueError(
            f"Expected a recipe.toml in the preset, or --recipe. Received: {preset}"
        )
    return recipe
