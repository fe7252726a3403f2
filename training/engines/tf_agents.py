"""PPO with TF-Agents: its driver, replay buffer and agent around a MemoryPolicy.

A run repeats itself: weights, noise, minibatches and environments follow from the
seed and the step. At every checkpoint the environments are reset, stopped run or not,
so a run that is resumed from one goes on as if it had never stopped.
"""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

# Before keras: it makes TensorFlow load Keras 2 for TF-Agents.
from keras_agalite.integrations import tf_agents as integration

# isort: split
import tensorflow as tf
import tf_keras
from tf_agents.drivers import dynamic_step_driver
from tf_agents.environments import tf_py_environment
from tf_agents.replay_buffers import tf_uniform_replay_buffer
from tf_agents.utils import common

from training.engines import run
from training.envs.make import make_environments, make_spaces
from training.learning.rewards import (
    RewardScale,
    initial_reward_scale,
    scale_rewards,
)

tf.get_logger().setLevel("ERROR")  # gather_all is deprecated, and what we need


class Run(run.Run):
    """One training run.

    Args:
        recipe: The recipe.
        run_dir: Folder of the run.

    Raises:
        ValueError: If a part cannot be built, or needs more memory than there is.
    """

    def spaces(self) -> Any:
        return make_spaces(self.recipe)

    def build(self) -> None:
        recipe, number = self.recipe, self.recipe.num_environments
        vector = make_environments(recipe, number)
        self.environments = integration.GymnasiumEnvironment(vector)
        self.tf_environments = tf_py_environment.TFPyEnvironment(self.environments)
        self.optimizer = tf_keras.optimizers.Adam(
            recipe.learning_rate,
            epsilon=recipe.adam_epsilon,
            # Not the agent, which would report the norm of what it has clipped.
            global_clipnorm=recipe.max_gradient_norm,
        )
        self.agent = integration.MemoryPPOAgent(
            self.tf_environments.time_step_spec(),
            self.tf_environments.action_spec(),
            self.policy,
            self.optimizer,
            seed=recipe.seed,
            discount_factor=recipe.discount,
            lambda_value=recipe.gae_lambda,
            importance_ratio_clipping=recipe.clip_epsilon,
            jit_compile=recipe.jit_compile,
            entropy_regularization=recipe.entropy_coefficient,
            value_pred_loss_coef=recipe.value_coefficient,
        )
        self.agent.initialize()
        self.buffer = tf_uniform_replay_buffer.TFUniformReplayBuffer(
            self.agent.collect_data_spec, number, max_length=recipe.sequence_length
        )
        driver = dynamic_step_driver.DynamicStepDriver(
            self.tf_environments,
            self.agent.collect_policy,
            observers=[self.buffer.add_batch],
            # More than there are: the loop ends with maximum_iterations, after the
            # same number of frames in every row.
            num_steps=recipe.steps_per_iteration + 1,
        )
        self._drive = common.function(driver.run)
        self.reward_scale: RewardScale | None = None
        if recipe.scale_rewards:
            self.reward_scale = initial_reward_scale(number)
        self._prepare = common.function(self._scale_and_prepare)
        self._count = common.function(self._count_observations)
        self._train = common.function(self._learn)

    def begin_episodes(self) -> None:
        seed = np.random.SeedSequence([self.recipe.seed, self.step])
        self.environments.seed(int(seed.generate_state(1)[0]))
        with self._environment_errors():
            self.time_step = self.tf_environments.reset()
        self.state = self.agent.collect_policy.get_initial_state(
            self.recipe.num_environments
        )

    def iterate(self) -> run.Report:
        recipe = self.recipe
        begin = time.perf_counter()
        if recipe.anneal_learning_rate:
            left = 1.0 - self.step / recipe.total_steps
            self.optimizer.learning_rate.assign(recipe.learning_rate * left)
        self.buffer.clear()
        start = self.state
        with self._environment_errors():
            self.time_step, self.state = self._drive(
                self.time_step, start, maximum_iterations=recipe.sequence_length
            )
        collected = time.perf_counter()
        experience, self.reward_scale = self._prepare(
            self.buffer.gather_all(), self.time_step, self.state, self.reward_scale
        )
        rng = np.random.default_rng([recipe.seed, self.step])
        rows = []
        for _ in range(recipe.num_epochs):
            order = rng.permutation(recipe.num_environments)
            for which in np.split(order, recipe.num_minibatches):
                batch, initial_state = tf.nest.map_structure(
                    lambda x, which=which: tf.gather(x, which), (experience, start)
                )
                rows.append(self._train(batch, initial_state))
        if self.policy.normalizer is not None:
            self._count(experience)
        metrics = {name: float(np.mean([r[name] for r in rows])) for name in rows[0]}
        seconds = {
            "collect_steps_per_second": collected - begin,
            "learn_steps_per_second": time.perf_counter() - collected,
        }
        episodes = self.environments.pop_finished_episodes()
        return lambda: (metrics, episodes, seconds)

    def arrays(self) -> dict[str, np.ndarray]:
        tensors = {**self._variables(), **self._reward_scale_arrays()}
        return {name: x.numpy() for name, x in tensors.items()}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        for name, variable in self._variables().items():
            variable.assign(arrays[name])
        if self.reward_scale:
            names = self._reward_scale_arrays()
            self.reward_scale = tf.nest.pack_sequence_as(
                self.reward_scale, [tf.constant(arrays[name]) for name in names]
            )

    def close_environments(self) -> None:
        self.environments.close()

    def _variables(self) -> dict[str, Any]:
        groups = {
            "weights": [w.value for w in self.policy.variables],
            "optimizer": self.optimizer.variables,
        }
        return {
            "train_steps": self.agent.train_step_counter,
            "collected_steps": self.agent.collect_policy.collected_steps,
            **{
                f"{name}/{i:03}": variable
                for name, group in groups.items()
                for i, variable in enumerate(group)
            },
        }

    def _reward_scale_arrays(self) -> dict[str, Any]:
        flat = tf.nest.flatten(self.reward_scale) if self.reward_scale else []
        return {f"statistics/rewards/{i}": x for i, x in enumerate(flat)}

    @contextlib.contextmanager
    def _environment_errors(self) -> Iterator[None]:
        """Raises what the environments raised, not what TensorFlow makes of it."""
        try:
            yield
        except tf.errors.OpError:
            if self.environments.error is None:
                raise
            raise self.environments.error from None

    def _scale_and_prepare(
        self, experience: Any, time_step: Any, state: Any, scale: RewardScale | None
    ) -> Any:
        """What an iteration learns from, and what scales its rewards."""
        if scale:
            scale, reward = scale_rewards(
                scale,
                experience.reward,
                experience.is_first(),
                ~experience.is_boundary(),
                self.recipe.discount,
            )
            experience = experience._replace(reward=reward)
        return self.agent.prepare(experience, time_step, state), scale

    def _count_observations(self, experience: Any) -> None:
        """Counts a batch in, for the observations of the next one."""
        rows, valid = tf.nest.map_structure(
            lambda x: tf.reshape(x, (-1, *x.shape[2:])),
            (experience.observation, ~experience.is_boundary()),
        )
        normalizer: Any = self.policy.normalizer
        normalizer.update(rows, valid)

    def _learn(self, batch: Any, initial_state: Any) -> dict[str, Any]:
        """Learns from one minibatch; returns what there is to know of it."""
        loss = self.agent.train(batch, initial_state=initial_state)
        terms = ("policy_gradient", "value_estimation", "entropy_regularization")
        names = [f"{term}_loss" for term in terms]
        return {
            "loss": loss.loss,
            **{name: getattr(loss.extra, name) for name in names},
            **self.agent.diagnostics,
        }
