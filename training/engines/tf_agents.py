"""PPO with TF-Agents: its driver, replay buffer and agent around a MemoryPolicy.

A run repeats itself: weights, noise, minibatches and environments follow from the
seed and the step. At every checkpoint the environments are reset, stopped run or not,
so a run that is resumed from one goes on as if it had never stopped.
"""

import time
from pathlib import Path
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

from training.build import make_environments, make_policy
from training.progress import Curve, Display, summarize
from training.recipe import Recipe
from training.runs import open_run, write_result

tf.get_logger().setLevel("ERROR")  # gather_all is deprecated, and what we need


def train(recipe: Recipe, run_dir: Path) -> dict[str, Any]:
    """Trains, evaluates and writes the run; continues one that exists.

    Returns:
        The evaluation.
    """
    run = Run(recipe, run_dir)
    run.train()
    return run.finish()


class Run:
    """One training run.

    Args:
        recipe: The recipe.
        run_dir: Folder of the run.
    """

    def __init__(self, recipe: Recipe, run_dir: Path) -> None:
        self.recipe = recipe
        self.run_dir = run_dir
        number = recipe.num_environments
        vector = make_environments(recipe, number)
        self.policy = make_policy(
            recipe, vector.single_observation_space, vector.single_action_space
        )
        open_run(recipe, run_dir)  # nothing is written before all can be built
        self.environments = integration.GymnasiumEnvironment(vector)
        self.tf_environments = tf_py_environment.TFPyEnvironment(self.environments)
        self.optimizer = tf_keras.optimizers.Adam(
            recipe.learning_rate, epsilon=recipe.adam_epsilon
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
            entropy_regularization=recipe.entropy_coefficient,
            value_pred_loss_coef=recipe.value_coefficient,
            gradient_clipping=recipe.max_gradient_norm,
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
        self._train = common.function(self.agent.train)
        self._prepare = common.function(self._prepare_batch)
        self._record = tf.Variable(False, trainable=False)
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.checkpoint = tf.train.Checkpoint(
            weights=[w.value for w in self.policy.variables],
            optimizer=self.optimizer,
            train_steps=self.agent.train_step_counter,
            collected_steps=self.agent.collect_policy.collected_steps,
            step=self.step,
        )
        self.checkpoints = tf.train.CheckpointManager(
            self.checkpoint,
            str(run_dir / "checkpoints"),
            max_to_keep=recipe.checkpoints_kept,
            step_counter=self.step,
        )
        if self.checkpoints.latest_checkpoint:
            self.checkpoint.restore(
                self.checkpoints.latest_checkpoint
            ).assert_consumed()
        self.curve = Curve(run_dir / "curve.jsonl", int(self.step))

    def train(self) -> None:
        """Runs iterations until the recipe's steps are done."""
        recipe = self.recipe
        writer = tf.summary.create_file_writer(str(self.run_dir / "tensorboard"))
        with (
            writer.as_default(),
            Display(recipe.total_steps, int(self.step)) as display,
        ):
            time_step, state = self._reset()
            while int(self.step) < recipe.total_steps:
                begin = time.perf_counter()
                time_step, state = self._iterate(time_step, state)
                episodes = self.environments.pop_finished_episodes()
                rate = recipe.steps_per_iteration / (time.perf_counter() - begin)
                step = int(self.step)
                display.update(step, rate, episodes)
                self._log(step, rate, episodes)
                previous = step - recipe.steps_per_iteration
                interval = recipe.checkpoint_interval
                if step // interval > previous // interval:
                    self.checkpoints.save(step)
                    time_step, state = self._reset()
        if int(self.step) != self._last_saved():
            self.checkpoints.save(int(self.step))

    def finish(self) -> dict[str, Any]:
        """Writes the preset, its evaluation and the plot."""
        self.environments.close()
        self.curve.plot(self.run_dir / "learning_curve.png", self.recipe.name)
        return write_result(self.policy, self.recipe, self.run_dir, int(self.step))

    def _last_saved(self) -> int:
        latest = self.checkpoints.latest_checkpoint
        return int(latest.rsplit("-", 1)[1]) if latest else -1

    def _reset(self) -> tuple[Any, Any]:
        """New episodes, seeded by the step, and empty memories."""
        seed = np.random.SeedSequence([self.recipe.seed, int(self.step)])
        self.environments.seed(int(seed.generate_state(1)[0]))
        time_step = self.tf_environments.reset()
        state = self.agent.collect_policy.get_initial_state(
            self.recipe.num_environments
        )
        return time_step, state

    def _iterate(self, time_step: Any, state: Any) -> tuple[Any, Any]:
        """Collects one sequence in each environment and learns from them."""
        recipe = self.recipe
        if recipe.anneal_learning_rate:
            left = 1.0 - int(self.step) / recipe.total_steps
            self.optimizer.learning_rate.assign(recipe.learning_rate * left)
        self.buffer.clear()
        start = state
        time_step, state = self._drive(
            time_step, state, maximum_iterations=recipe.sequence_length
        )
        experience = self._prepare(self.buffer.gather_all(), time_step, state)
        noise = np.random.default_rng([recipe.seed, int(self.step)])
        for epoch in range(recipe.num_epochs):
            order = noise.permutation(recipe.num_environments)
            for i, rows in enumerate(np.split(order, recipe.num_minibatches)):
                last = (epoch + 1, i + 1) == (recipe.num_epochs, recipe.num_minibatches)
                self._record.assign(last)  # one minibatch an iteration is enough
                batch, initial_state = tf.nest.map_structure(
                    lambda x, rows=rows: tf.gather(x, rows), (experience, start)
                )
                with tf.summary.record_if(self._record):
                    self._train(batch, initial_state=initial_state)
        self.step.assign_add(recipe.steps_per_iteration)
        return time_step, state

    def _prepare_batch(self, experience: Any, time_step: Any, state: Any) -> Any:
        """Advantages and returns; the frame they need at the end is dropped again."""
        experience = self.agent.append_bootstrap(experience, time_step, state)
        experience = self.agent.preprocess_sequence(experience)
        return tf.nest.map_structure(
            lambda x: x[:, : self.recipe.sequence_length], experience
        )

    def _log(self, step: int, rate: float, episodes: list[dict[str, Any]]) -> None:
        row = {"step": step, "steps_per_second": rate, **summarize(episodes)}
        self.curve.add(row)
        for key, value in row.items():
            if value is not None and key != "step":
                tf.summary.scalar(f"episodes/{key}", value, step=step)
