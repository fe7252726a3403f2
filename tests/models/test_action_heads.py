import itertools
import math

import keras
import numpy as np
import pytest
from gymnasium import spaces

from keras_agalite.models.action_heads import DiscreteHead, head_class
from tests.helpers import gradients, to_numpy
from tests.models.conftest import ACTION_SPACES, every_action_space, randomise

BOX = ACTION_SPACES["box"]
every_category = pytest.mark.parametrize(
    "action_space",
    [space for space in ACTION_SPACES.values() if space is not BOX],
    ids=[name for name in ACTION_SPACES if name != "box"],
)


def make_head(action_space, **kwargs):
    head = head_class(action_space)(action_space, 6, "tanh", **kwargs)
    head(np.zeros((1, 4), "float32"))
    randomise(head)
    return head


def random_parameters(head, *shape):
    random = np.random.default_rng(0)
    return random.normal(size=(*shape, head.num_action_params)).astype("float32")


def all_actions(space):
    if isinstance(space, spaces.Discrete):
        return np.arange(space.start, space.start + space.n)
    if isinstance(space, spaces.MultiBinary):
        actions = itertools.product((0, 1), repeat=space.shape[0] * space.shape[1])
        return np.array(list(actions)).reshape(-1, *space.shape)
    parts = zip(space.start, space.nvec, strict=True)
    return np.array(list(itertools.product(*(range(s, s + n) for s, n in parts))))


def probability(space, parameters, action):
    """The product of softmax, or sigmoid, over the parts of one action."""
    if isinstance(space, spaces.MultiBinary):
        signs = 2 * np.ravel(action) - 1
        return math.prod(1 / (1 + np.exp(-signs * parameters)))
    if isinstance(space, spaces.Discrete):
        sizes, action = [space.n], [action - space.start]
    else:
        sizes, action = space.nvec, action - space.start
    result, begin = 1.0, 0
    for size, choice in zip(sizes, action, strict=True):
        weights = [math.exp(x) for x in parameters[begin : begin + size]]
        result *= weights[choice] / sum(weights)
        begin += size
    return result


@pytest.mark.once
@every_category
def test_draws_follow_the_softmax(action_space):
    head = make_head(action_space)
    parameters = random_parameters(head)
    count = 20_000

    actions = head.numpy_sample(
        np.tile(parameters, (count, 1)), np.random.default_rng(0)
    )

    assert action_space.contains(actions[0])
    for action in all_actions(action_space):
        expected = probability(action_space, parameters, action)
        received = (actions == action).reshape(count, -1).all(-1).mean()
        deviation = math.sqrt(expected * (1 - expected) / count)
        assert abs(received - expected) < 4 * deviation


@pytest.mark.once
def test_draws_follow_the_gaussian():
    head = make_head(spaces.Box(-100.0, 100.0, (2,), np.float32))
    parameters = np.array([1.0, -2.0, 0.0, math.log(0.5)], "float32")
    count = 20_000

    actions = head.numpy_sample(
        np.tile(parameters, (count, 1)), np.random.default_rng(0)
    )

    deviation = np.array([1.0, 0.5])
    np.testing.assert_allclose(actions.mean(0), [1.0, -2.0], atol=0.03)
    np.testing.assert_allclose(actions.std(0), deviation, rtol=0.03)
    within_one = (abs(actions - [1.0, -2.0]) < deviation).mean(0)
    np.testing.assert_allclose(within_one, 0.6827, atol=0.015)


@pytest.mark.once
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_box_actions_are_clipped_to_their_bounds(dtype):
    low = np.array([[-0.1, 0.0, -np.inf], [-3.0, -0.2, -0.3]], dtype)
    high = np.array([[0.1, 0.5, np.inf], [3.0, -0.1, 0.3]], dtype)
    space = spaces.Box(low, high, dtype=dtype)
    head = make_head(space)
    parameters = random_parameters(head, 200)

    for actions in (
        head.numpy_sample(parameters, np.random.default_rng(0)),
        head.numpy_mode(parameters),
    ):
        assert actions.shape == (200, 2, 3)
        assert actions.dtype == dtype
        assert all(space.contains(action) for action in actions)
        assert (actions == low).any()
        assert (actions == high).any()
        assert len(np.unique(actions[:, 0, 2])) == 200


@pytest.mark.once
@every_category
def test_the_mode_is_the_likeliest_action(action_space):
    head = make_head(action_space)
    parameters = random_parameters(head, 20)

    for row, action in zip(parameters, head.numpy_mode(parameters), strict=True):
        best = max(
            all_actions(action_space), key=lambda a: probability(action_space, row, a)
        )
        np.testing.assert_array_equal(action, best)


@pytest.mark.once
def test_the_mode_of_a_box_is_the_mean():
    head = make_head(spaces.Box(-100.0, 100.0, (2, 3), np.float32))
    parameters = random_parameters(head, 5)

    np.testing.assert_allclose(
        head.numpy_mode(parameters), parameters[:, :6].reshape(5, 2, 3)
    )


@every_category
def test_log_prob_and_entropy_of_categories(action_space):
    head = make_head(action_space)
    parameters = random_parameters(head, 2, 3)

    entropy = to_numpy(head.entropy(parameters))

    expected_entropy = np.zeros((2, 3))
    for action in all_actions(action_space):
        expected = np.array(
            [[probability(action_space, p, action) for p in row] for row in parameters]
        )
        actions = np.broadcast_to(action, (2, 3, *np.shape(action)))
        received = to_numpy(head.log_prob(parameters, actions))
        np.testing.assert_allclose(received, np.log(expected), rtol=1e-4, atol=1e-5)
        expected_entropy -= expected * np.log(expected)
    np.testing.assert_allclose(entropy, expected_entropy, rtol=1e-4, atol=1e-5)


def test_log_prob_and_entropy_of_a_box():
    head = make_head(BOX)
    parameters = random_parameters(head, 2, 3)
    actions = np.random.default_rng(1).normal(size=(2, 3, *BOX.shape))

    log_prob = to_numpy(head.log_prob(parameters, actions))
    entropy = to_numpy(head.entropy(parameters))

    mean, deviation = parameters[..., :6], np.exp(parameters[..., 6:])
    z = (actions.reshape(2, 3, 6) - mean) / deviation
    density = np.exp(-(z**2) / 2) / (deviation * math.sqrt(2 * math.pi))
    np.testing.assert_allclose(log_prob, np.log(density).sum(-1), rtol=1e-4, atol=1e-4)
    expected = (0.5 + 0.5 * math.log(2 * math.pi) + np.log(deviation)).sum(-1)
    np.testing.assert_allclose(entropy, expected, rtol=1e-4, atol=1e-5)


@every_action_space
def test_parameters_come_from_a_hidden_and_an_output_layer(action_space):
    head = make_head(action_space)
    features = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")

    received = to_numpy(head(features))

    weights = {w.path.split("/", 1)[1]: w for w in head.weights}
    log_std = to_numpy(weights.pop("log_std").value) if action_space is BOX else None
    kernel, bias, output_kernel, output_bias = to_numpy(
        [w.value for w in weights.values()]
    )
    expected = np.tanh(features @ kernel + bias) @ output_kernel + output_bias
    if log_std is not None:
        expected = np.concatenate([expected, np.tile(log_std, (2, 3, 1))], -1)
    assert received.dtype == np.float32
    assert received.shape == (2, 3, head.num_action_params)
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5)


@every_action_space
def test_gradients_of_log_prob_and_entropy_are_those_of_differences(action_space):
    head = make_head(action_space)
    features = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    action_space.seed(0)
    actions = np.stack([action_space.sample() for _ in features])
    weights = head.trainable_variables

    def function(features):
        parameters = head(features)
        return head.log_prob(parameters, actions), head.entropy(parameters)

    (log_prob, entropy), grads = gradients(function, [features], weights)

    random = np.random.default_rng(1)  # as tests.helpers.cotangents draws them
    cotangents = [random.normal(size=x.shape) for x in (log_prob, entropy)]

    def loss():
        outputs = to_numpy(function(features))
        return sum((x * w).sum() for x, w in zip(outputs, cotangents, strict=True))

    assert len(weights) == (5 if action_space is BOX else 4)
    step = 1e-2
    for weight, grad in zip(weights, grads[1:], strict=True):
        value, direction = to_numpy(weight.value), np.sign(grad)
        weight.assign(value + step * direction)
        above = loss()
        weight.assign(value - step * direction)
        below = loss()
        weight.assign(value)
        expected = abs(grad).sum()
        assert expected > 0
        assert (above - below) / (2 * step) == pytest.approx(expected, rel=0.02)


def test_parameters_are_float32_under_mixed_precision():
    head = make_head(BOX, dtype="mixed_bfloat16")

    parameters = head(np.zeros((2, 4), "float32"))

    assert head.hidden.compute_dtype == "bfloat16"
    assert keras.backend.standardize_dtype(parameters.dtype) == "float32"


@pytest.mark.once
@pytest.mark.parametrize(
    "action_space",
    [
        spaces.Box(0, 3, (2,), np.int32),
        spaces.MultiDiscrete([[2, 3], [2, 3]]),
        spaces.Dict({"a": spaces.Discrete(2)}),
        spaces.Tuple([spaces.Discrete(2)]),
        spaces.Text(3),
        None,
    ],
    ids=str,
)
def test_other_action_spaces_are_refused(action_space):
    with pytest.raises(ValueError, match="Received: action_space="):
        head_class(action_space)


@every_action_space
def test_noise_that_is_given_chooses_what_sample_draws(action_space):
    head = make_head(action_space)
    parameters = random_parameters(head, 64) * 3.0
    noise = getattr(np.random.default_rng(1), head.noise)(size=(64, head.noise_size))

    tensors = map(keras.ops.convert_to_tensor, (parameters, noise.astype("float32")))
    chosen = head.sample(*tensors)

    clipped = to_numpy(head.clip(chosen))
    expected = head.numpy_sample(parameters, np.random.default_rng(1))
    np.testing.assert_allclose(clipped, expected, rtol=1e-5)
    assert clipped.shape == expected.shape
    if action_space is BOX:  # what was drawn may lie outside
        assert (to_numpy(chosen) != clipped).any()
        assert clipped.dtype == BOX.dtype


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64")  # on JAX
@every_action_space
def test_the_mode_of_tensors_is_that_of_arrays(action_space):
    head = make_head(action_space)
    parameters = random_parameters(head, 64)

    received = to_numpy(head.mode(keras.ops.convert_to_tensor(parameters)))

    np.testing.assert_array_equal(received, head.numpy_mode(parameters))


@every_action_space
def test_weights_are_counted_before_they_exist(action_space):
    head = make_head(action_space)

    count = head.count_weights(4, action_space, 6, "tanh")

    assert count == head.count_params()


@every_action_space
def test_a_head_survives_serialisation(action_space):
    head = make_head(action_space)

    copy = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(head)
    )

    assert type(copy) is type(head)
    assert copy.get_config() == head.get_config()
    assert copy.action_space == action_space


def test_actions_begin_nearly_equally_likely():
    head = DiscreteHead(spaces.Discrete(5), 32)
    features = np.random.default_rng(0).normal(size=(50, 16)).astype("float32")

    entropy = to_numpy(head.entropy(head(features)))

    assert entropy.min() > 0.999 * math.log(5)


@pytest.mark.once
@pytest.mark.parametrize(
    ("space", "units", "message"),
    [
        (spaces.Discrete(2), -1, "`units` must be .* Received: units=-1"),
        (spaces.Discrete(2), 2**21, "Received: units=2097152"),
        (spaces.Discrete(10**7), 8, "more than 4,194,304 elements"),
        (spaces.MultiDiscrete([10**7, 2]), 8, "more than 4,194,304 elements"),
    ],
)
def test_heads_beyond_use_are_refused_before_they_are_built(space, units, message):
    with pytest.raises(ValueError, match=message):
        head_class(space)(space, units)
