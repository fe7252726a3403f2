"""Episodes with a panel of what the memory holds: sizes of the state, the read-out."""

import io
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from keras import ops, tree
from PIL import Image, ImageDraw

from keras_agalite import MemoryPolicy, rollout
from training.envs.make import make_single
from training.recipe import Recipe

matplotlib.use("Agg")
from matplotlib import pyplot as plt

FRAME_MS = 250
MAX_FRAMES = 60
HEIGHT = 200


class Episode(NamedTuple):
    """What happened in an episode.

    Attributes:
        frames: Images, one more than there are steps; empty if nothing is drawn.
        norms: Euclidean norm of each state tensor after each step, `(steps, states)`.
        readout: What the memory gave the heads at each step, `(steps, units)`.
        total: The return.
        success: Whether it succeeded, if the environment reports it.
    """

    frames: list[np.ndarray]
    norms: np.ndarray
    readout: np.ndarray
    total: float
    success: bool | None


def play(policy: MemoryPolicy, recipe: Recipe, seed: int) -> Episode:
    """Plays an episode with the most likely actions."""
    env = make_single(recipe, render_mode="rgb_array")
    frames, observations, norms = [], [], []

    def keep(step: Any) -> None:
        frames.append(env.render())
        observations.append(step.observation)
        parts = [ops.convert_to_numpy(x) for x in tree.flatten(step.state)]
        norms.append([float(np.linalg.norm(x)) for x in parts])

    (episode,) = rollout(policy, env, seed=seed, on_step=keep)
    env.close()
    # The last observation is one that the policy did not see.
    sequence = tree.map_structure(lambda *x: np.concatenate(x), *observations[:-1])
    readout, _ = policy.remember(
        tree.map_structure(lambda x: ops.convert_to_tensor(x[None]), sequence)
    )
    return Episode(
        frames if isinstance(frames[0], np.ndarray) else [],
        np.array(norms[1:]),
        ops.convert_to_numpy(readout)[0],
        episode.total_reward,
        episode.success,
    )


def write_gif(episode: Episode, file: Path | io.BytesIO) -> None:
    """Writes the episode beside its panel, in which a line runs along with it."""
    panel, left, right = draw_panel(episode)
    steps = len(episode.norms)
    shown = np.unique(np.linspace(0, steps - 1, min(steps, MAX_FRAMES)).astype(int))
    images = []
    for step in shown:
        image = panel.copy()
        x = left + (right - left) * (step + 0.5) / steps
        ImageDraw.Draw(image).line([(x, 0), (x, HEIGHT)], fill="red", width=2)
        if episode.frames:
            image = _beside(Image.fromarray(episode.frames[step]), image)
        images.append(image.quantize(64))
    first, *rest = images
    pauses = [FRAME_MS] * (len(images) - 1) + [4 * FRAME_MS]
    first.save(file, "GIF", save_all=True, append_images=rest, duration=pauses, loop=0)


def draw_panel(episode: Episode) -> tuple[Image.Image, float, float]:
    """The panel, and the pixels between which its time axis runs."""
    figure, (upper, lower) = plt.subplots(
        2, figsize=(3.6, HEIGHT / 100), dpi=100, sharex=True
    )
    figure.subplots_adjust(0.12, 0.16, 0.98, 0.9, hspace=0.45)
    steps = len(episode.norms)
    middle = np.arange(steps) + 0.5
    for i, norms in enumerate(episode.norms.T):
        upper.plot(middle, norms, linewidth=1, label=f"{i}")
    upper.set_title("size of each state tensor", fontsize=7, pad=2)
    largest = np.abs(episode.readout).max() or 1.0
    lower.imshow(
        episode.readout.T,
        aspect="auto",
        cmap="coolwarm",
        vmin=-largest,
        vmax=largest,
        extent=(0, steps, 0, episode.readout.shape[1]),
        interpolation="nearest",
    )
    lower.set_title("read-out: each unit over the steps", fontsize=7, pad=2)
    lower.set_xlim(0, steps)
    for axes in (upper, lower):
        axes.tick_params(labelsize=6, length=2)
    if not episode.norms.shape[1]:
        upper.text(0.5, 0.5, "no state", transform=upper.transAxes, ha="center")
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    box = lower.get_position()
    image = Image.frombytes("RGBA", (width, height), figure.canvas.buffer_rgba())
    plt.close(figure)
    return image.convert("RGB"), box.x0 * width, box.x1 * width


def _beside(frame: Image.Image, panel: Image.Image) -> Image.Image:
    scale = min(HEIGHT / frame.height, 2 * HEIGHT / frame.width)
    size = round(frame.width * scale), round(frame.height * scale)
    frame = frame.convert("RGB").resize(size)
    whole = Image.new("RGB", (size[0] + panel.width, HEIGHT), "white")
    whole.paste(frame, (0, (HEIGHT - size[1]) // 2))
    whole.paste(panel, (size[0], 0))
    return whole


def caption(episode: Episode, seed: int) -> str:
    """What to say below the image."""
    parts: list[Any] = [f"seed {seed}", f"{len(episode.norms)} steps"]
    parts.append(f"return {episode.total:.2f}")
    if episode.success is not None:
        parts.append("success" if episode.success else "no success")
    return ", ".join(parts)
