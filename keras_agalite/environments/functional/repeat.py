"""POPGym's Repeat First and Repeat Previous as pure functions."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from keras_agalite.environments._checks import check_integer
from keras_agalite.environments.functional.protocol import FunctionalEnv

SUITS, RANKS = 4, 13


class RepeatState(NamedTuple):
    """What is on the table.

    Attributes:
        left: Cards of each suit still to be dealt, int32 of shape `(4,)`.
        memory: Suits to remember, int32: the first one, or the last `k`.
        suit: Suit of the card dealt last.
        dealt: Number of cards dealt.
    """

    left: Any
    memory: Any
    suit: Any
    dealt: Any


class _Repeat(FunctionalEnv):
    """Cards are dealt one by one until none is left; the reward is for their suits."""

    def __init__(self, num_decks: int) -> None:
        check_integer("num_decks", num_decks)
        self.num_decks = num_decks
        self.num_cards = SUITS * RANKS * num_decks
        # Never reached: the last card is dealt, and the episode over, a step earlier.
        self.max_episode_steps = self.num_cards
        self.observation_space = spaces.Box(0.0, 1.0, (SUITS,), np.float32)
        self.action_space = spaces.Discrete(SUITS)

    def deal(self, key: Any, left: Any) -> tuple[Any, Any]:
        """A card of a shuffled deck, without the deck: `(suit, left)`."""
        card = jax.random.randint(key, (), 0, jnp.sum(left))
        suit = jnp.sum(card >= jnp.cumsum(left), dtype=jnp.int32)
        return suit, left.at[suit].add(-1)

    def first(self, key: Any) -> tuple[Any, Any]:
        return self.deal(key, jnp.full(SUITS, RANKS * self.num_decks, jnp.int32))

    def pay(self, right: Any, rewarded: int) -> Any:
        """So much that an episode's return is from -1 to 1."""
        return jnp.where(right, 1.0, -1.0).astype(jnp.float32) / rewarded

    def observe(self, state: RepeatState) -> Any:
        return jax.nn.one_hot(state.suit, SUITS, dtype=jnp.float32)


class RepeatFirst(_Repeat):
    """Say the suit of the first card, at every step.

    The task is that of Morad et al., "POPGym", ICLR 2023, arXiv 2303.01859, with the
    rules of its program: nothing but its place marks the first card. An episode deals
    every card once, which takes `52 * num_decks - 1` steps; Easy, Medium and Hard
    have 1, 8 and 16 decks. A right suit earns `1 / (52 * num_decks - 1)`, a wrong one
    costs as much.

    Observation: the suit of the card dealt, one-hot, float32 of shape `(4,)`.
    Actions: a suit.

    Args:
        num_decks: Number of decks.

    Raises:
        ValueError: If `num_decks` is not an integer of at least 1.

    Example:
        >>> env = functional.RepeatFirst(num_decks=8)
        >>> env.observe(env.reset(jax.random.key(0))).shape
        (4,)
    """

    def __init__(self, num_decks: int = 1) -> None:
        super().__init__(num_decks)

    def reset(self, key: Any) -> RepeatState:
        suit, left = self.first(key)
        return RepeatState(left, suit, suit, jnp.int32(1))

    def step(self, key: Any, state: RepeatState, action: Any) -> Any:
        reward = self.pay(action == state.memory, self.num_cards - 1)
        suit, left = self.deal(key, state.left)
        state = RepeatState(left, state.memory, suit, state.dealt + 1)
        return state, reward, state.dealt == self.num_cards, {}


class RepeatPrevious(_Repeat):
    """Say the suit of an earlier card, at every step.

    The task is that of Morad et al., "POPGym", ICLR 2023, arXiv 2303.01859, with the
    rules of its program: the suit to say is that of the `k`-th card from the last, so
    1 is the card in sight. The first `k - 1` steps pay nothing; after them a right
    suit earns `1 / (52 * num_decks - k)` and a wrong one costs as much. An episode
    takes `52 * num_decks - 1` steps. Easy, Medium and Hard have k = 4, 32 and 64 and
    1, 2 and 3 decks.

    Observation: the suit of the card dealt, one-hot, float32 of shape `(4,)`.
    Actions: a suit.

    Args:
        k: Which card, counted from the last.
        num_decks: Number of decks.

    Raises:
        ValueError: If `num_decks` is not an integer of at least 1, or `k` not one
            of at least 1 and below the number of cards.

    Example:
        >>> env = functional.RepeatPrevious(k=32, num_decks=2)
        >>> env.max_episode_steps
        104
    """

    def __init__(self, k: int = 4, num_decks: int = 1) -> None:
        super().__init__(num_decks)
        if not isinstance(k, int) or not 1 <= k < self.num_cards:
            raise ValueError(
                f"`k` must be an integer from 1 to {self.num_cards - 1}. "
                f"Received: k={k!r}"
            )
        self.k = k

    def reset(self, key: Any) -> RepeatState:
        suit, left = self.first(key)
        memory = jnp.zeros(self.k, jnp.int32).at[-1].set(suit)
        return RepeatState(left, memory, suit, jnp.int32(1))

    def step(self, key: Any, state: RepeatState, action: Any) -> Any:
        reward = self.pay(action == state.memory[0], self.num_cards - self.k)
        reward = jnp.where(state.dealt >= self.k, reward, 0.0)
        suit, left = self.deal(key, state.left)
        memory = jnp.append(state.memory[1:], suit)
        state = RepeatState(left, memory, suit, state.dealt + 1)
        return state, reward, state.dealt == self.num_cards, {}
