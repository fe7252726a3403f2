"""The Adaptive Memory Allocator: which items a SpatialMemory lets go, by task."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_agalite.layers.checks import check_sizes
from keras_agalite.layers.spatial_memory import SpatialMemory
from keras_agalite.models.dense import mlp
from keras_agalite.models.policy import MemoryPolicy
from keras_agalite.ops.place_memory import STRATEGIES

# Of the error of Q, in the loss.
_WEIGHT = 0.1


def with_strategy(policy: MemoryPolicy, strategy: str) -> MemoryPolicy:
    """A copy of a policy with the same weights and another allocation strategy.

    The strategy of `SpatialMemory` has no weights, and the state of one is a state of
    the others. After the weights of `policy` have changed,
    `copy.set_weights(policy.get_weights())` brings them to the copy.

    Args:
        policy: A policy whose memory is a `SpatialMemory`.
        strategy: `"fifo"`, `"lifo"`, `"lvfo"` or `"mvfo"`.

    Returns:
        The copy.

    Raises:
        ValueError: If the memory is another, or there is no such strategy.

    Example:

    >>> names = AdaptiveMemoryAllocator.strategies
    >>> policies = {name: with_strategy(policy, name) for name in names}
    """
    if not isinstance(policy.memory, SpatialMemory):
        raise ValueError(
            "`policy` must have a SpatialMemory. Received: "
            f"policy.memory={policy.memory!r}"
        )
    config = policy.get_config()
    config["memory"]["config"]["strategy"] = strategy
    copy: MemoryPolicy = type(policy).from_config(config)
    copy.set_weights(policy.get_weights())
    return copy


@keras.saving.register_keras_serializable(package="keras_agalite")
class AdaptiveMemoryAllocator(keras.Model):
    """A bandit over the allocation strategies of `SpatialMemory`.

    For each episode it chooses one of FIFO, LIFO, LVFO and MVFO by the task, and
    learns from what the episode earned: Q(task) = W_2 relu(W_1 onehot(task)) has one
    value for each strategy, and learning reduces 0.1 (Q(task)[strategy] - reward)^2.
    With the probability epsilon, which falls linearly, the strategy is drawn evenly,
    else it has the highest Q.

    Cho et al., "Spatially-Aware Transformer for Embodied Agents", ICLR 2024, arXiv
    2402.15160: the reward is minus the loss of the prediction that the memory is for.
    There the error of Q is a term of the loss of the whole model; as Q has weights of
    its own and reads the task alone, it learns by itself here, with its own Adam.

    Args:
        num_tasks: Number of tasks.
        units: Width of the hidden layer.
        learning_rate: Of Adam.
        first_epsilon: Epsilon before the first call of `learn`.
        last_epsilon: Epsilon after `epsilon_steps` calls of it.
        epsilon_steps: Number of calls in which epsilon falls.
        **kwargs: Arguments of `keras.Model`.

    Call arguments:
        tasks: Integers of shape `(batch,)`.

    Returns:
        Q, of shape `(batch, 4)`, in the order of `strategies`.

    Raises:
        ValueError: If a size is not positive, or an epsilon not from 0 to 1.

    Example:

    >>> allocator = AdaptiveMemoryAllocator(num_tasks=4)
    >>> strategies = allocator.choose(tasks, seed=generator)
    >>> allocator.learn(tasks, strategies, rewards)
    """

    strategies = STRATEGIES

    def __init__(
        self,
        num_tasks: int,
        units: int = 64,
        learning_rate: float = 2e-4,
        first_epsilon: float = 1.0,
        last_epsilon: float = 0.2,
        epsilon_steps: int = 200_000,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        sizes = {"num_tasks": num_tasks, "units": units, "epsilon_steps": epsilon_steps}
        check_sizes(sizes)
        for name, value in (
            ("first_epsilon", first_epsilon),
            ("last_epsilon", last_epsilon),
        ):
            if not 0.0 <= value <= 1.0:
                raise ValueError(
                    f"`{name}` must be from 0 to 1. Received: {name}={value!r}"
                )
        self.num_tasks = num_tasks
        self.units = units
        self.learning_rate = learning_rate
        self.first_epsilon = first_epsilon
        self.last_epsilon = last_epsilon
        self.epsilon_steps = epsilon_steps
        self.hidden, self.values = mlp(
            units, "relu", len(self.strategies), self.dtype_policy, gain=1.0
        )
        self.compile(keras.optimizers.Adam(learning_rate), loss=_error)
        self.build((None,))
        self.optimizer.build(self.trainable_variables)

    def build(self, input_shape: Any) -> None:
        self.hidden.build((None, self.num_tasks))
        self.values.build((None, self.units))
        self.learnt = self.add_weight(
            name="learnt", shape=(), initializer="zeros", dtype="int32", trainable=False
        )
        self.built = True

    def call(self, tasks: Any) -> Any:
        one_hot = ops.one_hot(ops.cast(tasks, "int32"), self.num_tasks)
        return self.values(self.hidden(one_hot))

    @property
    def epsilon(self) -> float:
        """The probability with which a strategy is drawn evenly."""
        share = min(int(self.learnt) / self.epsilon_steps, 1.0)
        return self.first_epsilon + share * (self.last_epsilon - self.first_epsilon)

    def choose(
        self,
        tasks: Any,
        deterministic: bool = False,
        seed: int | np.random.Generator | None = None,
    ) -> list[str]:
        """A strategy for each episode that begins.

        Args:
            tasks: Their tasks, integers of shape `(batch,)`.
            deterministic: Take the highest Q everywhere.
            seed: Source of what is drawn.

        Returns:
            A list of strategies.

        Raises:
            ValueError: If a task is not an integer from 0 to `num_tasks - 1`.
        """
        tasks = self._check_tasks(tasks)
        best = ops.convert_to_numpy(self(tasks)).argmax(axis=-1)
        if not deterministic:
            random = np.random.default_rng(seed)
            drawn = random.integers(len(self.strategies), size=len(tasks))
            best = np.where(random.random(len(tasks)) < self.epsilon, drawn, best)
        return [self.strategies[i] for i in best]

    def learn(self, tasks: Any, strategies: Any, rewards: Any) -> float:
        """One step of Adam on episodes that are over.

        Args:
            tasks: Their tasks, integers of shape `(batch,)`.
            strategies: What was chosen, a list of `batch` strategies.
            rewards: What they earned, of shape `(batch,)`.

        Returns:
            The loss before the step: the mean of 0.1 (Q - reward)^2.

        Raises:
            ValueError: If a task or a strategy does not exist, a reward is not
                finite, or the lengths differ.
        """
        tasks = self._check_tasks(tasks)
        rewards = np.asarray(rewards, np.float32)
        fits = len(strategies) == len(tasks) and rewards.shape == tasks.shape
        if not fits or not np.isfinite(rewards).all():
            raise ValueError(
                f"Expected {len(tasks)} strategies and finite rewards. Received: "
                f"strategies={strategies!r}, rewards={rewards!r}"
            )
        if unknown := sorted(set(strategies) - set(self.strategies)):
            raise ValueError(
                f"`strategies` must be of {', '.join(self.strategies)}. "
                f"Received: {unknown}"
            )
        chosen = [self.strategies.index(name) for name in strategies]
        targets = np.stack([np.array(chosen, np.float32), rewards], axis=-1)
        loss = self.train_on_batch(tasks, targets)
        self.learnt.assign_add(1)
        return float(loss)

    def _check_tasks(self, tasks: Any) -> np.ndarray:
        tasks = np.asarray(tasks)
        legal = tasks.ndim == 1 and tasks.dtype.kind in "iu"
        if not legal or not ((tasks >= 0) & (tasks < self.num_tasks)).all():
            raise ValueError(
                f"`tasks` must be integers from 0 to {self.num_tasks - 1}, of shape "
                f"(batch,). Received: tasks={tasks!r}"
            )
        return tasks.astype(np.int32)

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "num_tasks": self.num_tasks,
            "units": self.units,
            "learning_rate": self.learning_rate,
            "first_epsilon": self.first_epsilon,
            "last_epsilon": self.last_epsilon,
            "epsilon_steps": self.epsilon_steps,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
        }

    def get_compile_config(self) -> None:
        return None  # the constructor compiles


def _error(targets: Any, values: Any) -> Any:
    """0.1 (Q - r)^2 of what was chosen; targets are the choice and what it earned."""
    chosen = ops.one_hot(ops.cast(targets[:, 0], "int32"), values.shape[-1])
    return _WEIGHT * ops.square(ops.sum(chosen * values, axis=-1) - targets[:, 1])
