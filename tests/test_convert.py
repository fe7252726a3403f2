import json
from pathlib import Path

import numpy as np
import pytest

from keras_agalite import convert
from keras_agalite.layers import AGaLiTe, GRUGate
from tests.helpers import gradients, to_numpy, traced

REFERENCES = sorted((Path(__file__).parent / "reference").glob("agalite*.npz"))


class Reference:
    """Numbers that the official code wrote, and our layer with its weights."""

    def __init__(self, path):
        self.arrays = np.load(path)
        config = json.loads(str(self.arrays["config"]))
        self.layer = AGaLiTe(
            config["n_layers"],
            config["d_model"],
            config["n_heads"],
            config["d_head"],
            config["d_ffc"],
            config["eta"],
            config["r"],
            return_state=True,
        )
        self.layer.build(self.arrays["inputs"].shape)
        convert.load_official_weights(self.layer, self["params"])

    def __getitem__(self, group):
        prefix = f"{group}/"
        return {
            name.removeprefix(prefix): array
            for name, array in self.arrays.items()
            if name.startswith(prefix)
        }


@pytest.fixture(scope="module", params=REFERENCES, ids=lambda path: path.stem)
def reference(request):
    return Reference(request.param)


@pytest.fixture(scope="module")
def small():
    return Reference(
        next(p for p in REFERENCES if p.stem == "agalite_r2_carried_state")
    )


def test_there_are_six_references():
    assert len(REFERENCES) == 6


def test_matches_the_official_code(reference):
    layer, arrays = reference.layer, reference.arrays
    state = convert.state_from_official(layer, reference["state_in"])
    start = arrays["starts"].astype(bool)

    (y, *final), (grad_inputs, *grads) = gradients(
        traced(lambda x: layer(x, initial_state=state, start=start)),
        [arrays["inputs"]],
        layer.trainable_weights,
        lambda outputs: [arrays["cotangent"], *(0.0 for _ in outputs[1:])],
    )

    np.testing.assert_allclose(y, arrays["outputs"], atol=1e-5)
    received = convert.state_to_official(layer, final)
    expected = reference["state_out"]
    assert received.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(received[name], array, atol=1e-5, err_msg=name)
    assert distance(grad_inputs, arrays["grad_inputs"]) < 1e-4
    expected = reference["grad_params"]
    by_weight = dict(zip(map(id, layer.trainable_weights), grads, strict=True))
    for weight, names in convert.official_weight_names(layer):
        parts = np.split(by_weight[id(weight)], len(names), axis=-1)
        for name, part in zip(names, parts, strict=True):
            assert distance(part, expected.pop(name)) < 1e-4, name
    assert not expected


def distance(received, expected):
    return np.linalg.norm(received - expected) / np.linalg.norm(expected)


def spoiled(mapping, name, change):
    """A copy in which the entry is missing, surplus or of another shape."""
    mapping = dict(mapping)
    if change == "missing":
        del mapping[name]
    elif change == "surplus":
        mapping[f"{name}_2"] = mapping[name]
    else:
        mapping[name] = mapping[name][..., :-1]
    return mapping


each_change = pytest.mark.parametrize("change", ["missing", "surplus", "shape"])


@each_change
@pytest.mark.parametrize(
    "name", ["layer1/emb_layer/kernel", "layer2/GRUGatingUnit_1/Wz/kernel"]
)
def test_a_wrong_parameter_is_named_and_nothing_is_loaded(small, name, change):
    before = small.layer.get_weights()
    params = {key: array + 1 for key, array in small["params"].items()}

    with pytest.raises(ValueError, match=rf"Received: .*{name}"):
        convert.load_official_weights(small.layer, spoiled(params, name, change))

    for weight, array in zip(small.layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, array)


@each_change
@pytest.mark.parametrize("name", ["layer_1/tilde_k", "layer_2/tick"])
def test_a_wrong_state_is_named(small, name, change):
    state = spoiled(small["state_in"], name, change)

    with pytest.raises(ValueError, match=rf"Received: .*{name}"):
        convert.state_from_official(small.layer, state)


def test_a_layer_that_is_not_built_is_refused(small):
    layer = AGaLiTe(2, name="memory")
    with pytest.raises(ValueError, match=r"built layer.*Received: layer='memory'"):
        convert.load_official_weights(layer, small["params"])


def test_another_layer_is_refused(small):
    with pytest.raises(ValueError, match="Received: layer=GRUGate"):
        convert.load_official_weights(GRUGate(), small["params"])


def test_state_round_trip(reference):
    layer, state = reference.layer, reference["state_out"]

    ours = convert.state_from_official(layer, state)
    official = convert.state_to_official(layer, ours)
    again = convert.state_from_official(layer, official)

    assert [tuple(s.shape)[1] for s in ours] == layer.state_size
    assert official.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_allclose(official[name], array, atol=2e-5, err_msg=name)
    for first, second in zip(to_numpy(ours), to_numpy(again), strict=True):
        np.testing.assert_array_equal(first, second)


def test_clock_of_a_long_run_comes_back_modulo_its_period(small):
    state = small["state_in"]
    for i in (1, 2):
        state[f"layer_{i}/tick"] = np.full_like(state[f"layer_{i}/tick"], 2.0**24 - 1)

    official = convert.state_to_official(
        small.layer, convert.state_from_official(small.layer, state)
    )

    # With r = 2 cosines repeat every 2 steps.
    assert np.all(official["layer_1/tick"] % 2 == 1)


@pytest.mark.parametrize("part", ["tilde_k", "tilde_v"])
def test_unequal_oscillators_are_refused(small, part):
    state = small["state_out"]
    name = f"layer_2/{part}"
    state[name] = state[name].copy()
    state[name][:, 0] += 1.0

    with pytest.raises(ValueError, match=f"Received: {name}"):
        convert.state_from_official(small.layer, state)
