"""PPO in JAX: where the environment is functional, one compiled program.

A run repeats itself: weights, noise, minibatches and environments follow from the seed
and the step. Checkpoints hold functional environments as they are; gymnasium
environments are reset at every checkpoint, as in the engine tf_agents.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from training.engines import run
from training.envs.checks import NO_ACTION
from training.envs.make import (
    make_environments,
    make_functional_environment,
    make_spaces,
)
from training.errors import EnvironmentFault, TrainingError
from training.learning.auxiliary import AuxiliaryHead
from training.learning.collect import (
    AXIS,
    STUCK,
    FunctionalCollector,
    GymnasiumCollector,
    finished,
)
from training.learning.ppo import PPO


class Run(run.Run):
    """One training run, on all devices that JAX sees.

    Args:
        recipe: The recipe.
        run_dir: Folder of the run.

    Raises:
        ValueError: If the environments cannot be shared evenly among the devices, a
            part cannot be built, or needs more memory than there is.
    """

    @classmethod
    @contextlib.contextmanager
    def settings(cls) -> Iterator[None]:
        # JAX_ENABLE_X64 would change noise and losses.
        with super().settings(), jax.enable_x64(False):
            yield

    def spaces(self) -> Any:
        recipe = self.recipe
        _check_alike("recipe", recipe.to_toml())
        devices, number = jax.devices(), recipe.num_environments
        if number % len(devices):
            raise ValueError(
                f"`num_environments` must be a multiple of the {len(devices)} devices. "
                f"Received: num_environments={number}"
            )
        self.env = env = make_functional_environment(recipe)
        if env is None and jax.process_count() > 1:
            raise ValueError(
                "Several processes can share functional environments alone; with "
                "--processes 1, each trains for itself. Received: "
                f"environment={recipe.environment!r}, {jax.process_count()} processes"
            )
        if env and recipe.vectorization_mode != "sync":
            raise ValueError(
                '`vectorization_mode` must be "sync" where environments are compiled '
                f"with the learner. Received: environment={recipe.environment!r}, "
                f"vectorization_mode={recipe.vectorization_mode!r}"
            )
        if recipe.stagger_episodes and env is None:
            raise ValueError(
                "`stagger_episodes` must be false where the environment is not "
                f"functional. Received: environment={recipe.environment!r}, "
                "stagger_episodes=True"
            )
        if recipe.teacher_coefficient and not (env and env.teacher_action):
            raise ValueError(
                "`teacher_coefficient` must be 0 where the environment has no teacher. "
                f"Received: environment={recipe.environment!r}, "
                f"teacher_coefficient={recipe.teacher_coefficient}"
            )
        if recipe.auxiliary_coefficient and not (env and env.teacher_targets):
            raise ValueError(
                "`auxiliary_coefficient` must be 0 where the environment has no "
                "targets of a teacher. Received: environment="
                f"{recipe.environment!r}, environment_arguments="
                f"{recipe.environment_arguments}, auxiliary_coefficient="
                f"{recipe.auxiliary_coefficient}"
            )
        if env:
            return env.observation_space, env.action_space
        return make_spaces(recipe)

    def build(self) -> None:
        recipe = self.recipe
        mesh = jax.sharding.Mesh(np.array(jax.devices()), (AXIS,), (AxisType.Auto,))
        self.is_chief = jax.process_index() == 0
        head = None
        if self.env and recipe.auxiliary_coefficient:
            head = AuxiliaryHead(self.env, self.policy, recipe)
        self.ppo = PPO(self.policy, recipe, head)
        whole = NamedSharding(mesh, PartitionSpec())
        initial = jax.jit(self.ppo.initial_state, out_shardings=whole)()
        self.vector: Any = None
        self.collector: Any
        if self.env:
            self.collector = FunctionalCollector(self.env, self.ppo, mesh)
            self.state = (initial, self.collector.reset())
        else:
            self.vector = make_environments(recipe, recipe.num_environments)
            self.collector = GymnasiumCollector(self.vector, self.ppo, mesh)
            self.state = (initial,)
        # Learning in steps waits for each of them.
        self.overlaps = self.vector is None and not self.ppo.learns_in_steps

    def train(self, wandb: str | None = None) -> None:
        with _losses_named():
            # Not alike, where they do not share the folder.
            _check_alike("checkpoint in the folder of the run", self.step)
            super().train(wandb)

    def finish(self) -> dict[str, Any]:
        with _losses_named():
            result = super().finish()
            if jax.process_count() > 1:
                # JAX's own end would not wait for a long evaluation of process 0.
                multihost_utils.sync_global_devices("finished")
        return result

    def begin_episodes(self) -> None:
        if self.vector:
            self.collector.reset(self.step)

    def iterate(self) -> run.Report:
        *state, metrics, episodes = self.collector.iterate(*self.state)
        self.state = tuple(state)

        def report() -> Any:
            read = {name: float(x) for name, x in metrics.items()}  # waits for it
            if read.pop(STUCK, 0.0):
                raise EnvironmentFault(f"An environment: {NO_ACTION}.", wrong_data=True)
            return read, finished(to_host(episodes)), self.collector.seconds

        return report

    def arrays(self) -> dict[str, np.ndarray]:
        leaves = jax.tree_util.tree_leaves_with_path(to_host(self.state))
        return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        def place(path: Any, leaf: Any) -> Any:
            array = arrays[jax.tree_util.keystr(path)]
            return jax.make_array_from_callback(
                array.shape, leaf.sharding, lambda index: array[index]
            )

        placed = jax.tree_util.tree_map_with_path(place, self.state)
        # On a CPU these may be NumPy's own memory, which must not be given away.
        self.state = jax.tree.map(jnp.copy, placed)

    def update_policy(self) -> None:
        weights = to_host(self.state[0]).all_weights
        for variable, weight in zip(self.ppo.all_variables, weights, strict=True):
            variable.assign(weight)

    @property
    def interrupted(self) -> bool:
        if jax.process_count() == 1:
            return super().interrupted
        interrupt = self.session.interrupt
        # All processes that train together stop as one of them was asked to. A signal
        # that comes while they ask each other counts the next time.
        number = np.array(interrupt.signal_number or 0)
        number = int(multihost_utils.process_allgather(number).max())
        if number:
            interrupt.signal_number = number
        return number != 0

    def close_environments(self) -> None:
        if self.vector:
            self.vector.close()


@contextlib.contextmanager
def _losses_named() -> Iterator[None]:
    """Says so where a process that trains together with this one is gone."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        if jax.process_count() > 1 and "Gloo" in str(error):
            raise TrainingError(f"Another process was lost: {error}") from error
        raise


def _check_alike(what: str, x: Any) -> None:
    """Raises a ValueError in all processes that train together if they differ."""
    if jax.process_count() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(repr(x).encode()).digest(), np.uint8)
    different = (multihost_utils.process_allgather(digest) != digest).any(axis=1)
    if different.any():
        raise ValueError(
            f"Processes that train together must have the same {what}. Received: "
            f"another one in process {np.flatnonzero(different).tolist()} than in "
            f"process {jax.process_index()}"
        )


def to_host(tree: Any) -> Any:
    """The whole arrays in NumPy, also where other processes hold parts of them."""
    if jax.process_count() == 1:
        return jax.tree.map(np.asarray, tree)
    return multihost_utils.process_allgather(tree, tiled=True)
