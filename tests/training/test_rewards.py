"""Rewards divided by the running deviation of the discounted return."""

import numpy as np
from keras import tree

from tests.helpers import compiled, to_numpy
from training.learning.rewards import (
    RewardScale,
    initial_reward_scale,
    scale_rewards,
)

DISCOUNT, ROWS, TIME = 0.9, 3, 8


def expected_of(batches):
    """Step by step, as gymnasium's NormalizeReward counts, with all that was seen."""
    returns, seen = np.zeros(ROWS), []
    for reward, start, valid in batches:
        for t in range(TIME):
            returns = np.where(start[:, t], 0.0, DISCOUNT * returns)
            returns = returns + np.where(valid[:, t], reward[:, t], 0.0)
            seen += returns[valid[:, t]].tolist()
        scaled = np.where(valid, reward, 0.0) / np.sqrt(np.var(seen) + 1e-8)
        yield np.clip(scaled, -10, 10), returns, seen


def test_rewards_are_scaled_as_step_by_step():
    random, batches = np.random.default_rng(0), []
    for scale in (1.0, 100.0, 0.0):
        reward = (scale * random.normal(2.0, 3.0, (ROWS, TIME))).astype(np.float32)
        start = random.random((ROWS, TIME)) < 0.2
        valid = ~np.roll(start, -1, axis=1)
        batches.append((reward, start, valid))
    batches[0][0][0, 0] = 1e4  # which ends at the limit
    state = initial_reward_scale(ROWS)
    run = compiled(lambda state, *x: scale_rewards(state, *x, DISCOUNT))

    for batch, (scaled, returns, seen) in zip(
        batches, expected_of(batches), strict=True
    ):
        state, received = run(state, *batch)
        np.testing.assert_allclose(to_numpy(received), scaled, 1e-4, 1e-5)
        state = RewardScale(*state)
        np.testing.assert_allclose(to_numpy(state.returns), returns, 1e-4, 1e-3)
        count, mean, variance = map(to_numpy, tree.flatten(state.moments))
        assert count == len(seen)
        np.testing.assert_allclose(mean, [np.mean(seen)], 1e-4)
        np.testing.assert_allclose(variance, [np.var(seen)], 1e-3)
