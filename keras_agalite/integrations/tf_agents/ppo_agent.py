"""PPO for policies with a memory, on TF-Agents' PPOClipAgent.

What differs from TF-Agents' agent:

- each training sequence starts from the state that the rollout had there;
- actor and critic share one run of the memory, in a loss and in a collected step;
- an episode that was truncated keeps the value of its last observation, and GAE
  ends with the value after the last step, not with the value before it;
- actions are drawn with noise keyed by a seed and the step, so that a run which is
  resumed repeats the one that was not stopped;
- several replicas of a `tf.distribute.Strategy` learn what one would from the whole
  minibatch: advantages, clipping and diagnostics are those of all replicas.
"""

from typing import Any

import tensorflow as tf
from tf_agents.agents import tf_agent
from tf_agents.agents.ppo import ppo_agent, ppo_clip_agent, ppo_utils
from tf_agents.trajectories import policy_step, trajectory
from tf_agents.trajectories import time_step as ts
from tf_agents.utils import common, eager_utils, value_ops

from keras_agalite.integrations.tf_agents.networks import ActorNetwork, ValueNetwork
from keras_agalite.integrations.tf_agents.ppo_policy import MemoryPPOPolicy
from keras_agalite.integrations.tf_agents.replicas import num_replicas, total
from keras_agalite.models import MemoryPolicy


class MemoryPPOAgent(ppo_clip_agent.PPOClipAgent):
    """TF-Agents' PPOClipAgent, right about the memory of a policy.

    Train on minibatches of whole sequences, once each an epoch, with the state that
    the rollout had at their start. `start` is the policy state before the driver ran,
    `time_step` and `state` are what it returned:

        experience = agent.prepare(buffer.gather_all(), time_step, state)
        agent.train(rows of experience, initial_state=rows of start)

    Wrapped in `tf_agents.utils.common.function`, `train` is traced once. With
    `jit_compile=True`, XLA compiles the loss and its gradients, anew for each shape of
    a minibatch; the optimizer's step is not in it.

    Under a `tf.distribute.Strategy`, make policy, optimizer and agent in its scope,
    collect outside of `strategy.run`, and call `train` inside of it with each
    replica's rows of the minibatch, as many in each. The losses that it returns are
    parts that add up: `strategy.reduce("SUM", loss, axis=None)`.

    Args:
        time_step_spec: Spec of the environment's time steps.
        action_spec: Spec of its actions.
        policy: The policy to train, under KERAS_BACKEND=tensorflow.
        optimizer: A Keras 2 optimizer (`tf_keras.optimizers`).
        seed: Seed of the noise of collected actions.
        importance_ratio_clipping: Epsilon of the clipped objective.
        jit_compile: Whether XLA compiles loss and gradients. Not with several
            replicas, `debug_summaries` or `check_numerics`.
        **kwargs: Other arguments of `PPOClipAgent`. Here `num_epochs` is 1 a call,
            observations and rewards are not normalised unless told otherwise, and
            GAE with TD(lambda) returns is used.

    Attributes:
        diagnostics: Tensors of the last call of `train`, by name: `entropy`,
            `kl_divergence`, `clip_fraction`, `explained_variance` and
            `gradient_norm`, of the whole minibatch in every replica. A function
            that wraps `train` in a graph returns them from there.

    Raises:
        ValueError: If an argument is one that this agent sets itself; if several
            replicas are not to aggregate their losses, or `train` is called outside
            of `strategy.run`; if `jit_compile` meets what XLA cannot compile.
    """

    def __init__(
        self,
        time_step_spec: ts.TimeStep,
        action_spec: Any,
        policy: MemoryPolicy,
        optimizer: Any,
        seed: int = 0,
        importance_ratio_clipping: float = 0.2,
        jit_compile: bool = False,
        **kwargs: Any,
    ) -> None:
        fixed = {"actor_net", "value_net", "compute_value_and_advantage_in_train"}
        if fixed & set(kwargs):
            raise ValueError(
                "MemoryPPOAgent makes its networks from the policy and takes values "
                f"from the rollout. Received: {sorted(fixed & set(kwargs))}"
            )
        observation_spec = time_step_spec.observation
        actor = ActorNetwork(policy, observation_spec)
        value = ValueNetwork(policy, observation_spec, has_state=False)
        defaults = {
            "num_epochs": 1,
            "use_gae": True,
            "use_td_lambda_return": True,
            "normalize_observations": False,
            "normalize_rewards": False,
            "update_normalizers_in_train": False,
        }
        super().__init__(
            time_step_spec,
            action_spec,
            optimizer,
            actor,
            value,
            importance_ratio_clipping=importance_ratio_clipping,
            compute_value_and_advantage_in_train=False,
            **{**defaults, **kwargs},
        )
        if self._observation_normalizer is not None:
            raise ValueError(
                "MemoryPPOAgent does not normalise observations: a policy with "
                "normalize_observations=True does. Received: "
                "normalize_observations=True"
            )
        self._replicas = num_replicas()
        if self._replicas > 1 and not self._aggregate_losses_across_replicas:
            raise ValueError(
                "`aggregate_losses_across_replicas` must be True where several "
                "replicas learn: their gradients are added up. Received: "
                "aggregate_losses_across_replicas="
                f"{self._aggregate_losses_across_replicas!r}, {self._replicas} replicas"
            )
        self._compute_gradients = self._loss_and_gradients
        if jit_compile:
            self._check_jit_compile()
            self._compute_gradients = tf.function(
                self._loss_and_gradients, autograph=False, jit_compile=True
            )
        if optimizer is not None:
            # Now, so that `train` creates no variables and is traced once.
            optimizer.build(actor.trainable_variables)
        self.diagnostics: dict[str, Any] = {}
        # Same specs as TF-Agents' own collect policy, one run instead of two.
        self._collect_policy = MemoryPPOPolicy(
            policy,
            seed,
            time_step_spec=time_step_spec,
            action_spec=action_spec,
            actor_network=actor,
            value_network=value,
            clip=False,
            collect=True,
        )

    def _train(
        self, experience: Any, weights: Any = None, initial_state: Any = None
    ) -> tf_agent.LossInfo:
        # Of this replica alone: other replicas run in threads of the same agent.
        self._check_replicas()
        experience = self._as_trajectory(experience)
        mask, info = ppo_utils.make_trajectory_mask(experience), experience.policy_info
        old = self._distribution(info["dist_params"])
        batch = {
            "time_steps": ts.TimeStep(
                experience.step_type,
                experience.reward,
                experience.discount,
                experience.observation,
            ),
            "actions": experience.action,
            "act_log_probs": common.log_probability(
                old, experience.action, self._action_spec
            ),
            "returns": info["return"],
            "normalized_advantages": _standardize(info["advantage"], weights),
            "action_distribution_parameters": info["dist_params"],
            "weights": mask if weights is None else weights * mask,
            "train_step": self.train_step_counter,
            "old_value_predictions": info["value_prediction"],
            "initial_state": initial_state,
        }
        for epoch in range(self._num_epochs):
            detailed = self._debug_summaries and epoch in (0, self._num_epochs - 1)
            loss, diagnostics = self._update(batch, detailed)
        if self.update_normalizers_in_train:
            self.update_reward_normalizer(experience.reward)
        self._summarize(loss, diagnostics)
        self.diagnostics = diagnostics
        return tf.nest.map_structure(tf.identity, loss)

    def _update(
        self, batch: dict[str, Any], detailed: bool
    ) -> tuple[tf_agent.LossInfo, dict[str, Any]]:
        """One step of the optimizer, with the gradient of all replicas."""
        loss, diagnostics, found = self._compute_gradients(batch, detailed)
        weights = self._actor_net.trainable_weights
        both = zip(found, weights, strict=True)
        known = [(x, weight) for x, weight in both if x is not None]
        gradients = total([x for x, _ in known])
        if self._gradient_clipping > 0:
            gradients, _ = tf.clip_by_global_norm(gradients, self._gradient_clipping)
        pairs = list(zip(gradients, [weight for _, weight in known], strict=True))
        if self._summarize_grads_and_vars and detailed:
            eager_utils.add_gradients_summaries(pairs, self.train_step_counter)
            eager_utils.add_variables_summaries(pairs, self.train_step_counter)
        self._optimizer.apply_gradients(pairs, skip_gradients_aggregation=True)
        self.train_step_counter.assign_add(1)
        return loss, {**diagnostics, "gradient_norm": tf.linalg.global_norm(gradients)}

    def _loss_and_gradients(
        self, batch: dict[str, Any], detailed: bool
    ) -> tuple[tf_agent.LossInfo, dict[str, Any], list[Any]]:
        """The loss, the diagnostics, and a gradient or None for each weight."""
        with tf.GradientTape() as tape:
            loss, diagnostics = self._loss(
                **batch, debug_summaries=detailed, training=True
            )
        weights = self._actor_net.trainable_weights
        return loss, diagnostics, tape.gradient(loss.loss, weights)

    def _check_jit_compile(self) -> None:
        found = {
            "debug_summaries": self._debug_summaries,
            "check_numerics": self._check_numerics,
            "several replicas": self._replicas > 1,
        }
        if any(found.values()):
            raise ValueError(
                "`jit_compile` must be False with debug_summaries, check_numerics or "
                "several replicas, which XLA does not compile. Received: jit_compile="
                f"True with {', '.join(name for name, on in found.items() if on)}"
            )

    def _check_replicas(self) -> None:
        replicas = num_replicas()
        outside = replicas > 1 and tf.distribute.in_cross_replica_context()
        if replicas != self._replicas or outside:
            raise ValueError(
                "`train` must be called inside `strategy.run`, by the strategy in "
                f"whose scope the agent was made. Received: {self._replicas} replicas "
                f"where it was made, {replicas} here"
                + (", outside of `strategy.run`" if outside else "")
            )

    def get_loss(self, *args: Any, **kwargs: Any) -> tf_agent.LossInfo:
        """PPO's loss from one run of the memory over the sequences."""
        return self._loss(*args, **kwargs)[0]

    def _loss(
        self,
        time_steps: ts.TimeStep,
        actions: Any,
        act_log_probs: Any,
        returns: Any,
        normalized_advantages: Any,
        action_distribution_parameters: Any,
        weights: Any,
        train_step: Any,
        debug_summaries: bool,
        old_value_predictions: Any = None,
        training: bool = False,
        initial_state: Any = None,
    ) -> tuple[tf_agent.LossInfo, dict[str, Any]]:
        """PPO's loss, and the diagnostics of all replicas."""
        if initial_state is None:
            initial_state = self._collect_policy.get_initial_state(tf.shape(returns)[0])
        current, values, _ = self._collect_policy.run(
            time_steps, initial_state, training
        )
        policy_loss = self.policy_gradient_loss(
            time_steps,
            actions,
            # float64 of float64 actions, where TF-Agents casts the current ones.
            tf.cast(tf.stop_gradient(act_log_probs), tf.float32),
            tf.stop_gradient(normalized_advantages),
            current,
            weights,
            debug_summaries,
        )
        # As the losses: the replicas' parts of it add up.
        clip_fraction = self._clip_fraction / self._replicas
        value_loss = self._value_loss(returns, values, old_value_predictions, weights)
        zero = tf.zeros_like(policy_loss)
        l2_loss = zero + self.l2_regularization_loss(debug_summaries)
        entropy = tf.cast(current.entropy(), tf.float32)
        entropy_loss = zero
        if self._entropy_regularization > 0.0:
            entropy_loss = self.entropy_regularization_loss(
                time_steps, entropy, weights, debug_summaries
            )
        old = self._distribution(action_distribution_parameters)
        kl = tf.cast(old.kl_divergence(current), tf.float32)
        diagnostics = _diagnose(entropy, kl, returns, values, weights)
        loss = tf_agent.LossInfo(
            policy_loss + value_loss + l2_loss + entropy_loss,
            ppo_agent.PPOLossInfo(
                policy_gradient_loss=policy_loss,
                value_estimation_loss=value_loss,
                l2_regularization_loss=l2_loss,
                entropy_regularization_loss=entropy_loss,
                kl_penalty_loss=zero,
                clip_fraction=clip_fraction,
            ),
        )
        return loss, {**diagnostics, "clip_fraction": total(clip_fraction)}

    def _distribution(self, parameters: Any) -> Any:
        return ppo_utils.distribution_from_spec(
            self._action_distribution_spec, parameters, False
        )

    def _value_loss(self, returns: Any, values: Any, old: Any, weights: Any) -> Any:
        error = tf.math.squared_difference(returns, values)
        if self._value_clipping > 0.0:
            clip = self._value_clipping
            clipped = old + tf.clip_by_value(values - old, -clip, clip)
            error = tf.maximum(error, tf.math.squared_difference(returns, clipped))
        if self._aggregate_losses_across_replicas:
            loss = common.aggregate_losses(
                per_example_loss=error, sample_weight=weights
            ).total_loss
        else:
            loss = tf.reduce_mean(error * weights)
        return loss * self._value_pred_loss_coef

    def _summarize(self, loss: tf_agent.LossInfo, diagnostics: dict[str, Any]) -> None:
        """Scalars for TensorBoard, of all replicas."""
        whole = total({"loss": loss.loss, **loss.extra._asdict()})
        for name, value in {**whole, **diagnostics}.items():
            tf.summary.scalar(f"Losses/{name}", value, step=self.train_step_counter)
        tf.summary.scalar(
            "LearningRate/learning_rate",
            ppo_utils.get_learning_rate(self._optimizer),
            step=self.train_step_counter,
        )

    def compute_return_and_advantage(
        self, next_time_steps: ts.TimeStep, value_preds: Any
    ) -> tuple[Any, Any]:
        """As in TF-Agents, but a truncated episode keeps its bootstrap value.

        TF-Agents multiplies the discount of every last step by zero. Here a step
        that was truncated (last, with discount 1) first gets the value of the last
        observation, discounted, added to its reward.
        """
        reward = next_time_steps.reward
        if self._reward_normalizer:
            reward = self._reward_normalizer.normalize(
                reward, center_mean=False, clip_value=self._reward_norm_clipping
            )
        discount = self._discount_factor * next_time_steps.discount
        # Zero unless the step is the last of an episode that did not terminate.
        truncated = tf.cast(next_time_steps.is_last(), tf.float32)
        reward += truncated * discount * value_preds[:, 1:]
        discount *= common.get_episode_mask(next_time_steps)
        returns = value_ops.discounted_return(
            reward, discount, time_major=False, final_value=value_preds[:, -1]
        )
        advantages = self.compute_advantages(reward, returns, discount, value_preds)
        if self._use_td_lambda_return and self._use_gae:
            returns = advantages + value_preds[:, :-1]
        return returns, advantages

    def compute_advantages(
        self, rewards: Any, returns: Any, discounts: Any, value_preds: Any
    ) -> Any:
        """As in TF-Agents, whose GAE takes the value of the last step but one.

        TF-Agents 0.19 drops the last value before it reads the final one, so the
        last step of a sequence is bootstrapped from its own observation.
        """
        if not self._use_gae:
            return super().compute_advantages(rewards, returns, discounts, value_preds)
        return value_ops.generalized_advantage_estimation(
            values=value_preds[:, :-1],
            final_value=value_preds[:, -1],
            discounts=discounts,
            rewards=rewards,
            td_lambda=self._lambda,
            time_major=False,
        )

    def prepare(
        self, experience: trajectory.Trajectory, time_step: ts.TimeStep, state: Any
    ) -> trajectory.Trajectory:
        """Adds advantages and returns to what a driver collected, once a batch.

        Args:
            experience: Trajectories of shape `(batch, time, ...)`.
            time_step: The driver's time step after them, `(batch, ...)`.
            state: The policy state there.

        Returns:
            Trajectories of shape `(batch, time, ...)`, for `train`. Their policy info
            has `return` and `advantage`.
        """
        experience = self.append_bootstrap(experience, time_step, state)
        experience = self.preprocess_sequence(experience)
        return tf.nest.map_structure(lambda x: x[:, :-1], experience)

    def append_bootstrap(
        self, experience: trajectory.Trajectory, time_step: ts.TimeStep, state: Any
    ) -> trajectory.Trajectory:
        """Adds the frame that gives the last collected step its bootstrap value.

        `preprocess_sequence` needs one frame more than it gives advantages for. The
        frame is made from what the driver returned; no action is taken.

        Args:
            experience: Trajectories of shape `(batch, time, ...)`.
            time_step: The driver's time step after them, `(batch, ...)`.
            state: The policy state there.

        Returns:
            Trajectories of shape `(batch, time + 1, ...)`.
        """
        peek = self._collect_policy.distribution(time_step, state)
        action = tf.zeros_like(experience.action[:, 0])
        frame = trajectory.from_transition(
            time_step, policy_step.PolicyStep(action, (), peek.info), time_step
        )
        return tf.nest.map_structure(
            lambda x, y: tf.concat([x, y[:, None]], axis=1), experience, frame
        )


def _diagnose(
    entropy: Any, kl: Any, returns: Any, values: Any, weights: Any
) -> dict[str, Any]:
    """Means over the steps of all replicas that count."""
    terms = (entropy, kl, returns, tf.square(returns - values))
    sums = [tf.reduce_sum(x * weights) for x in (tf.ones_like(weights), *terms)]
    count, *sums = total(sums)
    mean_entropy, mean_kl, mean_return, mean_error = (x / count for x in sums)
    spread = total(tf.reduce_sum(tf.square(returns - mean_return) * weights)) / count
    return {
        "entropy": mean_entropy,
        "kl_divergence": mean_kl,
        "explained_variance": 1.0 - mean_error / tf.maximum(spread, 1e-8),
    }


def _standardize(advantages: Any, weights: Any) -> Any:
    """Advantages of mean 0 and deviation 1 over the minibatch of all replicas.

    Args:
        advantages: Of shape `(batch, time)`, this replica's.
        weights: What `train` was given, broadcast to them; a step of weight 0, such
            as padding, does not count. None counts all.
    """
    ones = tf.ones_like(advantages)
    weights = ones if weights is None else ones * tf.cast(weights, ones.dtype)
    count, summed = total([tf.reduce_sum(x) for x in (weights, weights * advantages)])
    centred = advantages - tf.math.divide_no_nan(summed, count)
    spread = total(tf.reduce_sum(weights * tf.square(centred)))
    return centred * tf.math.rsqrt(tf.math.divide_no_nan(spread, count) + 1e-8)
