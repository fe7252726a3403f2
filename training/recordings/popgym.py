"""Players of POPGym's tasks, who know the rules and what they have seen.

Morad et al., "POPGym: Benchmarking Partially Observable Reinforcement Learning", ICLR
2023, arXiv 2303.01859.
"""

import dataclasses
from typing import Any

import gymnasium
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from training.recordings.players import Player


class POPGymPlayer(Player):
    """A player of one family of tasks.

    Args:
        vector: Environments `popgym:<task>`, stepped in this process.

    Raises:
        ValueError: If the environments are others.

    Attributes:
        task: POPGym's own environment, one of those in the vector.
    """

    def __init__(self, vector: gymnasium.vector.VectorEnv[Any, Any, Any]) -> None:
        super().__init__(vector)
        envs = [env.unwrapped for env in getattr(vector.unwrapped, "envs", ())]
        tasks = [getattr(env, "env", None) for env in envs]
        family = type(self).__name__.removesuffix("Player")
        names = {type(task).__name__ for task in tasks}
        if not names or not all(name.startswith(family) for name in names):
            raise ValueError(
                f"{type(self).__name__} plays in environments `popgym:{family}...` "
                f"of this process. Received: {vector.unwrapped!r}"
            )
        self.task = tasks[0]


class RepeatFirstPlayer(POPGymPlayer):
    """Repeats the first card of RepeatFirst."""

    def act(self, observation: Any, state: Any, **how: Any) -> tuple[np.ndarray, Any]:
        first = observation.copy() if state is None else state
        return first, first


class RepeatPreviousPlayer(POPGymPlayer):
    """Repeats the card of RepeatPrevious that is asked for.

    Its state holds the last `k` cards, the oldest first.
    """

    def initial_state(self, batch_size: int) -> np.ndarray:
        return np.zeros((batch_size, self.task.k), int)

    def act(self, observation: Any, state: Any, **how: Any) -> tuple[np.ndarray, Any]:
        state = np.column_stack([state[:, 1:], observation])
        return state[:, 0], state


class CountRecallPlayer(POPGymPlayer):
    """Counts the cards of CountRecall, and says what is asked for."""

    def initial_state(self, batch_size: int) -> np.ndarray:
        return np.zeros((batch_size, self.observation_space.nvec[0]), int)

    def act(self, observation: Any, state: Any, **how: Any) -> tuple[np.ndarray, Any]:
        rows, (dealt, asked) = np.arange(len(observation)), observation.T
        counts = state.copy()
        counts[rows, dealt] += 1
        return counts[rows, asked], counts


class AutoencodePlayer(POPGymPlayer):
    """Watches the cards of Autoencode, and repeats them from the last to the first.

    Its state are the cards that it still has to repeat, and whether it repeats.
    """

    def initial_state(self, batch_size: int) -> list[tuple[list[int], bool]]:
        return [([], False)] * batch_size

    def act(self, observation: Any, state: Any, **how: Any) -> tuple[np.ndarray, Any]:
        actions, after = [], []
        for (watched, suit), (cards, repeats) in zip(observation, state, strict=True):
            # The last card is shown when the player shall begin.
            cards = cards if repeats else [*cards, int(suit)]
            repeats = not watched
            actions.append(cards[-1] if repeats and cards else 0)
            after.append((cards[:-1] if repeats else cards, repeats))
        return np.array(actions), after


class HigherLowerPlayer(POPGymPlayer):
    """Counts the cards of HigherLower: are more of the rest higher, or lower?"""

    def initial_state(self, batch_size: int) -> np.ndarray:
        return np.full((batch_size, self.observation_space.n), 4 * self.task.num_decks)

    def act(self, observation: Any, state: Any, **how: Any) -> tuple[np.ndarray, Any]:
        left, rows = state.copy(), np.arange(len(observation))
        left[rows, observation] -= 1
        signs = np.sign(np.arange(left.shape[1]) - observation[:, None])
        return ((signs * left).sum(-1) < 0).astype(int), left


class MultiarmedBanditPlayer(POPGymPlayer):
    """Pulls the arm whose chance, by what it has paid, may be the highest.

    That is the expectation of a uniform prior and half a standard deviation, as if of a
    chance of a half: (wins + 1) / (pulls + 2) + 1 / (2 sqrt(pulls + 2)). Its state are
    wins and pulls of each arm, and the last arm.
    """

    def initial_state(self, batch_size: int) -> tuple[np.ndarray, ...]:
        zeros = np.zeros((batch_size, self.action_space.n), int)
        return zeros, zeros, np.full(batch_size, -1)

    def act(self, observation: Any, state: Any, **how: Any) -> tuple[np.ndarray, Any]:
        wins, pulls, last = state
        pulled = np.arange(wins.shape[1]) == last[:, None]
        paid = observation["observation"][:, None]
        wins, pulls = wins + pulled * paid, pulls + pulled
        action = ((wins + 1) / (pulls + 2) + 0.5 / np.sqrt(pulls + 2)).argmax(-1)
        return action, (wins, pulls, action)


@dataclasses.dataclass
class _Cards:
    """What is known of a game of Concentration."""

    seen: np.ndarray  # values of the cards, -1 of those never turned up
    found: np.ndarray  # whether a card stays face up
    turned: list[int]  # those of this turn


class ConcentrationPlayer(POPGymPlayer):
    """Turns up pairs in Concentration, and forgets no card.

    It takes a pair that it knows; else it turns up the first card that it has not seen,
    and then its like, or the next one that it has not seen. Of drawn actions a few are
    random cards that lie face down; recorded is what it would have turned up.

    Attributes:
        noise: Share of random actions among drawn ones.
    """

    noise = 0.2

    def initial_state(self, batch_size: int) -> list[None]:
        return [None] * batch_size

    def act(
        self,
        observation: Any,
        state: Any,
        *,
        deterministic: bool = True,
        seed: np.random.Generator | None = None,
    ) -> tuple[np.ndarray, Any]:
        hidden = self.observation_space["observation"].nvec[0] - 1
        after = [
            self._look(cards, hidden, known)
            for cards, known in zip(observation["observation"], state, strict=True)
        ]
        self.advice = np.array([self._choose(known) for known in after])
        actions = self.advice.copy()
        for row, known in enumerate(after):
            closed = np.flatnonzero(self._closed(known))
            if not deterministic and closed.size and seed.random() < self.noise:
                actions[row] = seed.choice(closed)
            known.turned.append(int(actions[row]))
        return actions, after

    @staticmethod
    def _look(cards: np.ndarray, hidden: int, known: _Cards | None) -> _Cards:
        if known is None:
            known = _Cards(np.full(cards.shape, -1), np.zeros(cards.shape, bool), [])
        seen = np.where(cards == hidden, known.seen, cards)
        found, turned = known.found.copy(), list(known.turned)
        if len(turned) == 2:
            found[turned] = seen[turned[0]] == seen[turned[1]]
            turned = []
        return _Cards(seen, found, turned)

    @staticmethod
    def _closed(known: _Cards) -> np.ndarray:
        closed = ~known.found
        closed[known.turned] = False
        return closed

    @classmethod
    def _choose(cls, known: _Cards) -> int:
        closed, seen = cls._closed(known), known.seen
        remembered = closed & (seen >= 0)
        if known.turned:
            pairs = remembered & (seen == seen[known.turned[0]])
        else:
            values, counts = np.unique(seen[remembered], return_counts=True)
            pairs = remembered & np.isin(seen, values[counts > 1])
        for choice in (pairs, closed & (seen < 0), closed):
            if choice.any():
                return int(choice.argmax())
        return 0  # all are found: the game is over


class BattleshipPlayer(POPGymPlayer):
    """Fires where most placements of ships are left, in Battleship.

    A placement covers no miss, and counts a hundred times as much for each hit in it.
    The player is not told when a ship sinks. Its state are shots, hits and the last
    shot.
    """

    ships = (2, 3, 3, 4)

    def initial_state(self, batch_size: int) -> tuple[np.ndarray, ...]:
        zeros = np.zeros((batch_size, *self.action_space.nvec), bool)
        return zeros, zeros, np.full(batch_size, -1)

    def act(self, observation: Any, state: Any, **how: Any) -> tuple[np.ndarray, Any]:
        fired, hits, last = state
        shape = fired.shape[1:]
        shot = (np.arange(fired[0].size) == last[:, None]).reshape(fired.shape)
        fired = fired | shot
        hits = hits | (shot & (observation["observation"] > 0)[:, None, None])
        weights = np.zeros(fired.shape)
        for axis in (1, 2):
            for size in self.ships:
                miss = sliding_window_view(fired & ~hits, size, axis).any(-1)
                count = sliding_window_view(hits, size, axis).sum(-1)
                placement = np.where(miss, 0.0, 100.0**count)
                for i in range(size):
                    part = [slice(None)] * 3
                    part[axis] = slice(i, i + placement.shape[axis])
                    weights[tuple(part)] += placement
        weights = np.where(fired, -1.0, weights).reshape(len(fired), -1)
        last = weights.argmax(-1)
        return np.stack(np.unravel_index(last, shape), -1), (fired, hits, last)
