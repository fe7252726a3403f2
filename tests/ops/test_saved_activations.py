import functools

import keras
import numpy as np
import pytest
from keras import ops

from keras_agalite.layers.saved_activations import Dense, LayerNormalization
from keras_agalite.ops import saved_activations as saved
from keras_agalite.ops.eight_bits import decode, encode
from keras_agalite.ops.gru_gate import gru_gate
from tests.helpers import compiled, gradients, to_numpy

# Of one operation, by norm. A code is off by a 510th of the range at most, which is 2
# to 6 deviations wide here.
GRADIENT_ERROR = 0.01


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def rounded(x, low=None):
    """What codes of x give, in NumPy."""
    low = x.min(-1, keepdims=True) if low is None else low
    step = (x.max(-1, keepdims=True) - low) / 255
    return low + step * np.round((x - low) / np.where(step > 0, step, 1))


def relative_error(received, expected):
    return np.linalg.norm(received - expected) / np.linalg.norm(expected)


def activate(function, x):
    return saved.activation(keras.activations.get(function), x)


def gate_arrays():
    weights = [normal(6, 3 * 6), normal(6, 2 * 6), normal(6, 6), normal(6)]
    return [normal(2, 5, 6), normal(2, 5, 6, seed=1), *(w / 2 for w in weights)]


# By name: the operation, its plain form and arrays.
OPERATIONS = {
    "product": (saved.product, ops.matmul, [normal(2, 5, 6), normal(6, 4)]),
    "pair_product": (
        saved.pair_product,
        saved.plain_pair_product,
        [normal(2, 3, 5, 8), normal(2, 3, 7, 8, seed=1)],
    ),
    "distance_product": (
        saved.distance_product,
        saved.plain_distance_product,
        [normal(2, 5, 3, 8), normal(4, 3, 8, seed=1)],
    ),
    "softmax_product": (
        saved.softmax_product,
        saved.plain_softmax_product,
        [normal(2, 3, 5, 7), normal(2, 3, 7, 8, seed=1)],
    ),
    "layer_normalization": (
        functools.partial(saved.layer_normalization, epsilon=1e-6),
        functools.partial(ops.layer_normalization, axis=-1, epsilon=1e-6),
        [3 + 2 * normal(2, 5, 8), normal(8), normal(8, seed=1)],
    ),
    "gate": (
        functools.partial(gru_gate, saved_activations="int8"),
        gru_gate,
        gate_arrays(),
    ),
    **{
        name: (
            functools.partial(activate, name),
            keras.activations.get(name),
            [2 * normal(2, 5, 32)],
        )
        for name in ("relu", "gelu", "silu", "tanh", "sigmoid", "elu")
    },
}
every_operation = pytest.mark.parametrize("name", OPERATIONS)


@every_operation
def test_outputs_are_exact_and_gradients_nearly_so(name):
    operation, plain, arrays = OPERATIONS[name]

    output, grads = gradients(lambda *x: operation(*x), arrays)
    expected, expected_grads = gradients(lambda *x: plain(*x), arrays)

    np.testing.assert_array_equal(output, expected)
    exact = ("relu", "elu")
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        if name in exact:
            np.testing.assert_array_equal(grad, expected_grad)
        else:
            assert relative_error(grad, expected_grad) < GRADIENT_ERROR
    differs = [
        not np.array_equal(g, e) for g, e in zip(grads, expected_grads, strict=True)
    ]
    assert any(differs) == (name not in exact)


def test_gradients_are_those_of_the_rounded_numbers():
    """The plain forms on what the codes hold give the gradients, where nothing else
    is kept."""
    for name in ("product", "pair_product", "distance_product", "gelu", "silu", "gate"):
        operation, plain, arrays = OPERATIONS[name]
        weights = {"pair_product": 2, "gate": 2}.get(name, 1)
        codes = [rounded(x) for x in arrays[:weights]]

        _, grads = gradients(lambda *x, f=operation: f(*x), arrays)
        _, expected = gradients(lambda *x, f=plain: f(*x), [*codes, *arrays[weights:]])

        for received, wanted in zip(grads, expected, strict=True):
            np.testing.assert_allclose(received, wanted, rtol=1e-4, atol=1e-5)


def test_codes_are_the_nearest():
    x = normal(3, 4, 100)
    x[0, 0] = 2.5  # a row of equal numbers
    x[0, 1] *= 1e30
    x[0, 2] *= 1e-30

    codes, step, low = compiled(encode)(x)
    decoded = to_numpy(compiled(lambda *c: decode(c, "float32"))(codes, step, low))

    assert to_numpy(codes).dtype == np.uint8
    assert step.shape == low.shape == (3, 4, 1)
    np.testing.assert_array_equal(decoded[0, 0], 2.5)
    error, half = np.abs(decoded - x), np.ptp(x, axis=-1, keepdims=True) / 510
    assert (error <= 1.001 * half).all()
    others = np.ones((3, 4), bool)
    others[0, 0] = False
    assert (to_numpy(codes)[others].max(-1) == 255).all()
    assert (to_numpy(codes)[others].min(-1) == 0).all()
    np.testing.assert_allclose(decoded.min(-1), x.min(-1), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(dtype):
    for name, (operation, plain, arrays) in OPERATIONS.items():

        def cast(function, *arrays):
            return function(*(ops.cast(x, dtype) for x in arrays))

        output, grads = gradients(functools.partial(cast, operation), arrays)
        expected, expected_grads = gradients(functools.partial(cast, plain), arrays)

        np.testing.assert_array_equal(output, expected, err_msg=name)
        for grad, expected_grad in zip(grads, expected_grads, strict=True):
            assert relative_error(grad, expected_grad) < 0.03, name


def test_a_batch_of_none_has_gradients_of_zero():
    for name, (operation, _, arrays) in OPERATIONS.items():
        number = 2 if name.endswith(("pair_product", "softmax_product", "gate")) else 1
        arrays = [x[:0] for x in arrays[:number]] + arrays[number:]

        output, grads = gradients(lambda *x, f=operation: f(*x), arrays)

        assert output.shape[0] == 0
        for array, grad in zip(arrays, grads, strict=True):
            assert grad.shape == array.shape, name
            np.testing.assert_array_equal(grad, 0.0)


def test_equal_numbers_have_exact_gradients():
    """A range of zero."""
    x, kernel = np.full((2, 3, 4), 0.3, "float32"), normal(4, 5)

    _, grads = gradients(saved.product, [x, kernel])
    _, expected = gradients(ops.matmul, [x, kernel])

    for received, wanted in zip(grads, expected, strict=True):
        np.testing.assert_allclose(received, wanted, rtol=1e-6)


def test_rows_do_not_depend_on_each_other():
    x, kernel = normal(3, 4, 6), normal(6, 5)
    cotangents = normal(3, 4, 5)
    other = x.copy()
    other[1] *= 1e6

    def run(x):
        norm = functools.partial(saved.layer_normalization, epsilon=1e-6)
        _, (grad, *_) = gradients(
            lambda x: saved.activation(
                keras.activations.gelu,
                saved.product(norm(x, np.ones(6), np.zeros(6)), kernel),
            ),
            [x],
            cotangents=lambda _: [cotangents],
        )
        return grad

    np.testing.assert_array_equal(run(x)[[0, 2]], run(other)[[0, 2]])


def make_layers(form):
    dense = Dense(6, "gelu", saved_activations=form, name="dense")
    norm = LayerNormalization(saved_activations=form, name="norm")
    dense.build((None, 6))
    norm.build((None, 6))
    return dense, norm


def test_a_layer_may_be_used_twice_before_the_backward_pass():
    """Codes and ranges are kept by use: a later use with a range ten times as wide
    takes nothing from the gradient of the first."""
    layers, plain = make_layers("int8"), make_layers(None)
    for layer, other in zip(layers, plain, strict=True):
        other.set_weights([normal(*w.shape) for w in layer.get_weights()])
        layer.set_weights(other.get_weights())
    arrays = [normal(4, 6), 10 * normal(4, 6, seed=1)]

    def run(layers, uses):
        dense, norm = layers
        weights = [*dense.trainable_variables, *norm.trainable_variables]
        return gradients(
            lambda *x: [dense(norm(dense(x[i]))) for i in uses],
            arrays,
            weights,
            cotangents=lambda y: [1.0, *(0.0 for _ in y[1:])],
        )

    (first, _), both = run(layers, (0, 1))
    _, alone = run(layers, (0,))
    (expected, _), exact = run(plain, (0, 1))

    np.testing.assert_array_equal(first, expected)
    for received, wanted, near in zip(both, alone, exact, strict=True):
        np.testing.assert_allclose(received, wanted, rtol=1e-5, atol=1e-5)
        if near.any():
            assert relative_error(received, near) < 3 * GRADIENT_ERROR


@pytest.mark.once
def test_only_int8_is_known():
    for make in (Dense, LayerNormalization):
        with pytest.raises(ValueError, match=r"must be None or 'int8'.*int4"):
            make(**({"units": 3} if make is Dense else {}), saved_activations="int4")


@pytest.mark.once
@pytest.mark.parametrize(
    "call",
    [saved.attention_products, lambda form: gru_gate(*[None] * 6, form)],
    ids=["attention", "gate"],
)
def test_another_form_is_refused(call):
    with pytest.raises(ValueError, match="Received: saved_activations='int4'"):
        call("int4")
