"""PPO with TF-Agents: its driver, replay buffer and agent around a MemoryPolicy.

A run repeats itself: weights, noise, minibatches and environments follow from the
seed and the step. At every checkpoint the environments are reset, stopped run or not,
so a run that is resumed from one goes on as if it had never stopped.
"""

import contextlib
import time
from collections.abc import Iterator
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

from training.learning.policy import make_environments, make_policy, make_spaces
from training.recipe import Recipe
from training.runs.checkpoints import Checkpoints
from training.runs.folder import open_run, write_result
from training.runs.footprint import check_memory
from training.runs.session import Session

tf.get_logger().setLevel("ERROR")  # gather_all is deprecated, and what we need


class Run:
    """One training run.

    Args:
        recipe: The recipe.
        run_dir: Folder of the run.

    Raises:
        ValueError: If a part cannot be built, or needs more memory than there is.
    """

    def __init__(self, recipe: Recipe, run_dir: Path) -> None:
        self.recipe = recipe
        self.run_dir = run_dir
        number = recipe.num_environments
        self.policy = make_policy(recipe, *make_spaces(recipe))
        check_memory(self.policy, recipe)
        vector = make_environments(recipe, number)
        open_run(recipe, run_dir)  # nothing is written before all can be built
        self.environments = integration.GymnasiumEnvironment(vector)
        self.tf_environments = tf_py_environment.TFPyEnvironment(self.environments)
        self.optimizer = tf_keras.optimizers.Adam(
            recipe.learning_rate,
            epsilon=recipe.adam_epsilon,
            # Not the agent, which would tell the norm of what it has clipped.
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
        self._train = common.function(self._learn)
        self._prepare = common.function(self._prepare_batch)
        self.step = 0
        self.checkpoints = Checkpoints(run_dir / "checkpoints", recipe.checkpoints_kept)
        self._restore()

    def train(self, wandb: str | None = None) -> None:
        """Runs iterations until the recipe's steps are done, or a signal comes."""
        recipe = self.recipe
        size, interval = recipe.steps_per_iteration, recipe.checkpoint_interval
        with Session(
            recipe, self.run_dir, self.step, self.checkpoints, wandb=wandb
        ) as session:
            self.curve = session.curve
            time_step, state = self._reset()
            while self.step < recipe.total_steps and not session.interrupted:
                time_step, state, metrics, seconds = self._iterate(time_step, state)
                speed = {k: size / max(v, 1e-9) for k, v in seconds.items()}
                episodes = self.environments.pop_finished_episodes()
                session.log(self.step, speed, metrics, episodes)
                if self.step // interval > (self.step - size) // interval:
                    session.save(self.step, self._arrays())
                    time_step, state = self._reset()
            if self.step not in self.checkpoints.steps():
                session.save(self.step, self._arrays())
            session.interrupt.raise_if_asked()

    def close(self) -> None:
        """Ends the environments and their processes."""
        self.environments.close()

    def finish(self) -> dict[str, Any]:
        """Writes the preset, its evaluation and the plot."""
        self.close()
        self.curve.plot(self.run_dir / "learning_curve.png", self.recipe.name)
        return write_result(self.policy, self.recipe, self.run_dir, self.step)

    def _variables(self) -> dict[str, Any]:
        """All that a run goes on from, by name."""
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

    def _arrays(self) -> dict[str, np.ndarray]:
        return {name: x.numpy() for name, x in self._variables().items()}

    def _restore(self) -> None:
        found = self.checkpoints.restore()
        if found is None:
            return
        self.step, arrays = found
        for name, variable in self._variables().items():
            variable.assign(arrays[name])

    def _reset(self) -> tuple[Any, Any]:
        """New episodes, seeded by the step, and empty memories."""
        seed = np.random.SeedSequence([self.recipe.seed, self.step])
        self.environments.seed(int(seed.generate_state(1)[0]))
        with self._own_errors():
            time_step = self.tf_environments.reset()
        state = self.agent.collect_policy.get_initial_state(
            self.recipe.num_environments
        )
        return time_step, state

    def _iterate(self, time_step: Any, state: Any) -> tuple[Any, Any, Any, Any]:
        """Collects one sequence in each environment and learns from them.

        Returns:
            `(time_step, state, metrics, seconds)`: means over the minibatches, and
            how long the parts took.
        """
        recipe = self.recipe
        begin = time.perf_counter()
        if recipe.anneal_learning_rate:
            left = 1.0 - self.step / recipe.total_steps
            self.optimizer.learning_rate.assign(recipe.learning_rate * left)
        self.buffer.clear()
        start = state
        with self._own_errors():
            time_step, state = self._drive(
                time_step, state, maximum_iterations=recipe.sequence_length
            )
        collected = time.perf_counter()
        experience = self._prepare(self.buffer.gather_all(), time_step, state)
        noise = np.random.default_rng([recipe.seed, self.step])
        rows = []
        for _ in range(recipe.num_epochs):
            order = noise.permutation(recipe.num_environments)
            for which in np.split(order, recipe.num_minibatches):
                batch, initial_state = tf.nest.map_structure(
                    lambda x, which=which: tf.gather(x, which), (experience, start)
                )
                rows.append(self._train(batch, initial_state))
        metrics = {name: float(np.mean([r[name] for r in rows])) for name in rows[0]}
        self.step += recipe.steps_per_iteration
        end = time.perf_counter()
        seconds = {
            "steps_per_second": end - begin,
            "collect_steps_per_second": collected - begin,
            "learn_steps_per_second": end - collected,
        }
        return time_step, state, metrics, seconds

    @contextlib.contextmanager
    def _own_errors(self) -> Iterator[None]:
        """Raises what the environments raised, not what TensorFlow makes of it."""
        try:
            yield
        except tf.errors.OpError:
            if self.environments.error is None:
                raise
            raise self.environments.error from None

    def _learn(self, batch: Any, initial_state: Any) -> dict[str, Any]:
        """Learns from one minibatch; returns what there is to know of it."""
        loss = self.agent.train(batch, initial_state=initial_state)
        terms = ("policy_gradient", "value_estimation", "entropy_regularization")
        names = [f"{term}_loss" for term in terms]
        return {
            "loss": loss.loss,
            **{name: getattr(loss.extra, name) for name in names},
            **self.agent.diagnostics,
            "gradient_norm": self.agent._grad_norm,
        }

    def _prepare_batch(self, experience: Any, time_step: Any, state: Any) -> Any:
        """Advantages and returns; the frame they need at the end is dropped again."""
        experience = self.agent.append_bootstrap(experience, time_step, state)
        experience = self.agent.preprocess_sequence(experience)
        return tf.nest.map_structure(
            lambda x: x[:, : self.recipe.sequence_length], experience
        )
