import keras
import numpy as np
import pytest
from keras import ops, tree

from keras_agalite.layers import AGaLiTe, MemoryRNN
from tests.helpers import (
    BACKEND,
    compiled,
    float64,
    gradients,
    random_starts,
    to_numpy,
    traced,
)
from tests.layers.memories import (
    BATCH,
    BLOCKS,
    CELLS,
    FEATURES,
    TIME,
    assert_close,
    every_memory,
    few_memories,
    make_memory,
    random_sequences,
    run,
    some_state,
)
from tests.memories import TINY


@every_memory
def test_a_start_anywhere_equals_the_episodes_apart(name):
    memory = make_memory(name, return_state=True)
    x, state = random_sequences(6), some_state(memory)
    start = np.zeros((BATCH, 6), bool)
    start[0, 3] = start[1, 0] = start[1, 3] = True

    y, *_ = run(memory, x, initial_state=state, start=start)

    # Four episodes of three steps, of which the first goes on from a state.
    apart = tree.map_structure(lambda s: np.pad(s[:1], ((0, 3), (0, 0))), state)
    expected, *_ = run(memory, x.reshape(4, 3, -1), initial_state=apart)
    assert_close(y, expected.reshape(y.shape))


@every_memory
def test_chunks_equal_the_whole(name):
    sizes = [1, 6]  # a single step, and a longer chunk
    memory = make_memory(name, return_state=True)
    x, start, some = random_sequences(), random_starts(BATCH, TIME), some_state(memory)

    def whole(x, *state):
        state = tree.pack_sequence_as(some, state)
        return memory(x, initial_state=state, start=start)

    def chunks(x, *state):
        state, outputs = tree.pack_sequence_as(some, state), []
        for end, size in zip(np.cumsum(sizes), sizes, strict=True):
            chunk = slice(end - size, end)
            y, *state = memory(x[:, chunk], initial_state=state, start=start[:, chunk])
            outputs.append(y)
        return ops.concatenate(outputs, axis=1), *state

    arguments = [x, *tree.flatten(some)], memory.trainable_weights
    outputs, grads = gradients(chunks, *arguments)
    expected_outputs, expected_grads = gradients(whole, *arguments)

    assert_close(outputs, expected_outputs)
    for grad, expected in zip(grads, expected_grads, strict=True):
        scale = max(1.0, np.linalg.norm(expected))
        assert np.linalg.norm(grad - expected) < 1e-5 * scale


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("gru", [5]),
        ("lstm", [5, 5]),
        ("stacked", [[4, 4], 5]),
        ("agalite_cell", [41]),
        ("agalite", [41, 41]),
        ("galite", [80, 80]),
        ("gtrxl", [25, 25]),
        ("mingru", [8]),
        ("lru", [6]),
        ("ffm", [12]),
        ("gated_delta_net", [16 + 2 * 16]),
        ("shm", [17]),
        ("grc", [12]),
        ("trmrl", [25]),
        ("spatial", [4 * 10 + 2]),
        ("memformer", [(3 + 1) * 8 + 1]),
    ],
)
def test_initial_state_is_zeros_of_the_state_size(name, sizes):
    memory = make_memory(name)

    state = memory.initial_state(3)

    assert memory.state_size == sizes
    shapes = [s.shape for s in tree.flatten(state)]
    assert shapes == [(3, size) for size in tree.flatten(sizes)]
    assert all(np.all(s == 0) for s in tree.flatten(to_numpy(state)))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, "mixed_bfloat16") for name in [*CELLS, *BLOCKS]),
        ("stacked", "mixed_float16"),
        ("agalite", "mixed_float16"),
    ],
)
def test_state_is_float32_in_half_precision(name, dtype):
    memory = make_memory(name, dtype=dtype, return_state=True)
    state, start = some_state(memory), random_starts(BATCH, TIME)

    y, *final = compiled(lambda x: memory(x, initial_state=state, start=start))(
        random_sequences()
    )

    assert keras.backend.standardize_dtype(y.dtype) == dtype.removeprefix("mixed_")
    for s in tree.flatten([final, memory.initial_state(1)]):
        assert keras.backend.standardize_dtype(s.dtype) == "float32"
        assert np.all(np.isfinite(to_numpy(s)))


@pytest.mark.parametrize("name", ["agalite_cell", "agalite", "shm"])
def test_clock_counts_on_in_half_precision(name):
    memory = make_memory(name, dtype="mixed_bfloat16", return_state=True)
    state = some_state(memory, clock=1001)

    _, *final = run(memory, random_sequences(), initial_state=state)

    for s in final:
        np.testing.assert_array_equal(s[:, -1], 1001 + TIME)


@pytest.mark.parametrize("name", ["stacked", "agalite"])
def test_float64_policy_computes_in_float64(name):
    single = make_memory(name, return_state=True)
    x, start = random_sequences().astype("float64"), random_starts(BATCH, TIME)
    with float64():
        memory = make_memory(name, dtype="float64", return_state=True)
        memory.set_weights(single.get_weights())
        function = compiled(lambda x: memory(x, start=start))
        y, *state = to_numpy(function(x))
        moved, *_ = to_numpy(function(x * (1 + 1e-10)))

    # On torch, Keras's own layers lower float64 to float32 in between.
    assert BACKEND == "torch" or np.any(moved != y)
    assert {a.dtype.name for a in tree.flatten([y, state])} == {"float64"}
    assert_close([y, *state], [*run(single, x, start=start)])


@few_memories
def test_stateful_keeps_the_state_between_calls(name):
    memory = make_memory(name, stateful=True, return_state=True)
    x, start = random_sequences(8), random_starts(BATCH, 8)
    fresh = make_memory(name, return_state=True)
    fresh.set_weights(memory.get_weights()[: len(fresh.weights)])

    first, *_ = to_numpy(memory(x[:, :4], start=start[:, :4]))
    second, *state = to_numpy(memory(x[:, 4:], start=start[:, 4:]))

    expected = run(fresh, x, start=start)
    assert_close((np.concatenate([first, second], axis=1), *state), expected)
    memory.reset_state()
    again, *_ = to_numpy(memory(x[:, :4], start=start[:, :4]))
    assert_close(again, first)


@pytest.mark.parametrize("name", ["stacked", "agalite"])
def test_functional_model_survives_saving(name, tmp_path):
    memory = make_memory(name, return_state=True)
    sequences = keras.Input((None, FEATURES))
    start = keras.Input((None,), dtype="bool")
    state = tree.map_structure(
        lambda size: keras.Input((size,)), list(memory.state_size)
    )
    y, *final = memory(sequences, initial_state=state, start=start)
    model = keras.Model([sequences, start, state], [y, final])
    model.save(tmp_path / "model.keras")

    reloaded = keras.models.load_model(tmp_path / "model.keras")

    x, start, state = random_sequences(), random_starts(BATCH, TIME), some_state(memory)
    y, final = to_numpy(compiled(lambda x: reloaded(x))([x, start, state]))
    assert_close((y, *final), run(memory, x, start=start, initial_state=state))


@few_memories
def test_weights_survive_saving(name, tmp_path):
    memory, other = (
        keras.Sequential([keras.Input((TIME, FEATURES)), make_memory(name)])
        for _ in range(2)
    )
    memory.save_weights(tmp_path / "memory.weights.h5")

    other.load_weights(tmp_path / "memory.weights.h5")

    for loaded, saved in zip(other.get_weights(), memory.get_weights(), strict=True):
        np.testing.assert_array_equal(loaded, saved)


@pytest.mark.once
@every_memory
def test_config_round_trip(name):
    memory = make_memory(
        name,
        return_sequences=False,
        return_state=True,
        stateful=True,
        zero_output_for_mask=True,
        dtype="mixed_bfloat16",
    )

    config = keras.saving.serialize_keras_object(memory)
    copy = keras.saving.deserialize_keras_object(config)

    assert type(copy) is type(memory)
    assert copy.get_config() == memory.get_config()
    assert (copy.return_sequences, copy.return_state, copy.stateful) == (0, 1, 1)
    assert copy.zero_output_for_mask
    assert copy.cell.dtype_policy.name == "mixed_bfloat16"
    copy.build((BATCH, TIME, FEATURES))
    shapes = [w.shape for w in copy.weights]
    assert shapes == [w.shape for w in memory.weights]


# Leading, inner and last steps, and a row in which there is nothing.
MASK = np.array([[0, 0, 1, 1, 0, 1, 0], [0, 0, 0, 0, 0, 0, 0]], bool)


@pytest.mark.parametrize("zero_output_for_mask", [True, False])
def test_mask_means_what_it_means_in_keras(zero_output_for_mask):
    options = {"return_state": True, "zero_output_for_mask": zero_output_for_mask}
    memory = make_memory("gru", **options)
    stock = keras.layers.RNN(memory.cell, return_sequences=True, **options)
    x = random_sequences()

    assert_close(run(memory, x, mask=MASK), run(stock, x, mask=MASK))


@pytest.mark.parametrize("name", ["gru", "agalite"])
def test_tensors_by_position_are_in_the_order_of_keras(name):
    memory = make_memory(name, return_state=True)
    x, state, start = random_sequences(), some_state(memory), random_starts(BATCH, TIME)
    # On JAX, Keras masks no leading step and no state wider than the output well.
    mask = np.array([[1, 1, 1, 0, 1, 0, 1], [1, 1, 0, 0, 0, 0, 0]], bool)

    masked = to_numpy(compiled(lambda x: memory(x, state, mask))(x))
    started = to_numpy(compiled(lambda x: memory(x, state, None, None, start))(x))

    assert_close(masked, run(memory, x, initial_state=state, mask=mask))
    assert_close(started, run(memory, x, initial_state=state, start=start))
    if name == "gru":
        stock = keras.layers.RNN(memory.cell, return_sequences=True, return_state=True)
        assert_close(masked, to_numpy(compiled(lambda x: stock(x, state, mask))(x)))


@pytest.mark.parametrize(
    ("name", "zero_output_for_mask", "return_sequences"),
    [
        ("agalite", True, True),
        ("agalite", False, False),
        ("galite", False, True),
        ("gtrxl", False, True),
        ("gtrxl", True, False),
    ],
)
def test_a_layer_equals_its_cell_under_a_mask(
    name, zero_output_for_mask, return_sequences
):
    options = {
        "return_sequences": return_sequences,
        "return_state": True,
        "zero_output_for_mask": zero_output_for_mask,
    }
    layer = make_memory(name, **options)
    generic = MemoryRNN(layer.cell, **options)
    x = random_sequences()
    # Some starts are on masked steps, which are skipped with them.
    start = ~MASK | random_starts(BATCH, TIME)
    options = {"initial_state": some_state(layer), "start": start, "mask": MASK}

    assert_close(run(layer, x, **options), run(generic, x, **options))


@pytest.mark.parametrize("name", ["gru", "agalite"])
def test_start_at_a_masked_step_is_skipped(name):
    memory = make_memory(name, return_state=True)
    x = random_sequences()

    outputs = run(memory, x, mask=MASK, start=~MASK)

    assert_close(outputs, run(memory, x, mask=MASK))


@few_memories
def test_return_sequences_is_true_unless_told_otherwise(name):
    x = random_sequences()
    memory = make_memory(name)
    last = make_memory(name, return_sequences=False)
    last.set_weights(memory.get_weights())

    y = run(memory, x)

    assert y.shape[:2] == (BATCH, TIME)
    assert_close(run(last, x), y[:, -1])
    symbolic = last(keras.KerasTensor((None, None, FEATURES)))
    assert symbolic.shape == (None, y.shape[-1])


@pytest.mark.parametrize("stacked", [False, True])
def test_dropout_equals_keras_in_a_compiled_call(stacked):
    def cells():
        cell = keras.layers.GRUCell(5, dropout=0.5, recurrent_dropout=0.5, seed=1)
        return [cell, keras.layers.LSTMCell(4)] if stacked else cell

    memory = MemoryRNN(cells())
    stock = keras.layers.RNN(cells(), return_sequences=True)
    x = random_sequences()
    stock.build(x.shape)
    memory.build(x.shape)
    memory.set_weights(stock.get_weights())

    (y,), grads = differentiate_training(memory, x)
    (expected,), expected_grads = differentiate_training(stock, x)

    assert_close([y, *grads], [expected, *expected_grads])
    assert np.abs(y - run(memory, x)).max() > 0.01


def differentiate_training(layer, x):
    function = traced(lambda x: [layer(x, training=True)])
    return gradients(function, [x], layer.trainable_weights)


@few_memories
def test_symbolic_shapes_and_dtypes_are_those_of_the_call(name):
    memory = make_memory(name, dtype="mixed_bfloat16", return_state=True)
    outputs = compiled(lambda x: memory(x))(random_sequences())

    def shape_and_dtype(x):
        return (tuple(x.shape), keras.backend.standardize_dtype(x.dtype))

    for batch, time in [(BATCH, TIME), (None, TIME), (BATCH, None), (None, None)]:
        symbolic = memory(keras.KerasTensor((batch, time, FEATURES)))
        received = [shape_and_dtype(x) for x in tree.flatten(symbolic)]
        expected = [shape_and_dtype(x) for x in tree.flatten(outputs)]
        for (shape, dtype), (other, other_dtype) in zip(
            received, expected, strict=True
        ):
            known = (batch, time, other[-1]) if len(other) == 3 else (batch, other[-1])
            assert (shape, dtype) == (known, other_dtype)


@pytest.mark.parametrize("name", ["gru", "agalite"])
def test_unrolled_equals_rolled(name):
    memory, unrolled = make_memory(name), make_memory(name, unroll=True)
    unrolled.set_weights(memory.get_weights())
    x, start = random_sequences(), random_starts(BATCH, TIME)

    assert_close(run(unrolled, x, start=start), run(memory, x, start=start))


@pytest.mark.parametrize("name", ["gru", "agalite"])
def test_no_start_equals_no_true_start(name):
    memory = make_memory(name)
    x = random_sequences()

    y = run(memory, x, start=np.zeros((BATCH, TIME), bool))

    assert_close(y, run(memory, x))


@pytest.mark.parametrize("name", ["gru", "agalite"])
@pytest.mark.parametrize(
    "start", [np.zeros((BATCH, TIME + 1)), np.zeros(BATCH), np.zeros((1, TIME))]
)
def test_start_of_another_shape_is_refused(name, start):
    memory = make_memory(name)

    with pytest.raises(ValueError, match=r"`start` must .* Received: start.shape"):
        memory(random_sequences(), start=start)


@pytest.mark.parametrize("name", ["lstm", "agalite"])
@pytest.mark.parametrize("sizes", [(5,), (41, 40), (41, 41, 41)])
def test_initial_state_of_other_sizes_is_refused(name, sizes):
    memory = make_memory(name)
    state = [np.zeros((BATCH, size), "float32") for size in sizes]

    with pytest.raises(ValueError, match=r"`initial_state` must .* Received: shapes"):
        memory(random_sequences(), initial_state=state)


@pytest.mark.parametrize(
    "make", [MemoryRNN, lambda _, **k: AGaLiTe(**TINY["agalite"], **k)]
)
def test_going_backwards_is_refused(make):
    with pytest.raises(ValueError, match="Received: go_backwards=True"):
        make(keras.layers.GRUCell(5), go_backwards=True)


@pytest.mark.parametrize("name", ["gru", "agalite"])
def test_an_input_without_time_is_refused(name):
    memory = MemoryRNN(CELLS["gru"]()) if name == "gru" else AGaLiTe(**TINY["agalite"])

    with pytest.raises(ValueError, match=r"\(batch, time, features\).*Received: seq"):
        memory(np.zeros((BATCH, FEATURES), "float32"))
