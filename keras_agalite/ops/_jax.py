"""A scan over time for JAX: `jax.lax.scan` over chunks that are recomputed."""

from typing import Any

import jax
import jax.numpy as jnp


def scan(step: Any, carry: Any, xs: Any, chunk_size: int) -> tuple[Any, Any]:
    """See `keras_agalite.ops._backend.scan`; here time is the first axis.

    Inside a chunk each step is recomputed once more, fused with its own gradient:
    writing down what it computed costs a CPU more than computing it again.
    """
    # A loop keeps XLA from merging the two computations; no other fence is needed.
    step = jax.checkpoint(step, prevent_cse=False)

    def run(carry: Any, xs: Any) -> tuple[Any, Any]:
        return jax.lax.scan(step, carry, xs)

    length = xs[0].shape[0]
    whole = length - length % chunk_size
    outputs = []
    if whole:
        chunks = [
            x[:whole].reshape(whole // chunk_size, chunk_size, *x.shape[1:]) for x in xs
        ]
        carry, ys = jax.lax.scan(jax.checkpoint(run, prevent_cse=False), carry, chunks)
        outputs.append(ys.reshape(whole, *ys.shape[2:]))
    if whole < length:
        carry, ys = run(carry, [x[whole:] for x in xs])
        outputs.append(ys)
    return jnp.concatenate(outputs), carry
