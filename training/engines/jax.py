"""PPO in JAX: where the environment is functional, one compiled program.

A run repeats itself: weights, noise, minibatches and worlds follow from the seed and
the step. Checkpoints of a run in functional worlds hold them as they are; gymnasium
environments are reset at every checkpoint, as in the engine tf_agents.
"""

import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from training.build import (
    make_environments,
    make_functional_environment,
    make_policy,
    make_spaces,
)
from training.checkpoints import Checkpoints
from training.collect import AXIS, FunctionalCollector, GymnasiumCollector, finished
from training.footprint import check_memory
from training.ppo import PPO
from training.recipe import Recipe
from training.runs import open_run, write_result
from training.session import Session


class Run:
    """One training run, on all devices that JAX sees.

    Args:
        recipe: The recipe.
        run_dir: Folder of the run.

    Raises:
        ValueError: If the environments cannot be shared evenly among the devices, a
            part cannot be built, or needs more memory than there is.
    """

    def __init__(self, recipe: Recipe, run_dir: Path) -> None:
        self.recipe = recipe
        self.run_dir = run_dir
        devices, number = jax.devices(), recipe.num_environments
        if number % len(devices):
            raise ValueError(
                f"`num_environments` must be a multiple of the {len(devices)} devices. "
                f"Received: num_environments={number}"
            )
        mesh = jax.sharding.Mesh(np.array(devices), (AXIS,), (AxisType.Auto,))
        env = make_functional_environment(recipe)
        if env is None and jax.process_count() > 1:
            raise ValueError(
                "Several processes can share functional environments alone. "
                f"Received: environment={recipe.environment!r}"
            )
        if env and recipe.vectorization_mode != "sync":
            raise ValueError(
                '`vectorization_mode` must be "sync" where environments are compiled '
                f"with the learner. Received: environment={recipe.environment!r}, "
                f"vectorization_mode={recipe.vectorization_mode!r}"
            )
        if recipe.teacher_coefficient and not (env and env.teacher_action):
            raise ValueError(
                "`teacher_coefficient` must be 0 where the environment has no teacher. "
                f"Received: environment={recipe.environment!r}, "
                f"teacher_coefficient={recipe.teacher_coefficient}"
            )
        spaces = (
            (env.observation_space, env.action_space) if env else make_spaces(recipe)
        )
        self.policy = make_policy(recipe, *spaces)
        check_memory(self.policy, recipe)
        vector = None if env else make_environments(recipe, number)
        self.chief = jax.process_index() == 0
        if self.chief:
            open_run(recipe, run_dir)  # nothing is written before all can be built
        self.vector = vector
        self.ppo = PPO(self.policy, recipe)
        self.checkpoints = Checkpoints(run_dir / "checkpoints", recipe.checkpoints_kept)
        whole = NamedSharding(mesh, PartitionSpec())
        initial = jax.jit(self.ppo.initial_state, out_shardings=whole)()
        self.collector: Any
        if env:
            self.collector = FunctionalCollector(env, self.ppo, mesh)
            self.state = (initial, self.collector.reset())
        else:
            self.collector = GymnasiumCollector(vector, self.ppo, mesh)
            self.state = (initial,)
        self.step = 0
        self._restore()
        self.session: Any = None

    def train(self, wandb: str | None = None) -> None:
        """Runs iterations until the recipe's steps are done, or a signal comes."""
        recipe = self.recipe
        with Session(
            recipe, self.run_dir, self.step, self.checkpoints, self.chief, wandb
        ) as self.session:
            self._begin_episodes()
            told: Any = None  # by the last iteration; read while the next one runs
            self.clock = time.perf_counter()
            while self.step < recipe.total_steps and not self._interrupted():
                before, told = told, self._iterate()
                if before:
                    self._log(self.step, *before)
                self.step += recipe.steps_per_iteration
                due = self._checkpoint_is_due()
                if due or self.vector:
                    self._log(self.step, *told)
                    told = None
                if due:
                    self.save()
                    self._begin_episodes()
            if told:
                self._log(self.step, *told)
            if self.step not in self.checkpoints.steps():
                self.save()
            self.session.interrupt.raise_if_asked()

    @property
    def curve(self) -> Any:
        return self.session.curve

    def close(self) -> None:
        """Ends the environments and their processes."""
        if self.vector:
            self.vector.close()

    def finish(self) -> dict[str, Any]:
        """Writes the preset, its evaluation and the plot."""
        self.close()
        learner = to_host(self.state[0])
        for variable, weight in zip(
            self.policy.trainable_variables, learner.weights, strict=True
        ):
            variable.assign(weight)
        if not self.chief:
            return {}
        self.curve.plot(self.run_dir / "learning_curve.png", self.recipe.name)
        return write_result(self.policy, self.recipe, self.run_dir, self.step)

    def save(self) -> None:
        """Writes a checkpoint of everything that the run goes on from."""
        leaves = jax.tree_util.tree_leaves_with_path(to_host(self.state))
        named = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
        self.session.save(self.step, named)

    def _restore(self) -> None:
        found = self.checkpoints.restore()
        if found is None:
            return
        self.step, arrays = found

        def place(path: Any, leaf: Any) -> Any:
            array = arrays[jax.tree_util.keystr(path)]
            return jax.make_array_from_callback(
                array.shape, leaf.sharding, lambda index: array[index]
            )

        placed = jax.tree_util.tree_map_with_path(place, self.state)
        # On a CPU these may be NumPy's own memory, which must not be given away.
        self.state = jax.tree.map(jnp.copy, placed)

    def _begin_episodes(self) -> None:
        if self.vector:
            self.collector.reset(self.step)

    def _iterate(self) -> Any:
        """Collects and learns; returns `(metrics, episodes)`."""
        *state, metrics, episodes = self.collector.iterate(*self.state)
        self.state = tuple(state)
        return metrics, episodes

    def _checkpoint_is_due(self) -> bool:
        interval = self.recipe.checkpoint_interval
        before = self.step - self.recipe.steps_per_iteration
        return self.step // interval > before // interval

    def _interrupted(self) -> bool:
        """Whether a signal came, to this process or to one that trains with it."""
        came = self.session.interrupted
        if jax.process_count() == 1:
            return came
        # All must leave the loop after the same iteration.
        return bool(multihost_utils.process_allgather(np.array(came)).any())

    def _log(self, step: int, metrics: Any, episodes: Any) -> None:
        metrics = {name: float(x) for name, x in metrics.items()}  # waits for it
        ended = finished(to_host(episodes))
        now = time.perf_counter()
        seconds = {"steps_per_second": now - self.clock}
        if self.vector:
            seconds.update(self.collector.seconds)
        self.clock = now
        size = self.recipe.steps_per_iteration
        speed = {name: size / max(x, 1e-9) for name, x in seconds.items()}
        self.session.log(step, speed, metrics, ended)


def to_host(tree: Any) -> Any:
    """The whole arrays in NumPy, also where other processes hold parts of them."""
    if jax.process_count() == 1:
        return jax.tree.map(np.asarray, tree)
    return multihost_utils.process_allgather(tree, tiled=True)
