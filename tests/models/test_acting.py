"""What a program that acts sees: noise that can be repeated, no pauses, no warnings."""

import logging

import keras
import numpy as np
import pytest
from gymnasium import spaces

from keras_agalite.models import MemoryPolicy
from tests.helpers import BACKEND, compiled, to_numpy
from tests.memories import TINY
from tests.models.conftest import VECTOR, make_policy


def test_unseeded_actions_follow_from_the_seed_of_keras(policy):
    observation = policy.sample_observation(50, seed=0)

    def play(seed):
        keras.utils.set_random_seed(seed)
        return [policy.act(observation)[0].tolist() for _ in range(2)]

    first = play(0)

    assert first[0] != first[1]
    assert play(0) == first
    assert play(1) != first


def test_weights_are_read_anew():
    policy = make_policy("gru")
    observation = policy.sample_observation(2, seed=0)
    before, *_ = policy.step(observation)
    weights, zeros = policy.get_weights(), [np.zeros(w.shape) for w in policy.weights]

    policy.set_weights(zeros)

    assert np.abs(before).min() > 0
    assert not policy.step(observation)[0].any()
    policy.set_weights(weights)
    np.testing.assert_array_equal(policy.step(observation)[0], before)
    if BACKEND == "jax":
        zeros = [keras.ops.convert_to_tensor(x, "float32") for x in zeros]
        with keras.StatelessScope(list(zip(policy.weights, zeros, strict=True))):
            assert not policy.step(observation)[0].any()


def test_sequences_without_a_step_are_refused(policy):
    with pytest.raises(ValueError, match=r"one time step. Received: .*\(2, 0, 3\)"):
        policy(np.zeros((2, 0, 3), "float32"))
    with pytest.raises(ValueError, match=r"one time step. Received: .*\(2, 0, 3\)"):
        policy.memory(np.zeros((2, 0, 3), "float32"))


# In float16 a sequence is enough: a step that acts is the same call, compiled.
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("memory", TINY)
def test_a_policy_of_half_precision_acts(memory, dtype):
    policy = make_policy(memory, dtype=dtype)
    observation = policy.sample_observation(2, seed=0)

    if dtype == "bfloat16":
        *_, state = policy.step(observation)
        logits, value, state = policy.step(observation, state)
    else:
        out, state = compiled(policy)(np.stack([observation] * 2, axis=1))
        logits, value = to_numpy([out.logits, out.value])

    dtypes = {keras.backend.standardize_dtype(w.dtype) for w in policy.weights}
    assert dtype in dtypes
    assert np.isfinite(logits).all()
    assert np.isfinite(value).all()
    for x in keras.tree.flatten(state):
        assert keras.backend.standardize_dtype(x.dtype) == "float32"


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a warning of TensorFlow")
def test_policies_and_batch_sizes_do_not_warn(caplog):
    import tensorflow as tf

    logger = tf.get_logger()
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.WARNING, logger.name):
            for _ in range(3):
                policy = make_policy("memoryless")
                for batch in range(1, 6):
                    policy.act(policy.sample_observation(batch))
    finally:
        logger.removeHandler(caplog.handler)

    assert [r.getMessage() for r in caplog.records] == []


def test_a_batch_size_that_was_seen_is_kept(monkeypatch):
    policy, calls = make_policy("memoryless"), []
    run = MemoryPolicy.call

    def record(self, observations, *arguments, **keywords):
        calls.append(observations.shape)
        return run(self, observations, *arguments, **keywords)

    monkeypatch.setattr(MemoryPolicy, "call", record)
    for batch in (1, 2, 1, 2, 1):
        policy.act(policy.sample_observation(batch))

    assert len(calls) == 2


@pytest.mark.skipif(BACKEND != "torch", reason="torch compiles in its second run")
def test_torch_has_compiled_after_the_first_call(monkeypatch):
    import torch

    runs, trace = [], torch.jit.trace

    def record(*arguments, **keywords):
        graph = trace(*arguments, **keywords)
        return lambda *inputs: runs.append(1) or graph(*inputs)

    monkeypatch.setattr(torch.jit, "trace", record)
    policy = make_policy("memoryless")
    policy.act(policy.sample_observation(1))
    first = len(runs)
    policy.act(policy.sample_observation(1))

    assert (first, len(runs)) == (3, 4)


def test_a_list_stands_for_a_tuple():
    space = spaces.Tuple([VECTOR, spaces.Discrete(3, start=1)])
    policy = make_policy("gru", space)
    vector, number = np.ones((2, 3), np.float32), np.array([1, 3])

    from_list, _ = policy.act([vector, number], deterministic=True)
    from_tuple, _ = policy.act((vector, number), deterministic=True)

    np.testing.assert_array_equal(from_list, from_tuple)
    assert to_numpy(policy.encoder((vector, number))).shape == (2, 6)
    with pytest.raises(ValueError, match="4 in 1"):
        policy.act((vector, np.array([1, 4])))
