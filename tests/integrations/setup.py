"""Small environments, policies and agents, shared by the tests."""

import gymnasium
import keras
import numpy as np

import keras_agalite
from keras_agalite.environments import TMaze


def small_policy(observation_space, action_space, memory=None, seed=0):
    keras.utils.set_random_seed(seed)
    return keras_agalite.MemoryPolicy(
        keras_agalite.MLPEncoder(observation_space),
        memory
        or keras_agalite.AGaLiTe(
            num_layers=2,
            hidden_dim=12,
            num_heads=2,
            head_dim=4,
            intermediate_dim=10,
            eta=2,
            r=2,
        ),
        action_space,
        head_units=8,
    )


def tmaze_policy(seed=0, memory=None):
    env = TMaze(corridor_length=5)
    return small_policy(env.observation_space, env.action_space, memory, seed)


def tmazes(number, max_episode_steps=1000):
    return gymnasium.make_vec(
        "keras_agalite/TMaze-v0",
        num_envs=number,
        vectorization_mode="sync",
        vector_kwargs={},
        max_episode_steps=max_episode_steps,
        corridor_length=5,
    )


class Counter(gymnasium.Env):
    """Counts its steps; ends as the action says: 1 terminates, 2 truncates."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.count += 1
        observation = np.full(1, self.count, np.float32)
        return observation, float(self.count), action == 1, action == 2, {}
