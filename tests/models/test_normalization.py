"""Observations brought to mean 0 and deviation 1, by weights of the policy."""

import functools
import json

import keras
import numpy as np
import pytest
from gymnasium import spaces
from keras import ops, tree

from keras_agalite.models import MemoryPolicy, MLPEncoder, ResNetEncoder
from keras_agalite.models.normalization import Moments, update_moments
from tests.helpers import compiled, to_numpy
from tests.models.conftest import IMAGE, UNBOUNDED, randomise
from tests.models.conftest import make_policy as make_plain_policy

MIXED = spaces.Dict(
    {
        "a": spaces.Tuple([spaces.Discrete(3), spaces.Box(shape=(2, 2), **UNBOUNDED)]),
        "b": spaces.Box(-1.0, 1.0, (3,), np.float64),
        "image": IMAGE,
        "float_image": spaces.Box(0.0, 1.0, (3, 4, 2), np.float32),
        "action_mask": spaces.Box(0.0, 1.0, (3,), np.float32),
    }
)


make_policy = functools.partial(make_plain_policy, "agalite", normalize=True)


def sample(space, count, seed=0):
    space.seed(seed)
    rows = [space.sample() for _ in range(count)]
    return tree.map_structure(lambda *x: np.stack(x), *rows)


def set_moments(policy, mean, deviation, count=5.0):
    normalizer = policy.normalizer
    normalizer.count.assign(count)
    normalizer.mean.assign(mean)
    normalizer.variance.assign(np.square(deviation))


def test_moments_of_batches_are_those_of_all_rows():
    random = np.random.default_rng(0)
    rows = random.normal([1000.0, 0.0, -3.0], [0.5, 20.0, 0.0], (60, 3))
    rows = rows.astype(np.float32)
    mask = random.random(60) < 0.6
    mask[20:30] = False  # a batch of which nothing counts
    garbage = np.where(mask[:, None], rows, np.nan)
    moments = Moments(np.float32(0), *np.zeros((2, 3), np.float32))
    update = compiled(lambda *x: tuple(update_moments(Moments(*x[:3]), *x[3:])))

    for begin in range(0, 60, 10):
        batch = slice(begin, begin + 10)
        moments = Moments(*to_numpy(update(*moments, garbage[batch], mask[batch])))

    assert moments.count == mask.sum()
    np.testing.assert_allclose(moments.mean, rows[mask].mean(0), 1e-5, 1e-5)
    np.testing.assert_allclose(moments.variance, rows[mask].var(0), 1e-3, 1e-5)


def test_floats_are_normalised_and_all_else_passes():
    policy = make_policy(MIXED, encoder=ResNetEncoder, filters=(2,), units=4)
    observation, mask = sample(MIXED, 40), np.arange(40) % 3 > 0
    observation["b"][0] = 500.0, -500.0, 0.0

    policy.normalizer.update(
        tree.map_structure(ops.convert_to_tensor, observation), mask
    )
    received = to_numpy(policy.normalizer(observation))

    assert float(policy.normalizer.count) == mask.sum()
    for path in (("a", 1), ("b",)):
        old, new = observation, received
        for key in path:
            old, new = old[key], new[key]
        expected = (old - old[mask].mean(0)) / old[mask].std(0)
        np.testing.assert_allclose(new, np.clip(expected, -10, 10), 1e-4, 1e-4)
    assert received["b"].min() == -10.0
    for name in ("image", "float_image", "action_mask"):
        np.testing.assert_array_equal(received[name], observation[name])
    np.testing.assert_array_equal(received["a"][0], observation["a"][0])


def test_before_anything_was_counted_nothing_changes():
    policy = make_policy()
    plain = make_policy(normalize=False)
    observation = np.array([[50.0, -0.5, 1e6]], np.float32)

    np.testing.assert_array_equal(to_numpy(policy.normalizer(observation)), observation)
    assert policy.count_params() == plain.count_params() + 2 * 3 + 1
    assert len(policy.trainable_variables) == len(plain.trainable_variables)


def test_a_preset_acts_as_a_plain_policy_on_normalised_observations(tmp_path):
    policy, plain = make_policy(), make_policy(normalize=False)
    randomise(policy)
    mean, deviation = np.array([5.0, -2.0, 0.0]), np.array([3.0, 0.1, 1.0])
    set_moments(policy, mean, deviation)
    for a, b in zip(plain.trainable_variables, policy.trainable_variables, strict=True):
        a.assign(b)
    policy.save_to_preset(tmp_path)
    copy = MemoryPolicy.from_preset(tmp_path)
    random, states = np.random.default_rng(0), [None, None]

    for _ in range(3):
        raw = random.normal(mean, deviation, (2, 3)).astype(np.float32)
        expected = plain.step((raw - mean) / deviation, states[0])
        received = copy.step(raw, states[1])
        states = [expected[-1], received[-1]]
        for a, b in zip(received[:2], expected[:2], strict=True):
            np.testing.assert_allclose(a, b, 1e-4, 1e-5)

    # Acting counted nothing in.
    assert float(copy.normalizer.count) == 5.0
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["normalize_observations"] is True
    plain.save_to_preset(tmp_path / "plain")
    text = (tmp_path / "plain" / "config.json").read_text()
    assert "normalize" not in text


def test_a_policy_survives_keras_config():
    policy = make_policy()
    set_moments(policy, [1.0, 1.0, 1.0], [2.0, 2.0, 2.0])
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(policy)))

    copy = keras.saving.deserialize_keras_object(config)
    copy.set_weights(policy.get_weights())

    np.testing.assert_array_equal(
        to_numpy(copy.normalizer(np.ones((1, 3)))), np.zeros((1, 3))
    )


def test_it_stays_float32_under_mixed_precision(tmp_path):
    policy = make_policy()
    policy.save_to_preset(tmp_path)

    copy = MemoryPolicy.from_preset(tmp_path, dtype="mixed_bfloat16")

    assert copy.encoder.compute_dtype == "bfloat16"
    assert copy.normalizer.compute_dtype == copy.normalizer.mean.dtype == "float32"
    logits, *_ = copy.step(np.zeros((1, 3), np.float32))
    assert np.isfinite(logits).all()


@pytest.mark.once
@pytest.mark.parametrize(
    "space", [IMAGE, spaces.Discrete(3), spaces.Box(0, 9, (2,), np.int32)], ids=str
)
def test_an_observation_without_floats_is_refused(space):
    encoder = ResNetEncoder if space is IMAGE else MLPEncoder
    with pytest.raises(ValueError, match="a Box of floats that is no image"):
        make_policy(space, encoder=encoder)


@pytest.mark.once
@pytest.mark.parametrize("value", [1, "true", None])
def test_a_preset_says_true_or_false(tmp_path, value):
    make_policy().save_to_preset(tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "normalize_observations": value}))

    with pytest.raises(ValueError, match=r"true or false. Received: normalize_obs"):
        MemoryPolicy.from_preset(tmp_path)
    file.write_text(json.dumps({**config, "normalize_observations": False}))
    with pytest.raises(ValueError, match="weights that the configuration asks for"):
        MemoryPolicy.from_preset(tmp_path)
