"""What a policy is told of the return that it is to reach."""

import math
from typing import Any

import numpy as np
from keras import ops

from keras_agalite.models.base import Policy


class ConditionedOnReturn(Policy):
    """Base of the policies with a target: at each step they see what is left of it.

    The return to go of a step is the target less the rewards so far, divided by
    `return_scale`. The rewards follow from `previous_reward`; that of the first step
    of an episode, or of a row that begins within one, does not count.

    Attributes:
        target_return: The return to reach, unless a call says another; None where the
            policy does not look at returns.
        return_scale: What returns are divided by.
    """

    return_scale: float

    def act(
        self,
        observation: Any,
        state: Any = None,
        start: Any = None,
        deterministic: bool = False,
        seed: int | np.random.Generator | None = None,
        target_return: Any = None,
    ) -> tuple[np.ndarray, list[Any]]:
        """Chooses actions for one step, in one compiled call: see `MemoryPolicy.act`.

        Args:
            observation, state, start, deterministic, seed: As there.
            target_return: The return to reach in the whole episode, a number or an
                array of shape `(batch,)`; the constructor's if None.

        Returns:
            `(action, state)`, as there.

        Raises:
            ValueError: As there, or if the policy does not look at returns.
        """
        logits, _, state = self.step(observation, state, start, target_return)
        return self._choose(logits, deterministic, seed), state

    def step(
        self,
        observation: Any,
        state: Any = None,
        start: Any = None,
        target_return: Any = None,
    ) -> tuple[np.ndarray, Any, list[Any]]:
        """Runs one compiled step without a choice of actions: see `MemoryPolicy.step`.

        Args:
            observation, state, start, target_return: As in `act`.

        Returns:
            `(logits, value, state)`, as there.

        Raises:
            ValueError: As `act`.
        """
        self._check_target(target_return)
        if self.target_return is None:
            return self._run(observation, state, start)
        target = self.target_return if target_return is None else target_return
        return self._run(observation, state, start, target_return=target)

    def targets(self, target_return: Any, like: Any) -> Any:
        """The returns to reach as a tensor of the shape of `like`, `(batch, time)`.

        Args:
            target_return: A number or a tensor of shape `(batch,)` or `(batch, time)`;
                the constructor's if None.
            like: Tensor of shape `(batch, time)`.

        Raises:
            ValueError: If it has another shape, or the policy does not look at returns.
        """
        self._check_target(target_return)
        if self.target_return is None:
            return ops.zeros_like(like)
        target = self.target_return if target_return is None else target_return
        target = ops.cast(ops.convert_to_tensor(target), like.dtype)
        shape = tuple(target.shape)
        if shape and (len(shape) > 2 or not _same(shape, tuple(like.shape))):
            raise ValueError(
                "`target_return` must be a number or have the shape (batch,) or "
                f"(batch, time) of (batch, time) = {tuple(like.shape)}. Received: "
                f"target_return.shape={shape}"
            )
        target = target[:, None] if len(shape) == 1 else target
        return target + ops.zeros_like(like)

    def _check_target(self, target_return: Any) -> None:
        if self.target_return is None and target_return is not None:
            raise ValueError(
                "`target_return` must be None for a policy that was made without one. "
                f"Received: target_return={target_return!r}"
            )


def _same(shape: tuple[Any, ...], expected: tuple[Any, ...]) -> bool:
    """Whether the sizes that are known are those expected."""
    pairs = zip(shape, expected, strict=False)
    return all(n == m for n, m in pairs if isinstance(n, int) and isinstance(m, int))


def check_return(target_return: Any, return_scale: Any) -> None:
    """Raises a ValueError if one is no finite number, or the scale not above zero."""
    for name, value in (
        ("target_return", target_return),
        ("return_scale", return_scale),
    ):
        if value is None and name == "target_return":
            continue
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value):
            raise ValueError(
                f"`{name}` must be a finite number. Received: {name}={value!r}"
            )
    if return_scale <= 0:
        raise ValueError(
            f"`return_scale` must be above 0. Received: return_scale={return_scale!r}"
        )
