"""The collect policy of MemoryPPOAgent."""

from typing import Any

import tensorflow as tf
from tf_agents.agents.ppo import ppo_policy, ppo_utils
from tf_agents.trajectories import policy_step
from tf_agents.trajectories import time_step as ts

from keras_agalite.integrations.tf_agents.networks import distribution, run_policy
from keras_agalite.models import MemoryPolicy


class MemoryPPOPolicy(ppo_policy.PPOPolicy):
    """The collect policy of `MemoryPPOAgent`, which makes it.

    Distribution, value and new state come from one run of the memory. Its policy
    state is a dict with the key `actor_network_state`: tensors of shape `(batch,
    size)`, zeros where nothing is remembered. A first step empties its own row.

    Args:
        policy: The policy, under KERAS_BACKEND=tensorflow.
        seed: Seed of the noise of the actions.
        **kwargs: Arguments of TF-Agents' `PPOPolicy`: specs and networks.

    Attributes:
        collected_steps: Variable that counts calls of `action`; with the seed it
            keys the noise of the actions.
    """

    def __init__(self, policy: MemoryPolicy, seed: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # TF-Agents would empty the whole state, the clock of the memory included,
        # in rollouts but not inside training sequences. The policy does it itself.
        self._automatic_state_reset = False
        self._policy = policy
        self._seed = seed
        self.collected_steps = tf.Variable(
            0, dtype=tf.int64, trainable=False, name="collected_steps"
        )

    def run(
        self, time_step: ts.TimeStep, policy_state: Any, training: bool = False
    ) -> tuple[Any, Any, Any]:
        """Runs the memory over one step or over sequences.

        Args:
            time_step: Time steps of shape `(batch, ...)` or `(batch, time, ...)`.
            policy_state: The policy state before them; `()` is the empty memory.
            training: Whether the layers train.

        Returns:
            `(distribution, value, policy_state)`: a TensorFlow Probability
            distribution of actions, values of shape `(batch,)` or `(batch, time)`,
            and the state after them.
        """
        state = policy_state.get("actor_network_state", ()) if policy_state else ()
        out, state = run_policy(
            self._policy,
            time_step.observation,
            time_step.step_type,
            state,
            self.time_step_spec.observation,
            training,
        )
        new_state = {"actor_network_state": state} if policy_state else ()
        return distribution(self._policy, out.logits), out.value, new_state

    def _distribution(
        self, time_step: ts.TimeStep, policy_state: Any, training: bool = False
    ) -> policy_step.PolicyStep:
        action, value, state = self.run(time_step, policy_state, training)
        info = {
            "dist_params": ppo_utils.get_distribution_params(
                action, legacy_distribution_network=False
            ),
            "value_prediction": value,
        }
        return policy_step.PolicyStep(action, state, info)

    def _action(
        self, time_step: ts.TimeStep, policy_state: Any, seed: Any = None
    ) -> policy_step.PolicyStep:
        step = self._distribution(time_step, policy_state)
        count = self.collected_steps.assign_add(1)
        key = tf.stack([tf.constant(self._seed, tf.int64), count])
        key = tf.cast(tf.math.floormod(key, 2**31 - 1), tf.int32)
        return step._replace(action=step.action.sample(seed=key))
