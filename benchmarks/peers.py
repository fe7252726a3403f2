"""Our memories beside those of memax: forward and backward, equal weights.

`python -m benchmarks.peers [--memories NAME ...] [--batch N] [--steps N] [--rounds N]`.
It runs on JAX and needs `pip install memax equinox`. Both forms are one layer of ours,
128 wide, with the same weights; in the other one, memax runs the memory over the
sequence: its `GRU`, or the semigroup and the scan of its `LRU`, `FFM` and `GDN`. The
dense layers around a semigroup are ours, since memax has others there. No speed is
printed of forms whose gradients differ.
"""

import argparse
import os
import statistics
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

os.environ["KERAS_BACKEND"] = "jax"

import equinox as eqx
import jax
import keras
from jax import numpy as jnp
from memax.equinox import scans
from memax.equinox.groups import Resettable
from memax.equinox.semigroups.ffm import FFMSemigroup
from memax.equinox.semigroups.gdn import GDNSemigroup
from memax.equinox.semigroups.lru import LRUSemigroup
from memax.equinox.set_actions import gru

from benchmarks.measure import check_equal, interleave, learn_work, median_ratio
from keras_agalite.layers import (
    GRU,
    LRU,
    FastForgetfulMemory,
    GatedDeltaNet,
    fast_forgetful_memory,
    gated_delta_net,
    lru,
)

WIDTH = 128  # of inputs and outputs, which are one in memax


class OurGRU(GRU):
    """As memax's: the reset gate stands before the product."""

    def make_cell(self, units: int, **kwargs: Any) -> Any:
        return keras.layers.GRUCell(units, reset_after=False, **kwargs)


class TheirGRU(OurGRU):
    def inner_loop(self, *, sequences: Any, start: Any, **keywords: Any) -> Any:
        cell = self.cell
        kernels, recurrent, bias = (
            jnp.split(jnp.asarray(w.value), 3, axis=-1)
            for w in (cell.kernel, cell.recurrent_kernel, cell.bias)
        )
        # memax's update gate says what is new, Keras's what is kept.
        kernels[0], recurrent[0], bias[0] = -kernels[0], -recurrent[0], -bias[0]
        theirs = gru.GRU(cell.units, key=jax.random.key(0))
        theirs = eqx.tree_at(
            lambda layer: [
                *(getattr(layer.algebra.algebra, f"W_{x}").weight for x in "zrh"),
                *(getattr(layer.algebra.algebra, f"U_{x}").weight for x in "zrh"),
                *(getattr(layer.algebra.algebra, f"W_{x}").bias for x in "zrh"),
            ],
            theirs,
            [*(x.T for x in (*kernels, *recurrent)), *bias],
        )
        run = lambda x, start: theirs(theirs.initialize_carry(), (x, start))  # noqa: E731
        _, outputs = jax.vmap(run)(sequences, start)
        return outputs[:, -1], outputs, [outputs[:, -1]]


def _scan(semigroup: Any, elements: Any, start: Any) -> Any:
    """memax's scan from the empty memory, over `(time, ...)`."""
    algebra = Resettable(semigroup)
    states, _ = scans.semigroup_scan(
        algebra, algebra.initialize_carry(), (elements, start)
    )
    return states


def _linear_scan(semigroup: Callable[..., Any], counted: bool) -> Callable[..., Any]:
    """`ops.linear_scan` of complex numbers, by a semigroup.

    Args:
        semigroup: Function of the shape of a state that makes it.
        counted: Whether its elements have counts of steps instead of decays.
    """

    def run(
        gates: Any, read: Any, carry: Any, xs: Any, start: Any, mask: Any, product: Any
    ) -> Any:
        (re, im), (x, y) = jax.vmap(gates, 1, 1)(xs)
        shape = carry[0].shape[1:]
        update = jnp.broadcast_to(jax.lax.complex(x, y), (*x.shape[:2], *shape))
        ticks, decay = jnp.ones(x.shape[1], jnp.int32), jax.lax.complex(re, im)[0]
        made = semigroup(shape)

        def row(update: Any, start: Any) -> Any:
            if counted:
                return _scan(made, (update, ticks), start)[0]
            return _scan(made, (decay, update), start)[1]

        states = jax.vmap(row)(update, start)
        parts = [states.real, states.imag]
        ys = jax.vmap(lambda carry: read(carry, None), 1, 1)(parts)
        return ys, [part[:, -1] for part in parts]

    return run


class TheirLRU(LRU):
    def inner_loop(self, *arguments: Any, **keywords: Any) -> Any:
        scan = _linear_scan(lambda shape: LRUSemigroup(*shape), counted=False)
        with mock.patch.object(lru, "linear_scan", scan):
            return super().inner_loop(*arguments, **keywords)


class TheirFFM(FastForgetfulMemory):
    def inner_loop(self, *arguments: Any, **keywords: Any) -> Any:
        [block] = self.cell.blocks

        def semigroup(shape: Any) -> Any:
            made = FFMSemigroup(*shape, True, key=None)
            weights = tuple(
                jnp.asarray(w.value) for w in (block.decay, block.frequency)
            )
            return eqx.tree_at(lambda x: x.params, made, weights)

        scan = _linear_scan(semigroup, counted=True)
        with mock.patch.object(fast_forgetful_memory, "linear_scan", scan):
            return super().inner_loop(*arguments, **keywords)


def _gated_delta_rule(
    query: Any,
    key: Any,
    value: Any,
    alpha: Any,
    beta: Any,
    state: Any,
    *,
    start: Any,
    mask: Any,
) -> Any:
    """`ops.gated_delta_rule` by memax's semigroup, which multiplies from the left."""
    semigroup = GDNSemigroup(key.shape[-1])

    def head(q: Any, k: Any, v: Any, alpha: Any, beta: Any, start: Any) -> Any:
        alpha, beta = alpha[:, None, None], beta[:, None, None]
        turned = k[:, :, None]
        decay = alpha * (jnp.eye(k.shape[-1]) - beta * turned * k[:, None, :])
        update = beta * turned * v[:, None, :]
        _, states = _scan(semigroup, (decay, update), start)
        return jnp.einsum("tkv,tk->tv", states, q), states[-1].T

    heads = jax.vmap(head, (1, 1, 1, 1, 1, None), (1, 0))
    return jax.vmap(heads)(query, key, value, alpha, beta, start)


class TheirGatedDeltaNet(GatedDeltaNet):
    def inner_loop(self, *arguments: Any, **keywords: Any) -> Any:
        name = "gated_delta_rule"
        with mock.patch.object(gated_delta_net, name, _gated_delta_rule):
            return super().inner_loop(*arguments, **keywords)


# Ours, memax's, arguments of both. memax's GDN has keys and values of one width.
PEERS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "gated_delta_net": (
        GatedDeltaNet,
        TheirGatedDeltaNet,
        {"num_layers": 1, "value_expansion": 1},
    ),
    "ffm": (FastForgetfulMemory, TheirFFM, {}),
    "lru": (LRU, TheirLRU, {"num_layers": 1}),
    "gru": (OurGRU, TheirGRU, {}),
}


def peers(
    memories: list[str], batch: int, steps: int, rounds: int
) -> Iterator[dict[str, Any]]:
    """Times each memory and its peer in interleaved rounds of one process.

    Raises:
        ValueError: If their gradients differ.
    """
    for name in memories:
        *classes, arguments = PEERS[name]
        layers = [make(return_state=True, **arguments) for make in classes]
        for layer in layers:
            layer.build((None, None, WIDTH))
        layers[1].set_weights(layers[0].get_weights())
        works = {
            form: learn_work(layer, batch, steps, features=WIDTH)
            for form, layer in zip(("ours", "memax"), layers, strict=True)
        }
        check_equal(works, steps, "memax")
        times = interleave(works, rounds, 1, lambda: None)
        yield {
            "memory": name,
            "weights": layers[0].count_params(),
            **{f"{form}_ms": statistics.median(ms) for form, ms in times.items()},
            "speedup": median_ratio(times["memax"], times["ours"]),
            **{f"{form}_temporaries": w.temporaries_bytes for form, w in works.items()},
        }


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.peers", description=__doc__)
    parser.add_argument("--memories", nargs="+", choices=tuple(PEERS), default=PEERS)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    print("memory           weights   ours ms  memax ms  times  temporaries, MiB")
    for row in peers(
        list(options.memories), options.batch, options.steps, options.rounds
    ):
        mib = [row[f"{form}_temporaries"] / 2**20 for form in ("ours", "memax")]
        print(
            f"{row['memory']:16} {row['weights']:7,} {row['ours_ms']:9.1f} "
            f"{row['memax_ms']:9.1f} {row['speedup']:6.2f}  "
            f"{mib[0]:.0f} / {mib[1]:.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
