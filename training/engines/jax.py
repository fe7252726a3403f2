"""PPO in JAX: where the environment is functional, one compiled program.

A run repeats itself: weights, noise, minibatches and worlds follow from the seed and
the step. Checkpoints of a run in functional worlds hold them as they are; gymnasium
environments are reset at every checkpoint, as in the engine tf_agents.
"""

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from training.build import make_environments, make_functional_environment, make_policy
from training.checkpoints import Checkpoints
from training.collect import AXIS, FunctionalCollector, GymnasiumCollector, finished
from training.ppo import PPO
from training.progress import Curve, Display, TensorBoard, summarize
from training.recipe import Recipe
from training.runs import open_run, write_result


def train(recipe: Recipe, run_dir: Path) -> dict[str, Any]:
    """Trains, evaluates and writes the run; continues one that exists.

    Returns:
        The evaluation; in processes other than the first, nothing.
    """
    run = Run(recipe, run_dir)
    run.train()
    return run.finish()


class Run:
    """One training run, on all devices that JAX sees.

    Args:
        recipe: The recipe.
        run_dir: Folder of the run.

    Raises:
        ValueError: If the environments cannot be shared evenly among the devices.
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
        vector = None if env else make_environments(recipe, number)
        spaces = (
            (env.observation_space, env.action_space)
            if env
            else (vector.single_observation_space, vector.single_action_space)
        )
        self.policy = make_policy(recipe, *spaces)
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
        self.curve = Curve(run_dir / "curve.jsonl", self.step) if self.chief else None

    def train(self) -> None:
        """Runs iterations until the recipe's steps are done."""
        recipe = self.recipe
        with (
            TensorBoard(self.run_dir / "tensorboard", self.chief) as board,
            Display(recipe.total_steps, self.step, self.chief) as display,
        ):
            self._begin_episodes()
            told: Any = None  # by the last iteration; read while the next one runs
            self.clock = time.perf_counter()
            while self.step < recipe.total_steps:
                before, told = told, self._iterate()
                if before:
                    self._log(self.step, *before, display, board)
                self.step += recipe.steps_per_iteration
                if self._checkpoint_is_due():
                    self._log(self.step, *told, display, board)
                    told = None
                    self.save()
                    self._begin_episodes()
            if told:
                self._log(self.step, *told, display, board)
        if self.step not in self.checkpoints.steps():
            self.save()

    def finish(self) -> dict[str, Any]:
        """Writes the preset, its evaluation and the plot."""
        if self.vector:
            self.vector.close()
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
        state = to_host(self.state)
        if self.chief:
            leaves = jax.tree_util.tree_leaves_with_path(state)
            named = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
            self.checkpoints.save(self.step, named)

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

        self.state = jax.tree_util.tree_map_with_path(place, self.state)

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

    def _log(
        self, step: int, metrics: Any, episodes: Any, display: Any, board: Any
    ) -> None:
        metrics = {name: float(x) for name, x in metrics.items()}  # waits for it
        ended = finished(to_host(episodes))
        now = time.perf_counter()
        rate = self.recipe.steps_per_iteration / (now - self.clock)
        self.clock = now
        if self.chief:
            display.update(step, rate, ended)
            row = {"step": step, "steps_per_second": rate, **summarize(ended)}
            self.curve.add({**row, **metrics})
            board.add(step, {f"episodes/{key}": x for key, x in row.items()})
            board.add(step, {f"Losses/{key}": x for key, x in metrics.items()})


def to_host(tree: Any) -> Any:
    """The whole arrays in NumPy, also where other processes hold parts of them."""
    if jax.process_count() == 1:
        return jax.tree.map(np.asarray, tree)
    return multihost_utils.process_allgather(tree, tiled=True)
