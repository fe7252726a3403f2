"""An environment that fails when told to: "tests.training.faulty:faulty/Faulty-v0"."""

import os
import time
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium import spaces

NAME = "tests.training.faulty:faulty/Faulty-v0"


class Faulty(gymnasium.Env):
    """Counts its steps; episodes last 6 of them.

    Args:
        fault: What happens once the step is reached: "raise", "die", "hang", "slow",
            "spin", "nan", "infinite", "shape", "dtype", "reward", "reset"; or nothing.
        at: The step, over all episodes.
        once: A file: the fault happens once, in whichever environment makes it.
        only: The fault happens in environments that were seeded with this alone.
    """

    def __init__(self, fault="", at=3, once="", only=-1):
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.fault, self.at, self.once, self.only = fault, at, once, only
        self.steps = self.elapsed = 0
        self.first_seed = -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None and self.first_seed < 0:
            self.first_seed = seed
        self.elapsed = 0
        if self.fault == "reset" and self.is_time(self.at):
            raise RuntimeError("no such level")
        return self.observe(), {}

    def step(self, action):
        self.steps += 1
        self.elapsed += 1
        observation, reward = self.observe(), 1.0
        if self.is_time(self.steps):
            match self.fault:
                case "raise":
                    raise RuntimeError("the simulator broke")
                case "die":
                    os._exit(7)
                case "hang":
                    time.sleep(1000)
                case "slow":
                    time.sleep(1)
                case "spin":
                    while True:
                        pass
                case "nan":
                    observation[1] = np.nan
                case "infinite":
                    observation[0] = np.inf
                case "shape":
                    observation = observation[:1]
                case "dtype":
                    observation = observation.astype(np.float64)
                case "reward":
                    reward = float("nan")
        return observation, reward, False, self.elapsed == 6, {"success": True}

    def observe(self):
        return np.array([self.elapsed, self.first_seed], np.float32)

    def is_time(self, step):
        if step != self.at or self.only not in (-1, self.first_seed):
            return False
        if self.once:
            try:
                Path(self.once).touch(exist_ok=False)
            except FileExistsError:
                return False
        return True


gymnasium.register("faulty/Faulty-v0", Faulty, disable_env_checker=True)
