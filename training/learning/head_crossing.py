"""Crossed heads and skipped blocks, with which a GTrXL is trained from recordings.

In the manner of skip cross-head Transformer-XL (arXiv 2311.08123): at some steps of the
optimizer, in some blocks, each head of queries meets the keys, values and positions of
another head; and in a first phase of training some blocks are skipped. A policy acts
without either.

Both are here the same network with other weights, so that the layer knows nothing of
them: heads are crossed by exchanging columns of the projections of keys, values and
positions, and a block is skipped by shutting its gates. Gradients go through to the
weights themselves; a skipped block gets none.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_agalite import GTrXL
from training.recipe import Recipe

# Enough below any other summand that the sigmoid of a gate is zero.
SHUT = 1e9
DRAWS = 0x5C7  # no other noise of a step has the same seed


def head_order(order: Any, width: int, parts: int = 1) -> Any:
    """Places of columns, so that head h gets those of head `order[h]`.

    Args:
        order: Permutation of the heads, integer tensor of shape `(heads,)`.
        width: Number of columns of a part.
        parts: Number of parts side by side, each with all heads.

    Returns:
        Integer tensor of shape `(parts * width,)`.
    """
    heads = order.shape[0]
    each = width // heads
    one = ops.reshape(
        order[:, None] * each + ops.arange(each, dtype=order.dtype), (width,)
    )
    return ops.concatenate([one + i * width for i in range(parts)])


class HeadCrossing:
    """Draws what is crossed and skipped, and lets a policy run so.

    Args:
        policy: A policy whose memory is a `GTrXL`.
        recipe: The settings.

    Raises:
        ValueError: If the memory is another one.
    """

    def __init__(self, policy: Any, recipe: Recipe) -> None:
        memory = getattr(policy, "memory", None)
        if type(memory) is not GTrXL:
            raise ValueError(
                "`cross_heads` and `skip_blocks` must be 0 with another memory than "
                f"gtrxl. Received: memory={recipe.memory!r}, cross_heads="
                f"{recipe.cross_heads}, skip_blocks={recipe.skip_blocks}"
            )
        self.policy = policy
        self.recipe = recipe
        self.blocks = memory.cell.blocks
        self.num_heads = int(memory.cell_config["num_heads"])
        size = recipe.batch_size * recipe.sequence_length
        self.skipping_batches = recipe.skip_share * recipe.total_steps / size

    def draw(self, index: int) -> dict[str, np.ndarray]:
        """What happens in a batch, from the seed and its number.

        Block l of N (from 1) is skipped with the probability `skip_blocks` l / N, the
        last one never, and no block after the first `skip_share` of the batches.

        Returns:
            `order`, int32 of shape `(blocks, heads)`, and `skipped`, float32 of shape
            `(blocks,)`.
        """
        rng = np.random.default_rng([self.recipe.seed, DRAWS, index])
        number = len(self.blocks)
        order = np.tile(np.arange(self.num_heads), (number, 1))
        shuffled = rng.permuted(order, axis=1)
        crossed = rng.random(number) < self.recipe.cross_heads
        chance = self.recipe.skip_blocks * np.arange(1, number + 1) / number
        chance[-1] = 0.0
        skipped = rng.random(number) < chance
        skipped &= index < self.skipping_batches
        return {
            "order": np.where(crossed[:, None], shuffled, order).astype(np.int32),
            "skipped": skipped.astype(np.float32),
        }

    def scope(self, drawn: dict[str, Any]) -> keras.StatelessScope:
        """A scope in which the policy runs with what `draw` gave, as tensors."""
        values = {id(v): (v, ops.convert_to_tensor(v)) for v in self.policy.weights}
        for i, block in enumerate(self.blocks):
            order, skipped = drawn["order"][i], drawn["skipped"][i]
            for dense, parts in (
                (block.key_value_projection, 2),
                (block.position_projection, 1),
            ):
                columns = head_order(order, dense.units // parts, parts)
                for v in (dense.kernel, dense.bias):
                    values[id(v)] = (v, ops.take(values[id(v)][1], columns, axis=-1))
            for gate in (block.attention_gate, block.feedforward_gate):
                v = gate.bias
                values[id(v)] = (v, values[id(v)][1] + SHUT * skipped)
        return keras.StatelessScope(list(values.values()))
