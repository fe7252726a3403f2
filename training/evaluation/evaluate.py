"""Evaluation of a policy in the environment of a recipe, on any backend."""

from pathlib import Path
from typing import Any

import keras_agalite
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
    """
    return keras_agalite.evaluate(
        policy,
        recipe.environment,
        recipe.evaluation_episodes if episodes is None else episodes,
        recipe.evaluation_seed if seed is None else seed,
        deterministic=not sampled,
        environment_arguments=recipe.environment_arguments,
    )


def preset_recipe(preset: str | Path) -> Path:
    """The recipe of a preset, which says what it is evaluated on.

    Raises:
        ValueError: If the preset has no recipe.
    """
    from keras_agalite.models.presets import find_preset

    recipe = find_preset(preset) / "recipe.toml"
    if not recipe.is_file():
        raise ValueError(
            f"Expected a recipe.toml in the preset, or --recipe. Received: {preset}"
        )
    return recipe
