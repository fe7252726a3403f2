"""Players of Memory Gym, who see nothing but the images.

An image has its first axis to the right and the second one down, as Memory Gym gives it.
Drawn actions (`--sampled`) are random ones now and then, after which the players go on
from where they are: recordings then show how to recover.
"""

import abc
import dataclasses
from typing import Any

import numpy as np

from training.recordings.players import Player

SKIN, FALL = (250, 204, 153), (255, 0, 0)
# Of the grids: what an action does, and the directions in the order of turns to the left.
STAY, LEFT, RIGHT, FORWARD = range(4)
DIRECTIONS = ((0, -1), (-1, 0), (0, 1), (1, 0))
Tile = tuple[int, int]


class ImagePlayer(Player):
    """A player who has notes of each episode, and looks at one image at a time."""

    noise = 0.1

    def initial_state(self, batch_size: int) -> list[Any]:
        return [None] * batch_size

    def act(
        self,
        observation: np.ndarray,
        state: list[Any],
        *,
        deterministic: bool = True,
        seed: np.random.Generator | None = None,
    ) -> tuple[np.ndarray, list[Any]]:
        rng = None if deterministic else seed
        actions, notes = [], []
        for image, known in zip(observation, state, strict=True):
            known = self.begin(image) if known is None else known
            action, may_differ = self.choose(image, known)
            if rng is not None and may_differ and rng.random() < self.noise:
                action = rng.integers(np.broadcast_to(self.choices, np.shape(action)))
            self.note(known, action)
            actions.append(action)
            notes.append(known)
        return np.array(actions, self.action_space.dtype), notes

    @property
    def choices(self) -> Any:
        """How many actions there are."""
        space: Any = self.action_space
        return getattr(space, "nvec", getattr(space, "n", None))

    @abc.abstractmethod
    def begin(self, image: np.ndarray) -> Any:
        """The notes on an episode of which this is the first image."""

    @abc.abstractmethod
    def choose(self, image: np.ndarray, known: Any) -> tuple[Any, bool]:
        """Looks, takes notes, and chooses.

        Returns:
            The action, and whether another one may be drawn.
        """

    @abc.abstractmethod
    def note(self, known: Any, action: Any) -> None:
        """Takes notes of what was done."""


def turn_or_go(facing: int, direction: int) -> int:
    """The next action on a grid to walk in a direction."""
    turns = (direction - facing) % 4
    return FORWARD if turns == 0 else RIGHT if turns == 3 else LEFT


def turned(facing: int, action: int) -> int:
    """Where one faces after an action."""
    return (facing + (action == LEFT) - (action == RIGHT)) % 4


def is_beside(tile: Tile, other: Tile) -> bool:
    """Whether a step, or none, leads from one tile to the other."""
    return abs(tile[0] - other[0]) + abs(tile[1] - other[1]) <= 1


def where(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """The middle of what has a colour; NaN if nothing has."""
    places = np.argwhere((image == colour).all(axis=-1))
    return places.mean(axis=0) if len(places) else np.full(2, np.nan)


@dataclasses.dataclass
class Path:
    """What is known of a path: where it goes on, which tiles are off it."""

    goal: Tile
    here: Tile
    ahead: dict[Tile, Tile] = dataclasses.field(default_factory=dict)
    on: set[Tile] = dataclasses.field(default_factory=set)
    off: set[Tile] = dataclasses.field(default_factory=set)
    facing: int = 0


class MysteryPathPlayer(ImagePlayer):
    """Walks what it knows of the path, then to the neighbour nearest to the goal.

    Of the neighbours of the last tile that is known, one where it fell is not tried
    again. It needs `show_goal`, and the grid.
    """

    size = 12  # pixels of a tile
    extent = frozenset(range(7))

    def begin(self, image: np.ndarray) -> Path:
        here = self.tile(where(image, SKIN))
        return Path(self.tile(where(image, (0, 255, 0))), here, on={here})

    def tile(self, place: np.ndarray) -> Tile:
        x, y = np.nan_to_num(place) // self.size
        return int(x), int(y)

    def choose(self, image: np.ndarray, known: Path) -> tuple[int, bool]:
        before, here = known.here, self.tile(where(image, SKIN))
        if before not in known.off and not is_beside(before, here):
            vars(known).update(vars(self.begin(image)))  # the row's next episode
        known.here = here
        if (image == FALL).all(axis=-1).any():
            known.off.add(here)
            return STAY, False
        if here not in known.on:
            known.on.add(here)
            known.ahead[before] = here
        x, y = known.ahead.get(here) or self.untried(known)
        step = x - here[0], y - here[1]
        if step not in DIRECTIONS:
            return STAY, True
        return turn_or_go(known.facing, DIRECTIONS.index(step)), True

    def untried(self, known: Path) -> Tile:
        """The neighbour to try: nearest to the goal, along the longer way first."""
        (x, y), (goal_x, goal_y) = known.here, known.goal
        steps = [(dx, dy) for dx, dy in DIRECTIONS if {x + dx, y + dy} <= self.extent]
        tiles = [(x + dx, y + dy) for dx, dy in steps if (x + dx, y + dy) not in known.off]
        new = [tile for tile in tiles if tile not in known.on]

        def rank(tile: Tile) -> tuple[int, int]:
            dx, dy = abs(tile[0] - goal_x), abs(tile[1] - goal_y)
            return dx + dy, max(dx, dy)

        return min(new or tiles or [known.here], key=rank)

    def note(self, known: Path, action: int) -> None:
        if known.here not in known.off:
            known.facing = turned(known.facing, action)
