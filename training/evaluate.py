"""Evaluation of a policy in its environment, on any backend."""

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_agalite import MemoryPolicy
from training.build import make_environments
from training.recipe import Recipe

MAX_PARALLEL = 64


def evaluate(
    policy: MemoryPolicy | None,
    recipe: Recipe,
    episodes: int,
    seed: int,
    sampled: bool = False,
) -> dict[str, Any]:
    """Plays whole episodes; episode i is the environment's with seed `seed + i`.

    Args:
        policy: The policy; None for actions that are drawn evenly.
        recipe: Says which environment.
        episodes: Number of episodes.
        seed: Seed of the first episode, and of the noise when sampled.
        sampled: Draw actions instead of taking the most likely ones.

    Returns:
        A dict with `success_rate` (where the environment tells success),
        `mean_return`, `std_return`, `mean_length`, `episodes`, `seed`, ... and the
        lists `returns` and `successes` in the order of the seeds.
    """
    played: list[dict[str, Any]] = []
    noise = np.random.default_rng(seed)
    for first in range(seed, seed + episodes, MAX_PARALLEL):
        seeds = range(first, min(first + MAX_PARALLEL, seed + episodes))
        draws = noise if sampled or policy is None else None
        played += _play(policy, recipe, list(seeds), draws)
    returns = np.array([episode["return"] for episode in played])
    successes = [e["success"] for e in played if "success" in e]
    result = {
        "environment": recipe.environment,
        "environment_arguments": recipe.environment_arguments,
        "episodes": episodes,
        "seed": seed,
        "actions": "random" if policy is None else "sampled" if sampled else "greedy",
        "backend": keras.backend.backend(),
        "mean_return": float(returns.mean()),
        "std_return": float(returns.std(ddof=1)) if episodes > 1 else None,
        "mean_length": float(np.mean([episode["length"] for episode in played])),
    }
    if len(successes) == episodes:
        result["success_rate"] = float(np.mean(successes))
        result["successes"] = successes
    return {**result, "returns": returns.tolist()}


def _play(
    policy: MemoryPolicy | None,
    recipe: Recipe,
    seeds: list[int],
    noise: np.random.Generator | None,
) -> list[dict[str, Any]]:
    number = len(seeds)
    # In this process: starting some for a few episodes takes longer than they do.
    here = dataclasses.replace(recipe, vectorization_mode="sync")
    environments = make_environments(here, number)
    try:
        observation, _ = environments.reset(seed=seeds)
        state = policy.initial_state(number) if policy else None
        if policy is None and noise is not None:
            environments.action_space.seed(int(noise.integers(2**31)))
        returns, lengths = np.zeros(number), np.zeros(number, int)
        successes: dict[int, bool] = {}
        running = np.ones(number, bool)
        while running.any():
            if policy is None:
                action = environments.action_space.sample()
            else:
                action, state = policy.act(
                    observation, state, deterministic=noise is None, seed=noise
                )
            observation, reward, terminated, truncated, info = environments.step(action)
            # Rows that are done begin another episode, which does not count.
            returns += np.where(running, reward, 0.0)
            lengths += running
            ended = running & (terminated | truncated)
            for row in np.flatnonzero(ended):
                if "success" in info:
                    successes[int(row)] = bool(info["success"][row])
            running &= ~ended
    finally:
        environments.close()
    episodes: list[dict[str, Any]] = []
    for row in range(number):
        episode = {"return": float(returns[row]), "length": int(lengths[row])}
        if row in successes:
            episode["success"] = successes[row]
        episodes.append(episode)
    return episodes


def preset_recipe(preset: str | Path) -> Path:
    """The recipe of a preset, which says what it is evaluated on.

    Raises:
        ValueError: If the preset has no recipe.
    """
    from keras_agalite.presets import find_preset

    recipe = find_preset(preset) / "recipe.toml"
    if not recipe.is_file():
        raise ValueError(
            f"Expected a recipe.toml in the preset, or --recipe. Received: {preset}"
        )
    return recipe
