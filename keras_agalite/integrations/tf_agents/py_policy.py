"""A MemoryPolicy as a TF-Agents Python policy, on every backend."""

from typing import Any

import numpy as np
from keras import ops, tree
from tf_agents.policies import py_policy
from tf_agents.specs import array_spec
from tf_agents.trajectories import policy_step
from tf_agents.trajectories import time_step as ts

from keras_agalite.action_masks import allow_all
from keras_agalite.integrations.tf_agents.environment import (
    action_spec_and_start,
    space_to_spec,
)
from keras_agalite.models import MemoryPolicy


class MemoryPyPolicy(py_policy.PyPolicy):
    """Collects with a MemoryPolicy under any backend, for example with `PyDriver`.

    Under KERAS_BACKEND=jax or torch TensorFlow is only TF-Agents' container.

    Args:
        policy: The policy.
        deterministic: Take the most likely action instead of drawing one.
        seed: Seed of the noise.
    """

    def __init__(
        self,
        policy: MemoryPolicy,
        deterministic: bool = False,
        seed: int | None = None,
    ) -> None:
        self._policy = policy
        self._deterministic = deterministic
        self._rng = np.random.default_rng(seed)
        observation = space_to_spec(policy.observation_space, "observation")
        state = tree.map_structure(
            lambda size: array_spec.ArraySpec((size,), policy.memory.state_dtype),
            list(policy.state_size),
        )
        action_spec, self._start = action_spec_and_start(policy.action_space)
        super().__init__(
            ts.time_step_spec(observation),
            action_spec,
            policy_state_spec=state or (),
        )

    def _action(
        self, time_step: ts.TimeStep, policy_state: Any, seed: int | None = None
    ) -> policy_step.PolicyStep:
        single = np.ndim(time_step.step_type) == 0
        if single:
            time_step = tree.map_structure(lambda x: np.asarray(x)[None], time_step)
            # Without a batch axis; PyDriver gives it one when an episode begins.
            policy_state = tree.map_structure(
                lambda x: np.reshape(x, (1, -1)), policy_state
            )
        observation = time_step.observation
        if self._policy.mask_sizes:
            over = time_step.step_type == ts.StepType.LAST
            observation = allow_all(observation, over)
        action, state = self._policy.act(
            observation,
            list(policy_state),
            start=time_step.step_type == ts.StepType.FIRST,
            deterministic=self._deterministic,
            seed=self._rng if seed is None else seed,
        )
        if self._start is not None:
            action = action - self._start
        state = tree.map_structure(ops.convert_to_numpy, state)
        if single:
            action, state = tree.map_structure(lambda x: x[0], (action, state))
        return policy_step.PolicyStep(action, state or (), ())
