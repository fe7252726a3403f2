"""Tiny policies, and observation spaces of every kind."""

import functools

import keras
import numpy as np
import pytest
from gymnasium import spaces

from keras_agalite.layers import MemoryRNN
from keras_agalite.models import MemoryPolicy, MLPEncoder
from tests.memories import TINY, tiny

UNBOUNDED = {"low": -np.inf, "high": np.inf, "dtype": np.float32}
VECTOR = spaces.Box(-1.0, 1.0, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (7, 6, 3), np.uint8)
NESTED = spaces.Dict(
    {
        "view": spaces.Dict({"image": IMAGE, "compass": spaces.Discrete(4, start=1)}),
        "previous_action": spaces.Box(shape=(3,), **UNBOUNDED),
        "previous_reward": spaces.Box(shape=(1,), **UNBOUNDED),
    }
)
OBSERVATION_SPACES = {
    "vector": VECTOR,
    "matrix": spaces.Box(-2.0, 3.0, (2, 3), np.float64),
    "image": IMAGE,
    "discrete": spaces.Discrete(4, start=-2),
    "multi_discrete": spaces.MultiDiscrete([2, 3]),
    "multi_discrete_of_two_axes": spaces.MultiDiscrete(
        [[2, 3], [4, 2]], start=[[0, 1], [-2, 5]]
    ),
    "multi_binary": spaces.MultiBinary((2, 2)),
    "tuple": spaces.Tuple([spaces.Discrete(3), spaces.Tuple([VECTOR, IMAGE])]),
    "nested": NESTED,
}
ACTION_SPACES = {
    "discrete": spaces.Discrete(3),
    "discrete_from_2": spaces.Discrete(3, start=2),
    "multi_discrete": spaces.MultiDiscrete([2, 4]),
    "multi_discrete_from": spaces.MultiDiscrete([2, 3], start=[1, -3]),
    "multi_binary": spaces.MultiBinary((2, 1)),
    "box": spaces.Box(-0.5, 1.0, (2, 3), np.float32),
}
MEMORIES = {
    **{name: functools.partial(tiny, name) for name in TINY},
    "stacked": lambda **k: MemoryRNN(
        [keras.layers.LSTMCell(4), keras.layers.GRUCell(5)], **k
    ),
}
every_memory = pytest.mark.parametrize("memory", MEMORIES)
every_observation_space = pytest.mark.parametrize(
    "space", OBSERVATION_SPACES.values(), ids=OBSERVATION_SPACES
)
every_action_space = pytest.mark.parametrize(
    "action_space", ACTION_SPACES.values(), ids=ACTION_SPACES
)


def make_policy(
    memory="gru",
    space=VECTOR,
    action_space=ACTION_SPACES["discrete"],
    encoder=MLPEncoder,
    dtype=None,
    normalize=False,
    **kwargs,
):
    return MemoryPolicy(
        encoder(space, dtype=dtype, **kwargs),
        MEMORIES[memory](dtype=dtype),
        action_space,
        head_units=8,
        normalize_observations=normalize,
    )


def randomise(model, seed=0, scale=0.5):
    """Gives every weight, biases included, random values."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        value = random.normal(0.0, scale, weight.shape)
        never_negative = weight.name in ("count", "variance")  # of a normaliser
        weight.assign(np.abs(value) if never_negative else value)


@pytest.fixture(scope="module", autouse=True)
def _quick_compilation(quick_compilation):
    """For each test of this folder."""


@functools.cache
def shared_policy(memory):
    """A small policy with random weights, which tests leave alone."""
    policy = make_policy(memory)
    randomise(policy)
    return policy


@pytest.fixture
def policy():
    return shared_policy("agalite")
