"""Players of Memory Gym, who see nothing but the images.

Memory Gym's images have their first axis to the right and the second one down. Among
drawn actions (`--sampled`) a random one comes now and then, and a player goes on from
where it leads: recordings then show how to recover.
"""

import abc
import dataclasses
from typing import Any

import numpy as np
from gymnasium import spaces

from training.recordings.players import Player

SKIN, FALL, GOAL = (250, 204, 153), (255, 0, 0), (0, 255, 0)
COMMAND, EXPLOSION = (255, 255, 255), (81, 18, 26)
COIN, EXIT = (255, 165, 0), (55, 55, 55)
# On a grid: the actions, and the directions, one turn to the left after another.
STAY, LEFT, RIGHT, FORWARD = range(4)
DIRECTIONS = ((0, -1), (-1, 0), (0, 1), (1, 0))
Tile = tuple[int, int]


class ImagePlayer(Player):
    """A player who looks at images, and keeps notes of each episode.

    Attributes:
        noise: Share of random actions among drawn ones.
    """

    noise: float
    action_space: Any

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
        rng, space = None if deterministic else seed, self.action_space
        number = space.n if isinstance(space, spaces.Discrete) else space.nvec
        actions, notes = [], []
        for image, known in zip(observation, state, strict=True):
            known = self.begin(image) if known is None else known
            action, may_differ = self.choose(image, known)
            if rng is not None and may_differ and rng.random() < self.noise:
                action = rng.integers(number)
            self.note(known, action)
            actions.append(action)
            notes.append(known)
        return np.array(actions, space.dtype), notes

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


def tile_of(place: np.ndarray, size: int) -> Tile:
    """The tile of a place, both counted from the same corner."""
    x, y = np.nan_to_num(place) // size
    return int(x), int(y)


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

    Where it fell it does not go again. For the grid, with `show_goal`.
    """

    noise = 0.1
    size = 12  # pixels of a tile
    extent = frozenset(range(7))

    def begin(self, image: np.ndarray) -> Path:
        here = tile_of(where(image, SKIN), self.size)
        return Path(tile_of(where(image, GOAL), self.size), here, on={here})

    def choose(self, image: np.ndarray, known: Path) -> tuple[int, bool]:
        before, here = known.here, tile_of(where(image, SKIN), self.size)
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
        direction = DIRECTIONS.index((x - here[0], y - here[1]))
        return turn_or_go(known.facing, direction), True

    def untried(self, known: Path) -> Tile:
        """The neighbour to try: nearest to the goal, along the longer way first."""
        (x, y), (goal_x, goal_y) = known.here, known.goal
        tiles = [(x + dx, y + dy) for dx, dy in DIRECTIONS]
        tiles = [tile for tile in tiles if set(tile) <= self.extent]
        new = [tile for tile in tiles if tile not in known.on | known.off]

        def rank(tile: Tile) -> tuple[int, int]:
            dx, dy = abs(tile[0] - goal_x), abs(tile[1] - goal_y)
            return dx + dy, max(dx, dy)

        return min(new or tiles, key=rank)

    def note(self, known: Path, action: int) -> None:
        if known.here not in known.off:
            known.facing = turned(known.facing, action)


@dataclasses.dataclass
class Orders:
    """What was commanded, and how far it is carried out."""

    commands: list[Tile] = dataclasses.field(default_factory=list)
    without: int = 1  # images since the last one with a command
    target: Tile | None = None
    exploding: bool = False
    facing: int = 0


class MortarMayhemPlayer(ImagePlayer):
    """Carries out the commands that were shown. For the grid."""

    noise = 0.05
    size, corner = 14, 7  # pixels of a tile, and in front of the first one

    def begin(self, image: np.ndarray) -> Orders:
        return Orders()

    def choose(self, image: np.ndarray, known: Orders) -> tuple[int, bool]:
        if known.target is None and not self.has_read(image, known):
            return STAY, False
        here = tile_of(where(image, SKIN) - self.corner, self.size)
        exploding = bool((image == EXPLOSION).all(axis=-1).any())
        if known.target is None or (known.exploding and not exploding):
            x, y = known.target or here
            dx, dy = known.commands.pop(0) if known.commands else (0, 0)
            known.target = x + dx, y + dy
        known.exploding = exploding
        x, y = known.target[0] - here[0], known.target[1] - here[1]
        if exploding or (x, y) == (0, 0):
            return STAY, False
        step = (np.sign(x), 0) if x else (0, np.sign(y))
        return turn_or_go(known.facing, DIRECTIONS.index(step)), True

    def has_read(self, image: np.ndarray, known: Orders) -> bool:
        """Reads a command; whether all were shown: one image is between two of them."""
        arrow = (image == COMMAND).all(axis=-1)
        if arrow.any() and known.without:
            x, y = where(image, COMMAND) - 41.5
            along_x = abs(x) > abs(y)
            step = int(np.sign(x)) * along_x, int(np.sign(y)) * (not along_x)
            known.commands.append((0, 0) if arrow.sum() > 100 else step)
        known.without = 0 if arrow.any() else known.without + 1
        return known.without > 1

    def note(self, known: Orders, action: int) -> None:
        known.facing = turned(known.facing, action)


@dataclasses.dataclass
class Places:
    """Where things are, in pixels."""

    agent: np.ndarray
    coin: np.ndarray
    exit: np.ndarray
    has_coin: bool = False


class SearingSpotlightsPlayer(ImagePlayer):
    """Walks to the coin, then to the exit, as it saw them before the lights went out.

    It counts its own steps, and does not mind the spotlights.
    """

    noise = 0.05
    straight, diagonal = 3, 2  # pixels of a step, along each axis
    edge = np.array([0, 4])  # where the arena begins
    low, high = np.array([6, 10]), np.array([78, 78])

    def begin(self, image: np.ndarray) -> Places:
        return Places(self.agent(image), where(image, COIN), where(image, EXIT))

    def agent(self, image: np.ndarray) -> np.ndarray:
        """The agent's middle; at first, a part of it may be outside of the image."""
        body = np.argwhere((image == SKIN).all(axis=-1))
        if not len(body):
            return np.zeros(2)
        first, last = body.min(axis=0), body.max(axis=0)
        return np.where(first <= self.edge, last - 5, first + 6)

    def choose(self, image: np.ndarray, known: Places) -> tuple[np.ndarray, bool]:
        if np.hypot(*(known.coin - known.agent)) <= 8:
            known.has_coin = True
        gap = (known.exit if known.has_coin else known.coin) - known.agent
        step = np.where(np.abs(gap) < 2, 0, np.sign(np.nan_to_num(gap))).astype(int)
        return np.array([0, 2, 1])[step], True

    def note(self, known: Places, action: np.ndarray) -> None:
        known.agent = self.moved(known.agent, action)

    def moved(self, place: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Where an action leads: 0 stays, 1 goes back, 2 goes on along its axis."""
        step = np.array([0, -1, 1])[action]
        size = self.diagonal if step.all() else self.straight
        return np.clip(place + size * step, self.low, self.high)
