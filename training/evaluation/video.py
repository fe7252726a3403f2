"""A GIF of a policy at work."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import keras_agalite
from training.envs.make import explained, make_single
from training.recipe import Recipe

FRAME_MS = 250


def check_video(recipe: Recipe) -> None:
    """Checks that the recipe's environment can be drawn.

    Raises:
        ValueError: If it cannot.
    """
    _make(recipe).close()


def _make(recipe: Recipe) -> Any:
    """One environment, which was reset and gave an image."""
    if not recipe.environment:
        raise ValueError(
            "A video needs a recipe with an environment. Received: environment=''"
        )
    with explained(recipe):
        env = make_single(recipe, render_mode="rgb_array")
    try:
        env.reset(seed=recipe.evaluation_seed)
        frame = env.render()
    except NotImplementedError as error:
        frame = error
    if not isinstance(frame, np.ndarray) or frame.ndim != 3:
        env.close()
        raise ValueError(
            "A video needs an environment that renders images. Received: environment="
            f"{recipe.environment!r}, whose render() gave {frame!r:.80}"
        )
    return env


def write_video(
    policy: keras_agalite.MemoryPolicy,
    recipe: Recipe,
    file: Path,
    episodes: int,
    seed: int,
    sampled: bool = False,
    frames_kept: slice = slice(None),
    scale: int = 1,
) -> None:
    """Plays episodes; episode i has the seed `seed + i`.

    Args:
        policy: The policy.
        recipe: Says which environment.
        file: The GIF.
        episodes: Number of episodes.
        seed: Seed of the first, and of the noise when sampled.
        sampled: Draw actions instead of taking the most likely ones.
        frames_kept: Which frames of an episode are shown.
        scale: Side of a square for each pixel.

    Raises:
        ValueError: If the environment does not render images.
    """
    rng = np.random.default_rng(seed)
    frames: list[np.ndarray] = []
    with contextlib.closing(_make(recipe)) as env:
        for episode in range(episodes):
            played: list[Any] = []
            keras_agalite.rollout(
                policy,
                env,
                seed=seed + episode,
                deterministic=not sampled,
                rng=rng,
                max_steps=frames_kept.stop and max(1, frames_kept.stop - 1),
                on_step=lambda _, played=played: played.append(env.render()),
            )
            frames += [*played[frames_kept], *[played[-1]] * 2]
    square = np.ones((scale, scale, 1), np.uint8)
    first, *rest = (Image.fromarray(np.kron(frame, square)) for frame in frames)
    first.save(file, save_all=True, append_images=rest, duration=FRAME_MS, loop=0)
