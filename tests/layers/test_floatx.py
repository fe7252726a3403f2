"""Keras's `floatx` changes nothing of what has a dtype of its own."""

import contextlib

import keras
import numpy as np
import pytest
from gymnasium import spaces

from keras_agalite.models import GridEncoder, MemoryPolicy
from tests.layers.memories import (
    BATCH,
    TIME,
    every_memory,
    make_memory,
    random_sequences,
    run,
)
from tests.memories import tiny


@contextlib.contextmanager
def floatx(dtype):
    keras.config.set_floatx(dtype)
    try:
        yield
    finally:
        keras.config.set_floatx("float32")


@every_memory
def test_a_memory_of_float32_does_not_read_floatx(name):
    memory = make_memory(name, return_state=True, dtype="float32")
    start, mask = np.zeros((BATCH, TIME), bool), np.ones((BATCH, TIME), bool)
    start[0, 2] = True
    mask[1, 1] = mask[0, -1] = False
    inputs = {"start": start, "mask": mask}
    expected = run(memory, random_sequences(), **inputs)

    with floatx("bfloat16"):  # in which Keras on JAX takes integers for floats
        received = run(memory, random_sequences(), **inputs)

    for a, b in zip(
        keras.tree.flatten(received), keras.tree.flatten(expected), strict=True
    ):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_a_policy_of_float32_does_not_read_floatx(dtype):
    space = spaces.Dict(
        {
            "grid": spaces.Box(0, 3, (2, 2, 2), np.uint8),
            "number": spaces.MultiDiscrete([2, 3], start=[0, 1]),
            "action_mask": spaces.MultiBinary(3),
        }
    )
    encoder = GridEncoder(space, (3, 4), 8, dtype="float32")
    policy = MemoryPolicy(
        encoder, tiny("gru", dtype="float32"), spaces.Discrete(3, start=1), 8
    )
    observation = policy.sample_observation(2, seed=0)
    observation["action_mask"] = np.array([[0, 1, 1], [1, 0, 0]], np.int8)
    expected = policy.step(observation)[:2]
    policy._step = None  # is compiled again

    with floatx(dtype):
        received = policy.step(observation)[:2]
        action, _ = policy.act(observation, seed=0)

    for a, b in zip(received, expected, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b)
    assert action[1] == 1
