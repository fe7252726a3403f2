"""Two Colors in ViZDoom: see a colour once, then gather what has it."""

import contextlib
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from keras_agalite.environments._checks import check_action, check_render_mode
from keras_agalite.environments._packages import require
from keras_agalite.environments._two_colors_map import COLOURS, MAPS, two_colors_wad

LIMIT = 525
TICS = 4
# Buttons: forward, turn left, turn right.
ACTIONS = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1))
DECAY, HEALING = 0.3, 25.0


class ViZDoomTwoColors(gymnasium.Env[np.ndarray, int]):
    """A task after Two Colors of Beeching et al., arXiv 1904.01806, with own rules.

    A room with red and green torches at random places. At the start a tall torch in
    front of the agent shows the colour of the episode; after two seconds it is gone
    for good. A small torch of that colour pays 1 and heals 25 of 100; one of the other
    pays -1 and costs 25. Each step costs 0.3 of the health. Another torch, of either
    colour, appears two to three seconds after one was taken.

    Health is no part of the observation. An episode is terminated at health 0, and
    truncated after 525 steps (60 seconds of the game).

    Observation: uint8 of shape `(60, 80, 3)`: height, width, RGB. Actions: forward,
    left, right, forward and left, forward and right, each for 4 tics.

    `info` of a step holds `health`, and `success`: the end was reached alive.

    Args:
        render_mode: "rgb_array" (120 x 160 pixels) or None.
        colour: Colour of all episodes, "red" or "green"; None draws one for each.

    Raises:
        ImportError: If vizdoom is not installed; the message has the pip command.
        ValueError: If an argument is none of those, or at a step, if the action is
            not an integer from 0 to 4.

    Example:
        >>> env = keras_agalite.environments.make("vizdoom_two_colors")
        >>> observation, _ = env.reset(seed=0)  # uint8 of shape (60, 80, 3)
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 35 / TICS}

    def __init__(
        self, render_mode: str | None = None, colour: str | None = None
    ) -> None:
        check_render_mode(render_mode, self.metadata["render_modes"])
        if colour not in (None, *map(str.lower, COLOURS)):
            raise ValueError(
                f"`colour` must be 'red', 'green' or None. Received: colour={colour!r}"
            )
        self.only = colour and colour.capitalize()
        require("ViZDoomTwoColors", "vizdoom")
        import vizdoom

        self.render_mode = render_mode
        self.observation_space = spaces.Box(0, 255, (60, 80, 3), np.uint8)
        self.action_space = spaces.Discrete(len(ACTIONS))
        folder = Path(tempfile.mkdtemp(prefix="two_colors_"))
        self.game = vizdoom.DoomGame()
        self.end = weakref.finalize(self, _end, self.game, folder)
        _start(self.game, folder)
        self.screen: np.ndarray | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        drawn = COLOURS[self.np_random.integers(2)]  # so that the rest stays the same
        self.colour = self.only or drawn
        self.game.set_seed(int(self.np_random.integers(2**31)))
        self.game.set_doom_map(MAPS[self.colour])
        self.game.new_episode()
        self.health, self.steps = 100.0, 0
        self.items: dict[int, str] = {}
        self._look()
        return self._observe(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self.screen is None:
            raise gymnasium.error.ResetNeeded("Call `reset` before `step`.")
        check_action(action, self.action_space)
        self.game.make_action(list(ACTIONS[action]), TICS)
        taken = self._look()
        right = taken.count(self.colour)
        reward = float(2 * right - len(taken))
        self.health = min(100.0, self.health + HEALING * reward - DECAY)
        self.steps += 1
        terminated = self.health <= 0
        truncated = not terminated and self.steps >= LIMIT
        info = {"health": max(0.0, self.health), "success": truncated}
        return self._observe(), reward, terminated, truncated, info

    def _look(self) -> list[str]:
        """Reads the state of the game; the colours of the items that are gone."""
        state = self.game.get_state()
        before, self.screen = self.items, state.screen_buffer
        names = {f"TwoColors{colour}": colour for colour in COLOURS}
        self.items = {o.id: names[o.name] for o in state.objects if o.name in names}
        return [colour for i, colour in before.items() if i not in self.items]

    def _observe(self) -> np.ndarray:
        """The screen at half its size."""
        pixels = np.asarray(self.screen).reshape(60, 2, 80, 2, 3)
        return pixels.mean((1, 3)).astype(np.uint8)

    def render(self) -> np.ndarray | None:
        return self.screen if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        self.end()
        self.screen = None


def _end(game: Any, folder: Path) -> None:
    """Ends the game, which writes to its folder as it ends, and removes the folder."""
    game.close()
    shutil.rmtree(folder, ignore_errors=True)


def _start(game: Any, folder: Path) -> None:
    import vizdoom

    wad = folder / "two_colors.wad"
    wad.write_bytes(two_colors_wad())
    game.set_doom_scenario_path(str(wad))
    game.set_doom_config_path(str(folder / "vizdoom.ini"))
    game.set_doom_map(MAPS[COLOURS[0]])
    game.set_screen_resolution(vizdoom.ScreenResolution.RES_160X120)
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    for what in ("hud", "weapon", "crosshair", "decals", "particles", "messages"):
        getattr(game, f"set_render_{what}")(False)
    game.set_render_screen_flashes(False)
    game.set_window_visible(False)
    game.set_sound_enabled(False)
    button = vizdoom.Button
    game.set_available_buttons(
        [button.MOVE_FORWARD, button.TURN_LEFT, button.TURN_RIGHT]
    )
    game.set_objects_info_enabled(True)
    game.set_labels_buffer_enabled(True)
    game.set_episode_start_time(4)  # the items are there
    game.set_episode_timeout(0)
    with contextlib.chdir(folder):  # where ViZDoom makes a folder of its own
        game.init()
