"""Weights and states from the authors' implementations, and states back to them.

AGaLiTe, GaLiTe, GTrXL: names are the flat names of the flax parameters
(`"layer1/emb_layer/kernel"`) and states (`"layer_1/tilde_k"`) of AGaLiTe's authors.
States have a leading batch axis.

DecisionTransformer, RATE, ELMUR: names are those of the PyTorch `state_dict` of RATE's
and ELMUR's authors (`"layers.0.dec_attn.qkv_net.weight"`). What their code computes
besides is in docs/offline.md.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np
from keras import ops

from keras_agalite.convert import _agalite, _galite, _gtrxl, _rate
from keras_agalite.convert._entries import Entry, check_names
from keras_agalite.convert._torch import TorchEntry
from keras_agalite.layers import AGaLiTe, GaLiTe, GTrXL
from keras_agalite.models import ELMUR, RATE, DecisionTransformer

Memory = AGaLiTe | GaLiTe | GTrXL
OfflinePolicy = DecisionTransformer | RATE | ELMUR

_FORMS = {AGaLiTe: _agalite, GaLiTe: _galite, GTrXL: _gtrxl}


def load_official_weights(
    layer: Memory | OfflinePolicy, params: Mapping[str, Any]
) -> None:
    """Sets the weights of a layer, or of a policy, to official parameters.

    Args:
        layer: A built `AGaLiTe`, `GaLiTe` or `GTrXL`, or a `DecisionTransformer`,
            `RATE` or `ELMUR`, whose encoder has no weights.
        params: Mapping of names to arrays, for example
            `{"layer1/emb_layer/kernel": array, ...}`. Parts that the authors' PyTorch
            code does not use are passed over.

    Raises:
        ValueError: If the layer is not built, or an entry is missing, surplus or of
            the wrong shape. The layer is left as it was.
    """
    if isinstance(layer, OfflinePolicy):
        params = {
            name: array
            for name, array in params.items()
            if not any(part in name for part in _rate.UNUSED)
        }
    entries = list(_entries(layer, params))
    check_names(params, [name for entry in entries for name in entry.names])
    values = [entry.value(params) for entry in entries]
    for entry, value in zip(entries, values, strict=True):
        entry.weight.assign(value)


def official_weight_names(
    layer: Memory | OfflinePolicy, params: Mapping[str, Any] = MappingProxyType({})
) -> Iterator[tuple[Any, list[str]]]:
    """Yields each weight of a layer with the official names that it holds: of a memory,
    side by side along its last axis.

    Args:
        layer: As in `load_official_weights`.
        params: As there; of a policy, whose weights depend on what there is.
    """
    for entry in _entries(layer, params):
        yield entry.weight, entry.names


def state_from_official(layer: Memory, state: Mapping[str, Any]) -> list[Any]:
    """Turns an official state into the state list of a layer.

    AGaLiTe: oscillators that are equal in pairs are kept once, and the clock is kept
    modulo its period. GTrXL: the last entry of the memory, outputs of the last block,
    is left out, since nothing reads it.

    Args:
        layer: An `AGaLiTe`, `GaLiTe` or `GTrXL`.
        state: Mapping of names to arrays with a leading batch axis.
            AGaLiTe, for block i from 1: `layer_i/tilde_k` `(r, heads, eta *
            head_dim)`, `layer_i/tilde_v` `(r, heads, head_dim)`, `layer_i/s`
            `(heads, eta * head_dim)` and `layer_i/tick` `(1,)`.
            GaLiTe, for block i from 1: `layer_i/c` `(heads, head_dim, eta *
            head_dim)` and `layer_i/s` `(heads, eta * head_dim)`.
            GTrXL: `memory` `(num_layers + 1, memory_length, 1, hidden_dim)` and
            `mask` `(memory_length,)`, True where hidden.

    Returns:
        List of `num_layers` tensors `(batch, size)`.

    Raises:
        ValueError: If an entry is missing, surplus, of the wrong shape, or if the
            oscillators of a pair differ, or if something hidden comes after
            something that is seen.
    """
    form = _form(layer)
    shapes = form.state_shapes(layer)
    check_names(state, list(shapes))
    batch = np.shape(state[next(iter(shapes))])[:1]
    arrays = {}
    for name, shape in shapes.items():
        arrays[name] = np.asarray(state[name])
        if arrays[name].shape != (*batch, *shape):
            raise ValueError(
                f"Expected {name} of shape {(*batch, *shape)}. "
                f"Received: {name} of shape {arrays[name].shape}"
            )
    return [
        ops.convert_to_tensor(x, layer.state_dtype)
        for x in form.state_from_official(layer, arrays)
    ]


def state_to_official(layer: Memory, state: list[Any]) -> dict[str, np.ndarray]:
    """The inverse of `state_from_official`, as NumPy arrays.

    AGaLiTe: all r oscillators, and the clock modulo the largest multiple of its
    period below 2**24. GTrXL: the last entry of the memory, which nothing reads, is
    zeros.
    """
    form = _form(layer)
    sizes = [tuple(s.shape)[-1:] for s in state]
    if sizes != [(size,) for size in layer.state_size]:
        raise ValueError(
            "Expected a state of one tensor (batch, size) for each of the sizes "
            f"{layer.state_size}. Received: shapes {[tuple(s.shape) for s in state]}"
        )
    return form.state_to_official(layer, [ops.convert_to_numpy(s) for s in state])


def _form(layer: Any) -> ModuleType:
    for cls, form in _FORMS.items():
        if isinstance(layer, cls):
            return form
    raise ValueError(
        "Expected an AGaLiTe, GaLiTe or GTrXL layer (or, for weights, a "
        "DecisionTransformer, RATE or ELMUR). "
        f"Received: layer={type(layer).__name__}"
    )


def _entries(
    layer: Memory | OfflinePolicy, params: Mapping[str, Any]
) -> Iterator[Entry | TorchEntry]:
    if isinstance(layer, OfflinePolicy):
        yield from _rate.weight_entries(layer, params)
        return
    form = _form(layer)
    if not layer.built:
        raise ValueError(
            "Expected a built layer: call it once, or layer.build((None, None, "
            f"features)). Received: layer={layer.name!r}, which is not built"
        )
    yield from form.weight_entries(layer)
