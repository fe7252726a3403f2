"""What a policy is told of the return that it is to reach."""

import numbers
from typing import Any

import numpy as np
from keras import ops

from keras_agalite.models.base import Policy

# Policies are told returns as float32.
_LARGEST = float(np.finfo(np.float32).max)
_SMALLEST = float(np.finfo(np.float32).tiny)


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
            ValueError: As there, or if the policy does not look at returns, or the
                return is no finite float32.
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
        if target_return is None:
            target_return = self.target_return
        target = _finite_rows(target_return)
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


def _finite_rows(target_return: Any) -> np.ndarray:
    """Returns to reach as an array, all of them finite as float32."""
    try:
        target = np.asarray(target_return, np.float64)
        fits = bool((np.abs(target) <= _LARGEST).all())
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise ValueError(
            "`target_return` must be a number or an array of shape (batch,), finite "
            f"as float32. Received: target_return={target_return!r}"
        )
    return target


def check_return(target_return: Any, return_scale: Any) -> tuple[Any, float]:
    """Checks what a policy is told of returns.

    Args:
        target_return: A number or None.
        return_scale: A number.

    Returns:
        Both as floats; None stays.

    Raises:
        ValueError: If one is no number, or they or their quotient are not finite as
            float32, or the scale is not above zero there.
    """
    for name, value in (
        ("target_return", 0.0 if target_return is None else target_return),
        ("return_scale", return_scale),
    ):
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not is_number or not abs(value) <= _LARGEST:
            raise ValueError(
                f"`{name}` must be a number that is finite as float32. Received: "
                f"{name}={value!r}"
            )
    target = None if target_return is None else float(target_return)
    scale = float(return_scale)
    if scale < _SMALLEST:
        raise ValueError(
            "`return_scale` must be above 0, also as float32. Received: "
            f"return_scale={return_scale!r}"
        )
    if target is not None and abs(target) / scale > _LARGEST:
        raise ValueError(
            "`target_return` divided by `return_scale` must be finite as float32. "
            f"Received: target_return={target!r}, return_scale={scale!r}"
        )
    return target, scale
