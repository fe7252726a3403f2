"""The auxiliary loss: a head asks the memory's output what the teacher knows."""

from typing import Any

import jax
import jax.numpy as jnp
import keras

from keras_agalite import MemoryPolicy
from keras_agalite.environments.functional import FunctionalEnv, TeacherTargets
from keras_agalite.models.dense import mlp
from training.recipe import Recipe


class AuxiliaryHead(keras.layers.Layer):
    """A hidden layer and a linear one, as the policy's heads, but no part of it.

    Jaderberg et al., "Reinforcement Learning with Unsupervised Auxiliary Tasks",
    arXiv 1611.05397, train a memory with losses beside PPO's own; here it is asked
    for `FunctionalEnv.teacher_targets`.

    Args:
        env: An environment with `teacher_targets`.
        policy: The policy whose memory is asked.
        recipe: Sizes of the policy's heads.

    Call arguments:
        features: The memory's output, of shape `(batch, time, size)`.

    Returns:
        `(logits, values)` of shape `(batch, time, number)`, float32.
    """

    def __init__(self, env: FunctionalEnv, policy: MemoryPolicy, recipe: Recipe):
        super().__init__(autocast=False)
        ask: Any = env.teacher_targets
        shapes = jax.eval_shape(
            lambda key: ask(env.reset(key), env.initial_teacher_state()),
            jax.random.key(0),
        )
        self.num_flags = len(shapes.flags)
        number = self.num_flags + len(shapes.values)
        self.hidden, self.outputs = mlp(
            recipe.head_units, recipe.head_activation, number, None
        )
        size = policy.encoder.output_size
        self.build(policy.memory.compute_output_shape((None, None, size))[0])

    def build(self, features: Any) -> None:
        self.hidden.build(features)
        self.outputs.build((*features[:-1], self.hidden.units))
        self.built = True

    def call(self, features: Any) -> Any:
        answers = self.outputs(self.hidden(features.astype(jnp.float32)))
        return jnp.split(answers, [self.num_flags], axis=-1)


def auxiliary_loss(
    logits: Any, values: Any, targets: TeacherTargets
) -> tuple[Any, dict[str, Any]]:
    """Cross-entropy of the flags and squared error of the numbers.

    Args:
        logits: Of the flags, `(batch, time, num_flags)`.
        values: `(batch, time, num_values)`.
        targets: What the teacher knew, in these shapes.

    Returns:
        `(loss, metrics)`: the sum of the two, each a mean over what was asked.
    """

    def mean(x: Any, weights: Any) -> Any:
        weights = weights.astype(jnp.float32)
        return jnp.sum(x * weights) / jnp.maximum(jnp.sum(weights), 1.0)

    # Of a logit and a flag: log(1 + exp(-logit)) if it is set, else of the opposite.
    cross_entropy = jax.nn.softplus(jnp.where(targets.flags, -logits, logits))
    metrics = {
        "auxiliary_cross_entropy": mean(cross_entropy, targets.flag_weights),
        "auxiliary_squared_error": mean(
            jnp.square(values - targets.values), targets.value_weights
        ),
    }
    return sum(metrics.values()), metrics
