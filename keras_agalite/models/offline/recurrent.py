"""ReturnConditionedPolicy: any memory of the catalog, told of the return to go."""

from typing import Any

import gymnasium
import keras
from gymnasium import spaces
from keras import ops

from keras_agalite.layers import MemoryRNN
from keras_agalite.models.base import PolicyOutput, encode
from keras_agalite.models.encoders import Encoder
from keras_agalite.models.offline.returns import ConditionedOnReturn, check_return
from keras_agalite.models.policy import MemoryPolicy
from keras_agalite.ops import linear_recurrence


@keras.saving.register_keras_serializable(package="keras_agalite")
class ReturnConditionedPolicy(ConditionedOnReturn, MemoryPolicy):
    """A `MemoryPolicy` whose memory sees the return to go beside the features.

    So AGaLiTe, a GRU and the other memories learn from the recordings that a Decision
    Transformer learns from, and act as it does: `target_return` says how well.

    The state ends with a tensor `(batch, 2)`: whether there was a step, and the sum of
    the rewards.

    Args:
        encoder: An `Encoder` of a Dict with `previous_reward`, of shape `(1,)`.
        memory: A `MemoryRNN`, as in `MemoryPolicy`.
        action_space: As in `MemoryPolicy`.
        head_units: As in `MemoryPolicy`.
        head_activation: As in `MemoryPolicy`.
        target_return: The return to reach, unless a call says another.
        return_scale: What returns are divided by.
        normalize_observations: As in `MemoryPolicy`.

    Call arguments:
        observations, state, start: As in `MemoryPolicy`.
        target_return: Return to reach from the first step of a row on, a number or a
            tensor of shape `(batch,)` or `(batch, time)`; the constructor's if None.

    Returns:
        `(out, state)`, as in `MemoryPolicy`.

    Raises:
        ValueError: As `MemoryPolicy`, or if `target_return` or `return_scale` is not a
            finite number, or the encoder sees no `previous_reward`.

    Example:

    >>> env = PreviousActionReward(TMaze())
    >>> encoder = MLPEncoder(env.observation_space)
    >>> policy = ReturnConditionedPolicy(
    ...     encoder, GRU(64), env.action_space, target_return=1.0
    ... )
    """

    short_name = "return_conditioned"
    extra_inputs = ("target_return",)

    def __init__(
        self,
        encoder: Encoder,
        memory: MemoryRNN,
        action_space: gymnasium.Space[Any],
        head_units: int = 128,
        head_activation: str = "tanh",
        *,
        target_return: float,
        return_scale: float = 1.0,
        normalize_observations: bool = False,
        **kwargs: Any,
    ) -> None:
        target, scale = check_return(target_return, return_scale)
        if target is None:
            raise ValueError(
                "`target_return` must be a finite number; a MemoryPolicy has none. "
                "Received: target_return=None"
            )
        if unknown := {"actor", "merge_units"} & set(kwargs):
            raise ValueError(
                f"Expected no argument `{unknown.pop()}`, which a preset of a "
                f"{type(self).__name__} cannot hold. Received: {kwargs}"
            )
        super().__init__(
            encoder,
            memory,
            action_space,
            head_units,
            head_activation,
            normalize_observations=normalize_observations,
            **kwargs,
        )
        space = encoder.observation_space
        parts = space.spaces if isinstance(space, spaces.Dict) else {}
        if getattr(parts.get("previous_reward"), "shape", None) != (1,):
            raise ValueError(
                "`encoder` must be one of a Dict with `previous_reward` of shape (1,). "
                f"Received: observation_space={space}"
            )
        self.target_return, self.return_scale = target, scale

    @property
    def memory_inputs(self) -> int:
        return self.encoder.output_size + 1

    @property
    def state_size(self) -> list[Any]:
        return [*self.memory.state_size, 2]

    def call(
        self,
        observations: Any,
        state: Any = None,
        start: Any = None,
        training: bool = False,
        target_return: Any = None,
    ) -> tuple[PolicyOutput, list[Any]]:
        features, state = self.remember(
            observations, state, start, training, target_return
        )
        return self.decide(features, observations), state

    def remember(
        self,
        observations: Any,
        state: Any = None,
        start: Any = None,
        training: bool = False,
        target_return: Any = None,
    ) -> tuple[Any, list[Any]]:
        """The first half of a call: see `MemoryPolicy.remember`."""
        batch, length = self._check_observations(observations, state, start)
        *memory, counters = self.initial_state(batch) if state is None else state
        reward = ops.cast(observations["previous_reward"][:, :, 0], "float32")
        target = self.targets(target_return, reward)
        total = rewards_so_far(reward, counters, start)
        to_go = (target - total) / self.return_scale
        features = encode(self.encoder, observations, batch, length, self.normalizer)
        features = ops.concatenate(
            [features, ops.cast(to_go[:, :, None], features.dtype)], axis=-1
        )
        features, *memory = self.memory(
            features, initial_state=memory, start=start, training=training
        )
        counters = ops.stack([ops.ones_like(total[:, -1]), total[:, -1]], axis=1)
        return features, [*memory, counters]

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["actor"], config["merge_units"]
        return {
            **config,
            "target_return": self.target_return,
            "return_scale": self.return_scale,
        }


def rewards_so_far(reward: Any, counters: Any, start: Any) -> Any:
    """The sum of the rewards before each step of its episode.

    Args:
        reward: Rewards of the steps before, tensor `(batch, time)`.
        counters: Tensor `(batch, 2)`: whether there was a step, and the sum then.
        start: Optional boolean tensor `(batch, time)`.

    Returns:
        Tensor of shape `(batch, time)`.
    """
    was_a_step = counters[:, :1] > 0
    # What led to the first step of an episode is of no episode.
    first = ops.where(was_a_step, reward[:, :1], 0.0)
    reward = ops.concatenate([first, reward[:, 1:]], axis=1)
    if start is not None:
        reward = ops.where(ops.cast(start, "bool"), 0.0, reward)
    total, _ = linear_recurrence(
        ops.ones_like(reward), reward, counters[:, 1], start=start
    )
    return total
