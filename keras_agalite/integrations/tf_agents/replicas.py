"""Sums over the replicas of a `tf.distribute.Strategy`.

Where one replica learns, a sum over replicas is what was given.
"""

from typing import Any

import tensorflow as tf


def num_replicas() -> int:
    """The replicas of the strategy that is active; 1 without one."""
    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def total(x: Any) -> Any:
    """The sum of every replica's `x`, in each of them.

    Args:
        x: A tensor or a nest of tensors, of the same shapes in every replica. Where
            there are several, the function is called inside `strategy.run`.
    """
    if num_replicas() == 1:
        return x
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, x)
