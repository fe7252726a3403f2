"""Rewards divided by the running deviation of the discounted return."""

from typing import Any, NamedTuple

from keras import ops

from keras_agalite.models.normalization import (
    EPSILON,
    LIMIT,
    Moments,
    update_moments,
)
from keras_agalite.ops import linear_recurrence


class RewardScale(NamedTuple):
    """What scales rewards; a run's checkpoint holds it, a preset does not.

    Attributes:
        returns: The discounted sum of the rewards of each environment's episode so
            far, `(batch,)`.
        moments: Of all these sums, of size 1.
    """

    returns: Any
    moments: Moments


def initial_reward_scale(batch: int) -> RewardScale:
    """That of a run that has seen nothing yet."""
    zeros = [ops.zeros(shape, "float32") for shape in ((batch,), (), (1,), (1,))]
    return RewardScale(zeros[0], Moments(*zeros[1:]))


def scale_rewards(
    scale: RewardScale, reward: Any, start: Any, valid: Any, discount: float
) -> tuple[RewardScale, Any]:
    """Counts rewards in, and scales them by all that was counted.

    As gymnasium's NormalizeReward, a batch at a time: the deviation is that of
    `g_t = discount * g_(t-1) + r_t`, which begins anew with each episode, and the mean
    of a reward is not subtracted. Scaled rewards end at -10 and 10.

    Args:
        scale: What is known before.
        reward: Rewards of shape `(batch, time)`.
        start: Booleans of this shape: the first step of an episode.
        valid: Booleans of this shape: the action had an effect.
        discount: Gamma.

    Returns:
        `(scale, rewards)`.
    """
    reward = ops.where(valid, ops.cast(reward, "float32"), 0.0)
    decay = ops.full_like(reward, discount)
    returns, last = linear_recurrence(decay, reward, scale.returns, start=start)
    moments = update_moments(
        scale.moments, ops.reshape(returns, (-1, 1)), ops.reshape(valid, (-1,))
    )
    deviation = ops.sqrt(moments.variance + EPSILON)
    return RewardScale(last, moments), ops.clip(reward / deviation, -LIMIT, LIMIT)
