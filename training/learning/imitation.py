"""Learning from recorded actions: the loss, and one step of the optimizer on it.

The same on every backend; `imitation_<backend>.py` compiles a step.
"""

import contextlib
import importlib
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_agalite import MemoryPolicy
from keras_agalite.models.observations import is_image
from training.learning.fine_tuning import frozen_weights
from training.learning.head_crossing import HeadCrossing
from training.recipe import Recipe
from training.recordings.segments import SegmentBatch


class Imitation:
    """A policy that learns to act as the recordings do.

    One step of AdamW (Loshchilov and Hutter, arXiv 1711.05101) a batch, on the loss
    over whole segments, with the gradient through the memory. A policy that is told a
    return to reach is told the recorded one.

    Args:
        policy: The policy, which learns in place.
        recipe: The settings.
    """

    def __init__(self, policy: Any, recipe: Recipe) -> None:
        self.policy = policy
        self.recipe = recipe
        self.variables = list(policy.trainable_variables)
        self.frozen = frozen_weights(policy)
        self.optimizer = keras.optimizers.AdamW(
            LearningRate(recipe),
            weight_decay=recipe.weight_decay,
            epsilon=recipe.adam_epsilon,
            global_clipnorm=recipe.max_gradient_norm,
        )
        self.optimizer.build(self.variables)
        self.crossing: HeadCrossing | None = None
        if recipe.cross_heads or recipe.skip_blocks:
            self.crossing = HeadCrossing(policy, recipe)
        self.encodes_once = isinstance(policy, MemoryPolicy) and is_image(
            policy.encoder.observation_space
        )
        backend = keras.backend.backend()
        compiler = importlib.import_module(f"training.learning.imitation_{backend}")
        self._update = compiler.compile_update(self)

    def update(self, batch: SegmentBatch, index: int) -> dict[str, Any]:
        """Learns from a batch.

        Args:
            batch: The batch.
            index: Its number, from which noise (dropout) follows.

        Returns:
            `loss` and `gradient_norm` (before clipping), tensors.
        """
        return dict(self._update(self.inputs(batch, index)))

    def inputs(self, batch: SegmentBatch, index: int) -> dict[str, Any]:
        """What `loss` reads, as NumPy arrays."""
        words = np.random.SeedSequence([self.recipe.seed, index]).generate_state(1)
        extra = {
            "target_return": batch.return_to_go[:, 0],
            "seed": np.int32(words[0] >> 1),
        }
        kept = {name: extra[name] for name in self.policy.extra_inputs}
        action = batch.action
        if action.dtype.kind == "i":
            action = action.astype(np.int32)
        seen: dict[str, Any] = {"observation": batch.observation}
        if self.encodes_once:
            seen["observation"], seen["which"] = distinct_images(batch.observation)
        return {
            **seen,
            "action": action,
            "mask": batch.mask,
            "extra": kept,
            "crossing": self.crossing.draw(index) if self.crossing else {},
        }

    def loss(self, inputs: dict[str, Any]) -> Any:
        """The mean of the policy's imitation loss over the recorded steps."""
        crossing = contextlib.nullcontext()
        if self.crossing:
            crossing = self.crossing.scope(inputs["crossing"])
        with crossing:
            out = self._output(inputs)
        each = self.policy.actor.imitation_loss(out.logits, inputs["action"])
        mask = ops.cast(inputs["mask"], "float32")
        return ops.sum(each * mask) / ops.sum(mask)

    def _output(self, inputs: dict[str, Any]) -> Any:
        policy, observation = self.policy, inputs["observation"]
        if not self.encodes_once:
            return policy(observation, training=True, **inputs["extra"])[0]
        features = ops.take(policy.encoder(observation), inputs["which"], axis=0)
        features, *_ = policy.memory(features, training=True)
        return policy.decide(features, observation)

    def arrays(self) -> dict[str, np.ndarray]:
        """All that learning changes, and the frozen weights, by name."""
        return {
            name: np.asarray(ops.convert_to_numpy(variable.value))
            for name, variable in self._named().items()
        }

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes over what `arrays` gave."""
        for name, variable in self._named().items():
            variable.assign(arrays[name])

    def _named(self) -> dict[str, Any]:
        parts = {
            "weights": self.variables,
            "optimizer": self.optimizer.variables,
            "frozen": self.frozen,
        }
        return {
            f"{part}/{i:04}": variable
            for part, variables in parts.items()
            for i, variable in enumerate(variables)
        }


def distinct_images(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each image of a batch once: padding repeats images, and so do games that wait.

    Args:
        images: Array of shape `(batch, time, ...)`.

    Returns:
        `(distinct, which)`: the images that differ, `(n, ...)`, with the first of them
        again until n is a multiple of an eighth of the batch (compiled programs have
        few shapes); and for each step its place among them, int32 of shape
        `(batch, time)`.
    """
    flat = images.reshape(-1, *images.shape[2:])
    places: dict[bytes, int] = {}
    which = [places.setdefault(image.tobytes(), len(places)) for image in flat]
    _, first = np.unique(which, return_index=True)
    unit = -(-len(flat) // 8)
    first = np.append(first, np.zeros(-len(first) % unit, int))
    return flat[first], np.array(which, np.int32).reshape(images.shape[:2])


def gradient_norm(gradients: list[Any]) -> Any:
    """The norm of all gradients together."""
    return ops.sqrt(sum(ops.sum(ops.square(g)) for g in gradients))


class LearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """Linear from 0 over `warmup_batches`, then constant, or linear to 0 at the end."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        size = recipe.batch_size * recipe.sequence_length
        self.batches = math.ceil(recipe.total_steps / size)

    def __call__(self, step: Any) -> Any:
        recipe = self.recipe
        step, rate = ops.cast(step, "float32"), recipe.learning_rate
        factor = ops.minimum((step + 1.0) / max(recipe.warmup_batches, 1), 1.0)
        if recipe.anneal_learning_rate:
            left = self.batches - recipe.warmup_batches
            rest = (self.batches - step) / max(left, 1)
            factor = ops.minimum(factor, ops.clip(rest, 0.0, 1.0))
        return rate * factor
