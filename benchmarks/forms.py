"""The forms that are compared, each as a memory layer.

`ours` and `textbook` compute the same thing with the same weights; `no_recurrence` is
the same network with the recurrence taken out, the floor that its matrix products
set; the others are other memories.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_agalite.layers import AGaLiTe, AGaLiTeCell
from keras_agalite.layers.agalite import AGaLiTeBlock
from keras_agalite.layers.catalog import MEMORIES
from training.release.tables import FEATURES, comparison_config


def _scan(decay: Any, update: Any, initial: Any) -> Any:
    """All states of h_t = a_t h_(t-1) + x_t, by doubling: the textbook's scan.

    The first state stands in front, and one decay may serve several states.
    """
    update = ops.concatenate([initial[:, None], update], axis=1)
    decay = ops.concatenate([ops.ones_like(decay[:, :1]), decay], axis=1)
    if keras.backend.backend() == "jax":
        combine = lambda x, y: (x[0] * y[0], y[0] * x[1] + y[1])  # noqa: E731
        return ops.associative_scan(combine, (decay, update), axis=1)[1][:, 1:]
    # On TensorFlow keras.ops.associative_scan takes minutes to trace.
    span, length = 1, update.shape[1]
    while span < length:
        update = ops.concatenate(
            [update[:, :span], update[:, span:] + decay[:, span:] * update[:, :-span]],
            axis=1,
        )
        decay = ops.concatenate(
            [decay[:, :span], decay[:, span:] * decay[:, :-span]], axis=1
        )
        span *= 2
    return update[:, 1:]


def textbook_attention(
    query: Any,
    key: Any,
    value: Any,
    beta: Any,
    gamma: Any,
    expansions: Any,
    state: Any,
    *,
    r: int,
    start: Any = None,
    **unused: Any,
) -> tuple[Any, Any]:
    """The paper's equations as they stand: r oscillators, every state kept."""
    p_q, p_k, p_g = expansions
    length, heads, head_dim = value.shape[1:]
    wide = heads * p_q.shape[-1] * head_dim
    sizes = np.cumsum([r * wide, r * heads * head_dim, wide])

    def outer(p: Any, x: Any) -> Any:
        product = p[..., None] * x[..., None, :]
        shape = ops.shape(product)
        return ops.reshape(product, (*shape[:3], wide // heads))

    tilde_k = ops.reshape(state[:, : sizes[0]], (-1, r, heads, wide // heads))
    tilde_v = ops.reshape(state[:, sizes[0] : sizes[1]], (-1, r, heads, head_dim))
    s = ops.reshape(state[:, sizes[1] : sizes[2]], (-1, heads, wide // heads))
    tick = state[:, -1:] + 1.0 + ops.arange(1, length + 1, dtype="float32")
    omega = ops.convert_to_tensor(np.linspace(-np.pi, np.pi, r), "float32")
    cos = ops.cos(tick[:, :, None] * omega)[..., None, None]
    query, key, gamma = outer(p_q, query), outer(p_k, key), outer(p_g, gamma)
    keep = 1.0
    if start is not None:
        keep = 1.0 - ops.cast(start, "float32")[:, :, None, None]
    key_decay, value_decay = (1.0 - gamma) * keep, (1.0 - beta) * keep
    new_key = gamma * key
    keys = _scan(key_decay[:, :, None], cos * new_key[:, :, None], tilde_k)
    values = _scan(value_decay[:, :, None], cos * (beta * value)[:, :, None], tilde_v)
    norms = _scan(key_decay, new_key, s)
    read = ops.einsum("btrhf,bthf->btrh", keys, query)
    norm = ops.einsum("bthf,bthf->bth", norms, query)
    y = ops.sum(values * read[..., None], axis=2)
    state = ops.concatenate(
        [
            ops.reshape(keys[:, -1], (-1, int(sizes[0]))),
            ops.reshape(values[:, -1], (-1, int(sizes[1] - sizes[0]))),
            ops.reshape(norms[:, -1], (-1, wide)),
            state[:, -1:] + length,
        ],
        axis=1,
    )
    return y / (2.0 * r * norm + 1e-5)[..., None], state


def no_recurrence(
    query: Any,
    key: Any,
    value: Any,
    beta: Any,
    gamma: Any,
    expansions: Any,
    state: Any,
    **unused: Any,
) -> tuple[Any, Any]:
    """All projections are used, and nothing is carried."""
    mixed = sum(ops.sum(p, axis=-1, keepdims=True) for p in expansions)
    return value * beta + query * key * gamma * mixed, state


class TextbookBlock(AGaLiTeBlock):
    attention = staticmethod(textbook_attention)

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        a = arguments
        wide = a["num_heads"] * a["eta"] * a["head_dim"]
        self.state_size = (a["r"] + 1) * wide + a["r"] * a["num_heads"] * a["head_dim"]
        self.state_size += 1


class NoRecurrenceBlock(AGaLiTeBlock):
    attention = staticmethod(no_recurrence)

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.state_size = 1


def _with_blocks(block: type[AGaLiTeBlock]) -> type[AGaLiTe]:
    """AGaLiTe made of other blocks."""

    class Cell(AGaLiTeCell):
        block_class = block

    class Memory(AGaLiTe):
        cell_class = Cell

    return Memory


def make_form(name: str, **arguments: Any) -> Any:
    """A built memory layer that returns sequences and states.

    Args:
        name: One of `FORMS`.
        **arguments: Arguments of `AGaLiTe`; the paper's by default. The sizes of the
            other memories are those of docs/memories.md.
    """
    if name in MEMORIES:
        config = comparison_config(name)
        layer = MEMORIES[name](**config, return_sequences=True, return_state=True)
    else:
        layer = _AGALITES[name](return_state=True, **arguments)
    layer.build((None, None, FEATURES))
    layer.built = True
    for weight in layer.weights:
        # A new network's normalisers are nearly zero after a start, and its float32
        # gradients then differ in the third digit between any two forms, which agree
        # to 1e-14 in float64. Keys and queries that are open keep away from that.
        if weight.path.endswith(("projection/bias", "expansion/bias")):
            weight.assign(np.full(weight.shape, 2.0))
    return layer


_AGALITES = {
    "ours": AGaLiTe,
    "textbook": _with_blocks(TextbookBlock),
    "no_recurrence": _with_blocks(NoRecurrenceBlock),
}
FORMS = (*_AGALITES, *(name for name in MEMORIES if name != "agalite"))
