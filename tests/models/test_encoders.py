import json

import keras
import numpy as np
import pytest
from gymnasium import spaces
from keras import tree

from keras_agalite.layers.initializers import without_draws
from keras_agalite.models import (
    ConvEncoder,
    GridEncoder,
    MLPEncoder,
    ResNetEncoder,
)
from tests.helpers import compiled, to_numpy
from tests.models.conftest import (
    IMAGE,
    NESTED,
    UNBOUNDED,
    VECTOR,
    every_observation_space,
    randomise,
)

LARGE_IMAGE = spaces.Box(0, 255, (36, 40, 1), np.uint8)


def sample(space, count=4):
    space.seed(0)
    rows = [space.sample() for _ in range(count)]
    return tree.map_structure(lambda *x: np.stack(x), *rows)


def features(space, observation):
    """What gymnasium's `flatten` gives for each row, uint8 divided by 255."""
    if isinstance(space, spaces.Dict):
        parts = [features(space[name], observation[name]) for name in sorted(space)]
        return np.concatenate(parts, -1)
    if isinstance(space, spaces.Tuple):
        parts = [features(*pair) for pair in zip(space, observation, strict=True)]
        return np.concatenate(parts, -1)
    scale = 255 if space.dtype == np.uint8 else 1
    return np.stack([spaces.flatten(space, row) / scale for row in observation])


def convolve(x, layer, stride=1, pad=0):
    kernel, bias = to_numpy([w.value for w in layer.weights])
    size = kernel.shape[0]
    x = np.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    rows, columns = ((n - size) // stride + 1 for n in x.shape[1:3])
    y = np.zeros((len(x), rows, columns, kernel.shape[-1])) + bias
    for i in range(size):
        for j in range(size):
            part = x[:, i::stride, j::stride][:, :rows, :columns]
            y += part @ kernel[i, j]
    return y


def max_pool(x):
    """Windows of 3, stride 2; the odd row of padding comes after the image."""
    before = [n % 2 for n in x.shape[1:3]]
    x = np.pad(x, [(0, 0), *((n, 1) for n in before), (0, 0)], constant_values=-np.inf)
    rows, columns = ((n - 3) // 2 + 1 for n in x.shape[1:3])
    windows = [x[:, i::2, j::2][:, :rows, :columns] for i in range(3) for j in range(3)]
    return np.max(windows, axis=0)


def dense_relu(x, layer):
    kernel, bias = to_numpy([w.value for w in layer.weights])
    return np.maximum(x.reshape(len(x), -1) @ kernel + bias, 0)


@every_observation_space
def test_without_layers_the_features_are_the_flattened_observation(space):
    encoder = MLPEncoder(space)
    observation = sample(space)

    received = to_numpy(encoder(observation))

    assert encoder.output_size == received.shape[1] == spaces.flatdim(space)
    np.testing.assert_allclose(received, features(space, observation), rtol=1e-6)


def test_mlp_is_dense_layers_over_the_features():
    encoder = MLPEncoder(NESTED, units=(5, 4), activation="relu")
    observation = sample(NESTED)
    encoder.build()
    randomise(encoder)

    received = to_numpy(compiled(encoder)(observation))

    expected = features(NESTED, observation)
    for layer in encoder.layers:
        expected = dense_relu(expected, layer)
    assert encoder.output_size == 4
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5)


def test_parts_are_sorted_by_name_however_the_space_orders_them():
    space = spaces.Dict(
        [("b", spaces.Box(shape=(1,), **UNBOUNDED)), ("a", spaces.Discrete(2))]
    )

    received = MLPEncoder(space)({"b": np.array([[7.0]]), "a": np.array([1])})

    np.testing.assert_array_equal(to_numpy(received), [[0.0, 1.0, 7.0]])


@pytest.mark.parametrize(
    "place",
    [spaces.Discrete(300, start=-1), spaces.Box(0, 255, (1,), np.uint8)],
    ids=["discrete", "box"],
)
def test_a_place_is_handed_on_as_it_is_and_last(place):
    space = spaces.Dict({"image": IMAGE, "place_id": place, "z": VECTOR})
    observation = sample(space)
    without = {name: x for name, x in observation.items() if name != "place_id"}
    for make in (MLPEncoder, lambda space: ResNetEncoder(space, 4, (4,))):
        encoder = make(space)
        plain = make(spaces.Dict({"image": IMAGE, "z": VECTOR}))
        encoder.build()
        plain.build()
        plain.set_weights(encoder.get_weights())

        received = to_numpy(compiled(lambda x, e=encoder: e(x))(observation))

        assert received.shape[1] == encoder.output_size == plain.output_size + 1
        expected = to_numpy(compiled(lambda x, e=plain: e(x))(without))
        np.testing.assert_allclose(received[:, :-1], expected, atol=1e-6)
        np.testing.assert_array_equal(
            received[:, -1], observation["place_id"].reshape(-1)
        )
    mlp = MLPEncoder(space, units=(5,))
    assert mlp.output_size == MLPEncoder.count_features(space, (5,), "tanh") == 6


@pytest.mark.once
@pytest.mark.parametrize("place", [VECTOR, spaces.MultiDiscrete([2, 2])])
def test_a_place_is_one_number(place):
    with pytest.raises(ValueError, match=r"`place_id` that is one number.*Received"):
        MLPEncoder(spaces.Dict({"place_id": place, "x": VECTOR}))


def test_conv_is_three_convolutions_and_a_dense_layer():
    encoder = ConvEncoder(LARGE_IMAGE, units=5)
    image = sample(LARGE_IMAGE)
    encoder.build()
    randomise(encoder, scale=0.1)

    received = to_numpy(compiled(encoder)(image))

    x = image / 255
    for layer, stride in zip(encoder.convolutions, (4, 2, 1), strict=True):
        x = np.maximum(convolve(x, layer, stride), 0)
    expected = dense_relu(x, encoder.output_layer)
    assert encoder.output_size == 5
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-4)


def test_resnet_is_sections_of_pooling_and_two_residual_blocks():
    encoder = ResNetEncoder(IMAGE, units=5, filters=(2, 3))
    image = sample(IMAGE)
    encoder.build()
    randomise(encoder)

    received = to_numpy(compiled(encoder)(image))

    x = image / 255
    residuals = iter(encoder.residuals)
    for entry in encoder.entries:
        x = max_pool(convolve(x, entry, pad=1))
        for _ in range(2):
            y = convolve(np.maximum(x, 0), next(residuals), pad=1)
            x = x + convolve(np.maximum(y, 0), next(residuals), pad=1)
    expected = dense_relu(np.maximum(x, 0), encoder.output_layer)
    assert next(residuals, None) is None
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-4)


GRID = spaces.Box(0, 255, (3, 4, 2), np.uint8)


def test_grid_is_a_dense_layer_over_categories():
    space = spaces.Dict({"grid": GRID, "a": VECTOR})
    encoder = GridEncoder(space, categories=(5, 3), units=4)
    observation = sample(space)
    observation["grid"] %= 6  # some beyond the last category
    encoder.build()
    randomise(encoder)

    received = to_numpy(compiled(encoder)(observation))

    grid = np.minimum(observation["grid"], [4, 2])
    codes = np.concatenate([np.eye(5)[grid[..., 0]], np.eye(3)[grid[..., 1]]], -1)
    expected = dense_relu(codes, encoder.output_layer)
    assert encoder.output_size == received.shape[1] == 4 + 3
    np.testing.assert_allclose(received[:, :4], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(received[:, 4:], observation["a"], rtol=1e-6)


@pytest.mark.once
@pytest.mark.parametrize(
    "space", [VECTOR, IMAGE, spaces.Dict({"a": GRID, "b": GRID})], ids=str
)
def test_grid_wants_one_grid_with_a_channel_a_category(space):
    with pytest.raises(ValueError, match="GridEncoder expects"):
        GridEncoder(space, categories=(5, 3))


@pytest.mark.parametrize(
    ("encoder", "size", "flat_size", "weights"),
    [(ConvEncoder, 84, 7 * 7 * 64, 8), (ResNetEncoder, 64, 8 * 8 * 32, 32)],
)
def test_the_published_sizes(encoder, size, flat_size, weights):
    encoder = encoder(spaces.Box(0, 255, (size, size, 3), np.uint8))

    with without_draws():
        encoder.build()

    assert encoder.output_layer.kernel.shape == (flat_size, 256)
    assert len(encoder.weights) == weights


@pytest.mark.parametrize(
    ("encoder", "space", "config"),
    [
        (MLPEncoder, NESTED, {"units": [], "activation": "tanh"}),
        (MLPEncoder, NESTED, {"units": [4, 3], "activation": "tanh"}),
        (GridEncoder, NESTED, {"categories": [5, 3, 2], "units": 4}),
        (ConvEncoder, LARGE_IMAGE, {"units": 4}),
        (ResNetEncoder, NESTED, {"units": 4, "filters": [2, 3]}),
    ],
)
def test_weights_are_counted_before_they_exist(encoder, space, config):
    built = encoder(space, **config)
    built.build()

    assert encoder.count_weights(space, **config) == built.count_params()
    assert encoder.count_features(space, **config) == built.output_size


def test_other_parts_follow_the_image():
    encoder = ResNetEncoder(NESTED, units=5, filters=(2,))
    encoder.build()
    observation = sample(NESTED)

    received = to_numpy(compiled(encoder)(observation))

    others = [
        observation["previous_action"],
        observation["previous_reward"],
        np.eye(4)[observation["view"]["compass"] - 1],
    ]
    assert encoder.output_size == received.shape[1] == 5 + 3 + 1 + 4
    np.testing.assert_allclose(received[:, 5:], np.concatenate(others, -1), rtol=1e-6)


@pytest.mark.parametrize(
    "encoder",
    [
        lambda **k: MLPEncoder(NESTED, units=(4,), activation="relu", **k),
        lambda **k: GridEncoder(NESTED, categories=(5, 3, 2), units=4, **k),
        lambda **k: ConvEncoder(LARGE_IMAGE, units=4, **k),
        lambda **k: ResNetEncoder(NESTED, units=4, filters=(2, 3), **k),
    ],
    ids=["mlp", "grid", "conv", "resnet"],
)
def test_an_encoder_survives_json(encoder):
    encoder = encoder(dtype="mixed_bfloat16")
    encoder.build()
    observation = sample(encoder.observation_space)
    text = json.dumps(keras.saving.serialize_keras_object(encoder), allow_nan=False)

    copy = keras.saving.deserialize_keras_object(json.loads(text))
    if not copy.built:
        copy.build()
    copy.set_weights(encoder.get_weights())

    assert type(copy) is type(encoder)
    assert copy.get_config() == encoder.get_config()
    assert copy.dtype_policy.name == "mixed_bfloat16"
    received, expected = (compiled(x)(observation) for x in (copy, encoder))
    assert keras.backend.standardize_dtype(received.dtype) == "bfloat16"
    assert bool(keras.ops.all(received == expected))


TWO_IMAGES = spaces.Dict({"left": IMAGE, "right": IMAGE})


@pytest.mark.once
@pytest.mark.parametrize("encoder", [ConvEncoder, ResNetEncoder])
@pytest.mark.parametrize(
    "space",
    [VECTOR, TWO_IMAGES, spaces.Box(0, 255, (40, 40, 3), np.int32)],
    ids=["no_image", "two_images", "image_of_ints"],
)
def test_image_encoders_want_exactly_one_image(encoder, space):
    with pytest.raises(ValueError, match="exactly one image, a Box of uint8 or floats"):
        encoder(space)


@pytest.mark.once
def test_conv_wants_an_image_that_is_large_enough():
    with pytest.raises(ValueError, match="at least 36 x 36 pixels"):
        ConvEncoder(spaces.Box(0, 255, (35, 40, 3), np.uint8))


@pytest.mark.once
@pytest.mark.parametrize("encoder", [MLPEncoder, ConvEncoder, ResNetEncoder])
@pytest.mark.parametrize(
    "space",
    [
        spaces.Text(3),
        spaces.Sequence(VECTOR),
        spaces.Tuple([spaces.Text(3)]),
        spaces.Dict({"a": spaces.Text(3)}),
        None,
    ],
    ids=str,
)
def test_other_spaces_are_refused(encoder, space):
    with pytest.raises(ValueError, match="Received: space="):
        encoder(space)


@pytest.mark.parametrize("make", [ConvEncoder, ResNetEncoder])
def test_keras_setting_of_image_channels_changes_nothing(make):
    observation = sample(LARGE_IMAGE)
    expected = make(LARGE_IMAGE, units=3)
    expected.build()
    keras.config.set_image_data_format("channels_first")
    try:
        encoder = make(LARGE_IMAGE, units=3)
        encoder.build()
        encoder.set_weights(expected.get_weights())
        received = to_numpy(encoder(observation))
    finally:
        keras.config.set_image_data_format("channels_last")
    np.testing.assert_allclose(
        received, to_numpy(expected(observation)), rtol=1e-5, atol=1e-6
    )


FLOATS = {
    "bytes_as_floats": (spaces.Box(0.0, 255.0, (36, 40, 3), np.float32), 255.0, 0.0),
    "from_a_bound": (spaces.Box(-3.0, 2.0, (36, 40, 3), np.float64), 5.0, 3.0),
    "scaled": (spaces.Box(0.0, 1.0, (36, 40, 3), np.float32), 1.0, 0.0),
    "scaled_around_0": (spaces.Box(-1.0, 1.0, (36, 40, 3), np.float16), 1.0, 0.0),
    "without_bounds": (spaces.Box(-np.inf, np.inf, (36, 40, 3), np.float32), 1.0, 0.0),
}


@pytest.mark.once
@pytest.mark.parametrize("encoder", [ConvEncoder, ResNetEncoder])
@pytest.mark.parametrize("name", FLOATS)
def test_images_of_floats_are_scaled_by_their_bounds(encoder, name):
    space, size, offset = FLOATS[name]
    layer = encoder(space, units=4)
    image = sample(space).astype("float32")

    received = to_numpy(layer.scale(image))

    np.testing.assert_allclose(received, (image + offset) / size, rtol=1e-5, atol=1e-6)
    assert to_numpy(layer(image)).shape == (4, 4)


@pytest.mark.parametrize("encoder", [ConvEncoder, ResNetEncoder, GridEncoder])
def test_channels_that_come_first_are_moved(encoder):
    shape = (36, 40, 3)
    last = spaces.Box(0, 255, shape, np.uint8)
    first = spaces.Box(0, 255, (3, 36, 40), np.uint8)
    expected, moved = encoder(last, units=4), encoder(first, units=4)
    expected.build()
    randomise(expected, scale=0.1)
    moved.build()
    moved.set_weights(expected.get_weights())
    image = sample(last)

    received = to_numpy(moved(np.moveaxis(image, -1, 1)))

    np.testing.assert_allclose(received, to_numpy(expected(image)), rtol=1e-5)
    assert moved.count_weights(first, units=4, **config(moved)) == moved.count_params()


def config(encoder):
    names = ("categories", "filters")
    return {name: getattr(encoder, name) for name in names if hasattr(encoder, name)}


@pytest.mark.once
def test_the_last_axis_holds_the_channels_where_the_first_is_not_shorter():
    encoder = ResNetEncoder(spaces.Box(0, 255, (8, 9, 8), np.uint8), filters=(2,))
    encoder.build()

    assert encoder.entries[0].kernel.shape[2] == 8


@pytest.mark.once
def test_floats_beside_an_image_of_bytes_are_features():
    floats = spaces.Box(-5.0, 5.0, (2, 2, 2), np.float32)
    encoder = ResNetEncoder(spaces.Tuple([floats, IMAGE]), units=4)

    assert encoder.output_size == 4 + 8
    assert encoder.image_path == (1,)


@pytest.mark.once
def test_a_grid_of_categories_holds_no_floats():
    with pytest.raises(ValueError, match="a Box of uint8 of shape"):
        GridEncoder(spaces.Box(0.0, 10.0, (7, 7, 3), np.float32))


@pytest.mark.once
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLPEncoder(VECTOR, units=4), "a list of positive .* units=4"),
        (lambda: MLPEncoder(VECTOR, units=(4, 0)), r"Received: units\[1\]=0"),
        (lambda: MLPEncoder(VECTOR, units=(2**21,)), r"Received: units\[0\]=2097152"),
        (lambda: MLPEncoder(VECTOR, units=[1] * 1025), "at most 1,024 .* 1,025"),
        (lambda: ResNetEncoder(IMAGE, filters=(-1,)), r"Received: filters\[0\]=-1"),
        (lambda: ResNetEncoder(IMAGE, units=0), "Received: units=0"),
        (lambda: GridEncoder(IMAGE, (0.5, 1, 1)), r"Received: categories\[0\]=0.5"),
    ],
)
def test_widths_beyond_use_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
