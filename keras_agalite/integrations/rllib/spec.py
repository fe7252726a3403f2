"""What RLlib is told of a policy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.appo import APPOConfig
from ray.rllib.algorithms.impala import IMPALAConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from keras_agalite.integrations.rllib.module import (
    MemoryAPPOModule,
    MemoryRLModule,
    action_distribution,
    check_backend,
)
from keras_agalite.layers.checks import check_sizes
from keras_agalite.models import MemoryPolicy


class StartingWeights:
    """Arrays that configurations carry and do not print."""

    def __init__(self, arrays: Sequence[np.ndarray]) -> None:
        self.arrays = arrays

    def __repr__(self) -> str:
        return f"<{len(self.arrays)} arrays>"


def memory_module_spec(
    policy: MemoryPolicy,
    max_seq_len: int = 32,
    module_class: type[MemoryRLModule] = MemoryRLModule,
) -> RLModuleSpec:
    """Describes a policy to RLlib, which builds copies of it where it needs them.

    For a configuration with one policy use `use_memory_policy`, which calls this. With
    Box actions RLlib must be told not to rescale them:
    `config.environment(normalize_actions=False, clip_actions=True)`.

    Args:
        policy: The policy; training starts with its weights.
        max_seq_len: Steps of a row of the learner. Gradients do not go beyond it.
        module_class: `MemoryRLModule`, or `MemoryAPPOModule` for APPO.

    Returns:
        The specification of an RLModule, for `config.rl_module(rl_module_spec=...)` or
        for a part of a `MultiRLModuleSpec`.

    Raises:
        ValueError: If Keras does not run on PyTorch, `policy` is no MemoryPolicy or has
            actions that RLlib cannot draw, or `max_seq_len` is no positive integer.
    """
    check_backend()
    if not isinstance(policy, MemoryPolicy):
        raise ValueError(
            f"`policy` must be a MemoryPolicy. Received: policy={policy!r}"
        )
    check_sizes({"max_seq_len": max_seq_len})
    action_distribution(policy)
    return RLModuleSpec(
        module_class=module_class,
        model_config={
            "policy": policy.get_config(),
            "max_seq_len": max_seq_len,
            "weights": StartingWeights(policy.get_weights()),
        },
    )


def use_memory_policy(
    config: AlgorithmConfig, policy: MemoryPolicy, max_seq_len: int = 32
) -> Any:
    """Has an algorithm train a policy, and its actions reach the environment as drawn.

    Box actions are clipped to their bounds, and not rescaled to them as RLlib does
    unless it is told otherwise (`normalize_actions`).

    Args:
        config: A `PPOConfig`, `IMPALAConfig` or `APPOConfig`, which is changed.
        policy: The policy; training starts with its weights.
        max_seq_len: Steps of a row of the learner. Gradients do not go beyond it.

    Returns:
        The configuration.

    Raises:
        ValueError: If the algorithm is another one; as `memory_module_spec`.

    Example:

    >>> policy = MemoryPolicy.from_preset("tmaze_10")
    >>> config = PPOConfig().environment("keras_agalite/TMaze-v0")
    >>> algorithm = use_memory_policy(config, policy).build_algo()
    """
    if not isinstance(config, PPOConfig | IMPALAConfig):
        raise ValueError(
            "`config` must be a PPOConfig, an IMPALAConfig or an APPOConfig. Received: "
            f"config={type(config).__name__}"
        )
    is_appo = isinstance(config, APPOConfig)
    module_class = MemoryAPPOModule if is_appo else MemoryRLModule
    config.rl_module(
        rl_module_spec=memory_module_spec(policy, max_seq_len, module_class)
    )
    return config.environment(normalize_actions=False, clip_actions=True)
