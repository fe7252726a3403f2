"""How much memory a recipe needs at least, and how much there is."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import keras
import numpy as np
from keras import tree

from keras_agalite.models import Policy
from keras_agalite.models.spaces import leaves
from training.recipe import Recipe

FLOAT = 4
# Copies of a batch of experience that are alive at once: the replay buffer, what is
# read from it and what is made of that; in JAX what was collected and what is learnt;
# a batch of recordings, and its tensors.
COPIES = {"tf_agents": 3, "jax": 2, "offline": 2}


def check_ram(policy: Policy, recipe: Recipe) -> None:
    """Raises a ValueError if the recipe surely needs more memory than there is."""
    needed, free = footprint(policy, recipe), available_bytes()
    total = sum(needed.values())
    if free is not None and total > free:
        parts = ", ".join(f"{name} {_gib(size)}" for name, size in needed.items())
        raise ValueError(
            f"The recipe needs at least {_gib(total)} of memory ({parts}) and "
            f"{_gib(free)} are free. {_advice(recipe)}"
        )


def _advice(recipe: Recipe) -> str:
    length = f"sequence_length={recipe.sequence_length}"
    if recipe.is_offline:
        return (
            "Smaller batches or shorter sequences need less. Received: batch_size="
            f"{recipe.batch_size}, {length}"
        )
    return (
        "Fewer environments, shorter sequences or more minibatches need less. "
        f"Received: num_environments={recipe.num_environments}, {length}, "
        f"num_minibatches={recipe.num_minibatches}"
    )


def check_weights(number: int) -> None:
    """Raises a ValueError if so many weights surely need more memory than there is."""
    needed, free = 4 * number * FLOAT, available_bytes()
    if free is not None and needed > free:
        raise ValueError(
            f"The policy needs at least {_gib(needed)} of memory for its weights, "
            f"their gradient and Adam's moments, and {_gib(free)} are free. Received: "
            f"{number:,} weights"
        )


def footprint(policy: Policy, recipe: Recipe) -> dict[str, int]:
    """Bytes of what is large, a lower estimate.

    Returns:
        `rollout`: the experience; `states`: of the memories, at the start of the
        sequences and now; `activations`: what is kept of a minibatch for the
        gradient; `weights`: with their gradient and Adam's two moments; `order`: in
        which the sequences are learnt from.
    """
    rows = recipe.batch_size if recipe.is_offline else recipe.num_environments
    steps = rows * recipe.sequence_length
    frame = sum(_bytes(space) for _, space in leaves(policy.observation_space))
    # Logits or deviations, action, log-probability, value, reward and three flags.
    frame += _bytes(policy.action_space) + FLOAT * (policy.actor.noise_size + 4)
    state = sum(tree.flatten(policy.state_size)) * FLOAT
    weights = sum(math.prod(w.shape) for w in policy.trainable_variables) * FLOAT
    sequences = rows if recipe.is_offline else rows // recipe.num_minibatches
    order = recipe.num_epochs if recipe.engine == "jax" else 1
    return {
        "rollout": COPIES[recipe.engine] * steps * frame,
        "states": 2 * rows * state,
        "activations": sequences * activations(policy, recipe.sequence_length) * FLOAT,
        "weights": 4 * weights,
        "order": order * rows * FLOAT,
    }


def activations(policy: Policy, length: int) -> int:
    """Numbers that the layers of a policy give for a sequence, without running it.

    Frozen layers, which mostly keep nothing for a gradient, are left out. Of a memory
    that goes step by step only one step is counted.
    """

    def symbolic(x: Any) -> Any:
        return keras.KerasTensor((1, length, *x.shape[1:]), str(x.dtype))

    observation = policy.sample_observation(1, seed=0)
    one = tree.map_structure(symbolic, observation)
    with _outputs() as sizes:
        # Not a call, which wants a tensor also where a policy has no value.
        policy.compute_output_spec(one)
    return sum(sizes)


@contextlib.contextmanager
def _outputs() -> Iterator[list[int]]:
    """Sizes of the outputs of all layers that are called meanwhile."""
    sizes: list[int] = []
    call = keras.layers.Layer.__call__

    def recorded(self: Any, *arguments: Any, **keywords: Any) -> Any:
        result = call(self, *arguments, **keywords)
        first = tree.flatten(result)[0]  # a memory's new state is counted elsewhere
        is_frozen = self.weights and not self.trainable_weights
        if first is not None and not is_frozen:
            sizes.append(math.prod(first.shape))
        return result

    keras.layers.Layer.__call__ = recorded
    try:
        yield sizes
    finally:
        keras.layers.Layer.__call__ = call


def available_bytes() -> int | None:
    """Memory that is free for computing; None where the system does not say."""
    if keras.backend.backend() == "jax":
        import jax

        devices = jax.local_devices()
        if devices[0].platform != "cpu":
            stats = [device.memory_stats() or {} for device in devices]
            limits = [one.get("bytes_limit") for one in stats]
            return None if None in limits else sum(limits)
    found = [_meminfo(), _control_group()]
    return min((free for free in found if free is not None), default=None)


def _meminfo(path: Path = Path("/proc/meminfo")) -> int | None:
    lines = path.read_text().splitlines() if path.is_file() else []
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields["MemAvailable"].split()[0]) * 1024 if fields else None


def _control_group(folder: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What a container may still use."""
    limit, used = folder / "memory.max", folder / "memory.current"
    if not limit.is_file() or not used.is_file() or limit.read_text().strip() == "max":
        return None
    return int(limit.read_text()) - int(used.read_text())


def _bytes(space: gymnasium.Space[Any]) -> int:
    dtype = space.dtype or np.dtype(np.float32)
    return math.prod(space.shape or ()) * dtype.itemsize


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
