"""A scripted player of ViZDoom's Two Colors, which knows only what it has seen."""

from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from keras_agalite.environments.vizdoom_two_colors import ViZDoomTwoColors
from training.recordings.players import Player

FORWARD, LEFT, RIGHT, FORWARD_LEFT, FORWARD_RIGHT = range(5)
ITEM, SIGN = "TwoColors", "TwoColorsSign"
# Units of the map: a torch is taken at 32, and walked around if one of the other
# colour is nearer to the way than WIDTH and nearer to the player than AHEAD.
WIDTH, AHEAD = 48.0, 250.0
# Degrees: what a step turns by is 14. Ways around are looked for up to 72.
STRAIGHT = 7.5
AROUND = np.arange(-72.0, 73.0, 8.0)
# What a degree costs in units of way: of a turn, and of a way around.
TURN, DETOUR = 3.0, 4.0
# Beyond so many degrees the player turns where it stands, sooner near a torch.
NEAR, SHARP, SHARP_NEAR = 150.0, 45.0, 25.0
# When the player goes astray: shares of drawn actions, of steps at which it changes its
# mind, and of changes to the wrong colour.
NOISE, CHANGE, WRONG = 0.1, 1 / 30, 0.5
OTHER = {"Red": "Green", "Green": "Red"}


class View(NamedTuple):
    """What is on the screen.

    Attributes:
        sign: Colour of the sign, or None if it is not there.
        colours: Colours of the torches, of shape `(n,)`.
        distances: Their distances, in units of the map.
        turns: Their directions from that of the player, degrees to the left.
    """

    sign: str | None
    colours: np.ndarray
    distances: np.ndarray
    turns: np.ndarray


class TwoColorsPlayer(Player):
    """Walks to torches that have the colour of the sign, around the others.

    It knows the colour once the sign has been on the screen, and of torches those that
    are on the screen now (ViZDoom's labels). It takes the nearest one that it can
    reach, and turns left where there is none.

    When its actions are drawn (`--sampled`), it goes astray: for some thirty steps at a
    time, it walks to torches of its own colour or, in one case of two, of the other
    one, and a tenth of its actions are drawn evenly. What it would have done instead is
    its `advice`. So recordings say what to do in places to which it would not go, and
    what it did before does not tell its colour: the sign alone does.

    Args:
        vector: Environments `vizdoom_two_colors`, stepped in this process.

    Raises:
        ValueError: If the environments are others.
    """

    action_space: spaces.Discrete

    def __init__(self, vector: gymnasium.vector.VectorEnv[Any, Any, Any]) -> None:
        super().__init__(vector)
        self.astray = np.zeros(vector.num_envs, bool)
        self.envs = [env.unwrapped for env in getattr(vector.unwrapped, "envs", ())]
        if not all(isinstance(e, ViZDoomTwoColors) for e in self.envs or [None]):
            raise ValueError(
                "TwoColorsPlayer plays in environments `vizdoom_two_colors` of this "
                f"process. Received: {vector.unwrapped!r}"
            )

    def initial_state(self, batch_size: int) -> list[str | None]:
        return [None] * batch_size

    def act(
        self,
        observation: np.ndarray,
        state: list[str | None],
        *,
        deterministic: bool = True,
        seed: np.random.Generator | None = None,
    ) -> tuple[np.ndarray, list[str | None]]:
        views = [look(env) for env in self.envs]
        begins = np.array([colour is None for colour in state])
        state = [view.sign or known for view, known in zip(views, state, strict=True)]
        action = np.array([choose(*pair) for pair in zip(views, state, strict=True)])
        self.advice = None
        if not deterministic:
            self.advice = action
            rng = np.random.default_rng(seed)
            action = self._go_astray(views, state, begins, rng)
        return action, state

    def _go_astray(
        self,
        views: list[View],
        state: list[str | None],
        begins: np.ndarray,
        rng: np.random.Generator,
    ) -> np.ndarray:
        number = len(views)
        wrong, drawn = rng.random(number) < WRONG, rng.integers(5, size=number)
        changes, is_drawn = rng.random((2, number)) < [[CHANGE], [NOISE]]
        self.astray = np.where(changes | begins, wrong, self.astray)
        aims = [
            OTHER[c] if c and a else c for c, a in zip(state, self.astray, strict=True)
        ]
        action = [choose(*pair) for pair in zip(views, aims, strict=True)]
        return np.where(is_drawn, drawn, action)


def look(env: Any) -> View:
    """What an environment shows on its screen."""
    from vizdoom import GameVariable

    x, y, angle = (
        env.game.get_game_variable(variable)
        for variable in (
            GameVariable.POSITION_X,
            GameVariable.POSITION_Y,
            GameVariable.ANGLE,
        )
    )
    state = env.game.get_state()
    pixels = np.bincount(state.labels_buffer.ravel(), minlength=256)
    labels = [label for label in state.labels if pixels[label.value]]
    names = [label.object_name for label in labels]
    signs = [name.removeprefix(SIGN) for name in names if name.startswith(SIGN)]
    torches = [
        (name.removeprefix(ITEM), at.object_position_x - x, at.object_position_y - y)
        for name, at in zip(names, labels, strict=True)
        if name.startswith(ITEM) and not name.startswith(SIGN)
    ]
    colours = np.array([colour for colour, _, _ in torches], str)
    dx, dy = np.array([place for _, *place in torches]).reshape(-1, 2).T
    turns = (np.degrees(np.arctan2(dy, dx)) - angle + 180.0) % 360.0 - 180.0
    return View(signs[0] if signs else None, colours, np.hypot(dx, dy), turns)


def choose(view: View, colour: str | None) -> int:
    """The action of a player who looks for a colour.

    Args:
        view: What is on the screen.
        colour: The colour, or None if it is not known yet.
    """
    own = view.colours == colour
    distance = view.distances[own][:, None]
    heading = view.turns[own][:, None] + AROUND
    # Torches of the other colour, seen along each heading to each of its own.
    angle = np.radians(view.turns[~own] - heading[..., None])
    along, across = (view.distances[~own] * f(angle) for f in (np.cos, np.sin))
    limit = np.minimum(distance, AHEAD)[..., None]
    blocked = (along > 0) & (along < limit) & (np.abs(across) < WIDTH)
    cost = distance + TURN * np.abs(heading) + DETOUR * np.abs(AROUND)
    cost = np.where(blocked.any(-1), np.inf, cost)
    if not np.isfinite(cost).any():
        return LEFT
    torch, way = np.unravel_index(cost.argmin(), cost.shape)
    turn = heading[torch, way]
    if abs(turn) < STRAIGHT:
        return FORWARD
    sharp = SHARP_NEAR if distance[torch, 0] < NEAR else SHARP
    if abs(turn) > sharp:
        return LEFT if turn > 0 else RIGHT
    return FORWARD_LEFT if turn > 0 else FORWARD_RIGHT
