"""A GIF of a policy at work."""

from pathlib import Path

import numpy as np
from PIL import Image

from keras_agalite import MemoryPolicy
from keras_agalite.environments import PreviousActionReward, make
from training.recipe import Recipe

FRAME_MS = 250


def write_video(
    policy: MemoryPolicy, recipe: Recipe, file: Path, episodes: int, seed: int
) -> None:
    """Plays episodes with the most likely actions; episode i has the seed `seed + i`.

    Raises:
        ValueError: If the environment does not render images.
    """
    arguments = recipe.environment_arguments
    env = make(recipe.environment, render_mode="rgb_array", **arguments)
    if recipe.previous_action_reward:
        env = PreviousActionReward(env)
    frames = []
    for episode in range(episodes):
        observation, _ = env.reset(seed=seed + episode)
        state, done = policy.initial_state(1), False
        frames.append(env.render())
        while not done:
            action, state = policy.act(
                np.asarray(observation)[None], state, deterministic=True
            )
            observation, _, terminated, truncated, _ = env.step(action[0])
            done = terminated or truncated
            frames.append(env.render())
        frames += [frames[-1]] * 2
    env.close()
    if not isinstance(frames[0], np.ndarray):
        raise ValueError(
            "Expected an environment that renders images. Received: environment="
            f"{recipe.environment!r}"
        )
    first, *rest = (Image.fromarray(frame) for frame in frames)
    first.save(file, save_all=True, append_images=rest, duration=FRAME_MS, loop=0)
