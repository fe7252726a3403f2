"""An environment whose illegal actions end the episode: "masked/Masked-v0"."""

import gymnasium
import numpy as np
from gymnasium import spaces

NAME = "tests.training.masked:masked/Masked-v0"


class Masked(gymnasium.Env):
    """Each step forbids some actions at random; an illegal one ends the episode.

    The reward is 1 for a legal action, so that a return of `LENGTH` shows that all
    were. Nothing is legal once an episode is over, as in a board game.

    Args:
        parts: Several actions at a time instead of one.
        stuck: A step after which no action is legal, though the episode goes on.
    """

    LENGTH = 8

    def __init__(self, parts=False, stuck=-1):
        self.action_space = (
            spaces.MultiDiscrete([2, 3], start=[0, 1]) if parts else spaces.Discrete(5)
        )
        self.sizes = [2, 3] if parts else [5]
        self.starts = np.array([0, 1]) if parts else np.array([0])
        self.stuck = stuck
        self.observation_space = spaces.Dict(
            {
                "board": spaces.Box(0.0, 1.0, (2,), np.float32),
                "action_mask": spaces.Box(0, 1, (5,), np.int8),
            }
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.elapsed = 0
        return self._observe(False), {}

    def step(self, action):
        places = np.atleast_1d(action) - self.starts
        offsets = np.cumsum([0, *self.sizes[:-1]])
        is_legal = bool(self.mask[offsets + places].all())
        self.elapsed += 1
        over = not is_legal or self.elapsed == self.LENGTH
        return self._observe(over), float(is_legal), over, False, {"success": is_legal}

    def _observe(self, over):
        self.mask = np.concatenate([self._draw(n) for n in self.sizes])
        if over or self.elapsed == self.stuck:
            self.mask[:] = 0
        board = self.np_random.random(2).astype(np.float32)
        return {"board": board, "action_mask": self.mask.astype(np.int8)}

    def _draw(self, size):
        mask = self.np_random.integers(2, size=size)
        mask[self.np_random.integers(size)] = 1
        return mask


gymnasium.register("masked/Masked-v0", Masked, disable_env_checker=True)
