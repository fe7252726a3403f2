"""RATE, Decision Transformer and ELMUR from the code of RATE's and ELMUR's authors.

Two of its habits are in the numbers. A layer of RATE adds its input twice,
LN(2 z + W y), which is LN(z + W/2 y), but for the epsilon of the normalisation. Where
actions are padded, their embedding has a row more than there are actions, for none: our
kernel holds the differences from it, our bias holds it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from keras_agalite.convert._torch import (
    TorchEntry,
    feedforward,
    kernel,
    linear,
    norm,
    same,
)
from keras_agalite.models import ELMUR, RATE
from keras_agalite.models.action_heads import BoxHead
from keras_agalite.models.offline.valves import CrossAttention2Valve

# Parts that the authors' code has and does not use.
UNUSED = ("embed_timestep.", "embed_ln.", "dec_attn.layer_norm.", "pos_ff.layer_norm.")


def weight_entries(policy: Any, params: Mapping[str, Any]) -> Iterator[TorchEntry]:
    yield from linear(policy.observation_embedding, "state_encoder")
    if policy.return_embedding is not None:
        yield from linear(policy.return_embedding, "ret_emb")
    if policy.action_embedding is not None:
        yield from _actions(policy.action_embedding, params)
    yield from _head(policy.actor)
    yield same(policy.content_bias, "r_w_bias")
    yield same(policy.position_bias, "r_r_bias")
    if isinstance(policy, ELMUR):
        for i, block in enumerate(policy.blocks):
            yield from _elmur_layer(block, f"layers.{i}")
        return
    for i, block in enumerate(policy.blocks):
        yield from _rate_layer(block, f"layers.{i}")
    if isinstance(policy, RATE) and policy.memory_tokens:
        yield from _memory(policy)


def _actions(layer: Any, params: Mapping[str, Any]) -> Iterator[TorchEntry]:
    actions, width = layer.kernel.shape
    if "action_embeddings.weight" in params:  # continuous ones
        yield from linear(layer, "action_embeddings")
        return
    name = "action_embeddings.0.weight"
    has_none = len(params.get(name, ())) != actions
    shapes = [(actions + has_none, width)]

    def none(x: np.ndarray) -> np.ndarray:
        return np.sum(x[actions:], axis=0)

    yield TorchEntry(layer.kernel, [name], shapes, lambda x: x[:actions] - none(x))
    yield TorchEntry(layer.bias, [name], shapes, none)


def _head(actor: Any) -> Iterator[TorchEntry]:
    """The head, which has a bias for continuous actions alone."""
    layer, zeros = actor.output_layer, []
    if isinstance(actor, BoxHead):
        yield from linear(layer, "head.0")
        zeros.append(actor.log_std)
    else:
        yield kernel(layer.kernel, "head.weight")
        zeros.append(layer.bias)
    for weight in zeros:
        yield TorchEntry(weight, [], [], lambda w=weight: np.zeros(w.shape))


def _attention(layer: Any, name: str, scale: float = 1.0) -> Iterator[TorchEntry]:
    yield kernel(layer.projection.kernel, f"{name}.qkv_net.weight")
    yield kernel(layer.position.kernel, f"{name}.r_net.weight")
    yield kernel(layer.output_layer.kernel, f"{name}.o_net.weight", scale)


def _rate_layer(block: Any, name: str) -> Iterator[TorchEntry]:
    yield from _attention(block.attention, f"{name}.dec_attn", 0.5)
    yield from norm(block.attention_norm, f"{name}.layer_norm1")
    if block.feedforward is not None:
        yield from feedforward(block.feedforward, f"{name}.pos_ff.CoreNet")
        yield from norm(block.feedforward_norm, f"{name}.layer_norm2")


def _memory(policy: RATE) -> Iterator[TorchEntry]:
    number, width = policy.initial_memory.shape
    shapes = [(number, 1, width)]
    yield TorchEntry(policy.initial_memory, ["mem_tokens"], shapes, lambda x: x[:, 0])
    valve = policy.memory_valve
    if isinstance(valve, CrossAttention2Valve):  # the released code has no other
        layers = {
            "wq": valve.query,
            "wk": valve.key,
            "wv": valve.value,
            "dense": valve.output_layer,
        }
        for name, layer in layers.items():
            yield from linear(layer, f"mha_mem_to_mem.{name}")


def _elmur_layer(block: Any, name: str) -> Iterator[TorchEntry]:
    yield from _attention(block.attention, f"{name}.self_attention")
    for ours, theirs in ((block.read, "1"), (block.write, "2")):
        prefix = f"{name}.cross_attention{theirs}"
        yield from linear(ours.query, f"{prefix}.w_q")
        yield from linear(ours.key, f"{prefix}.w_k")
        yield from linear(ours.value, f"{prefix}.w_v")
        yield from linear(ours.output_layer, f"{prefix}.w_o")
    yield same(block.distance_bias, f"{name}.cross_rel_bias.bias.weight")
    yield from norm(block.attention_norm, f"{name}.self_attention.layer_norm")
    yield from norm(block.read_norm, f"{name}.token_norm_cross")
    yield from norm(block.write_norm, f"{name}.memory_norm_cross")
    for part, layer, layer_norm in (
        ("token_ffn", block.token_feedforward, block.token_norm),
        ("memory_ffn", block.slot_feedforward, block.slot_norm),
    ):
        yield from feedforward(layer, f"{name}.{part}.core_net")
        yield from norm(layer_norm, f"{name}.{part}.layer_norm")
