"""A GIF of a policy at work."""

from pathlib import Path

import numpy as np
from PIL import Image

from keras_agalite import MemoryPolicy
from keras_agalite.environments import PreviousActionReward, make
from training.recipe import Recipe

FRAME_MS = 250


def write_video(
    policy: MemoryPolicy,
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
    arguments = recipe.environment_arguments
    env = make(recipe.environment, render_mode="rgb_array", **arguments)
    if recipe.previous_action_reward:
        env = PreviousActionReward(env)
    frames: list[np.ndarray] = []
    noise = np.random.default_rng(seed) if sampled else None
    for episode in range(episodes):
        observation, _ = env.reset(seed=seed + episode)
        state, done = policy.initial_state(1), False
        played = [env.render()]
        while not done and (frames_kept.stop is None or len(played) < frames_kept.stop):
            action, state = policy.act(
                np.asarray(observation)[None],
                state,
                deterministic=not sampled,
                seed=noise,
            )
            observation, _, terminated, truncated, _ = env.step(action[0])
            done = terminated or truncated
            played.append(env.render())
        frames += [*played[frames_kept], *[played[-1]] * 2]
    env.close()
    if not isinstance(frames[0], np.ndarray):
        raise ValueError(
            "Expected an environment that renders images. Received: environment="
            f"{recipe.environment!r}"
        )
    square = np.ones((scale, scale, 1), np.uint8)
    first, *rest = (Image.fromarray(np.kron(frame, square)) for frame in frames)
    first.save(file, save_all=True, append_images=rest, duration=FRAME_MS, loop=0)
