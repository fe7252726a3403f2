import functools
import json

import gymnasium
import keras
import numpy as np
import pytest
from gymnasium import spaces
from keras import tree

from keras_agalite.layers import GRU, MemoryRNN
from keras_agalite.models import MemoryPolicy, MLPEncoder, ResNetEncoder
from tests.helpers import BACKEND, compiled, gradients, random_starts, to_numpy
from tests.models.conftest import (
    ACTION_SPACES,
    NESTED,
    VECTOR,
    every_action_space,
    every_observation_space,
    make_policy,
    randomise,
    shared_policy,
)

BATCH, TIME = 2, 5


def as_json(policy):
    return json.dumps(policy.get_config(), sort_keys=True, allow_nan=False)


def dtype_of(x):
    return keras.backend.standardize_dtype(x.dtype)


def sequence(policy, batch=BATCH, time=TIME):
    """Random observations of shape `(batch, time, ...)`."""
    flat = policy.sample_observation(batch * time, seed=0)
    return tree.map_structure(lambda x: x.reshape(batch, time, *x.shape[1:]), flat)


def run(policy, observations, state=None, start=None):
    """A whole sequence, compiled: NumPy logits, value, and the state."""
    batch, time = tree.flatten(observations)[0].shape[:2]
    state = policy.initial_state(batch) if state is None else state
    start = np.zeros((batch, time), bool) if start is None else start
    out, state = compiled_policy(policy)(observations, state, start)
    return to_numpy(out.logits), to_numpy(out.value), state


@functools.cache
def compiled_policy(policy):
    return compiled(policy)


def assert_close(received, expected, tolerance=1e-5):
    pairs = zip(tree.flatten(received), tree.flatten(expected), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(to_numpy(a), to_numpy(b), tolerance, tolerance)


@pytest.mark.parametrize("memory", ["agalite", "stacked"])
def test_all_weights_exist_once_it_is_made(memory):
    policy = make_policy(memory)
    before = [id(w) for w in policy.weights]
    parts = policy.encoder, policy.memory, policy.actor
    critic = policy.critic_hidden, policy.critic_output

    policy.act(policy.sample_observation(1), policy.initial_state(1))

    assert [id(w) for w in policy.weights] == before
    assert len(before) == sum(len(part.weights) for part in (*parts, *critic))
    assert all(part.weights for part in (*parts[1:], *critic))


@pytest.mark.parametrize("memory", ["agalite", "stacked"])
def test_steps_equal_the_sequence_with_starts_in_the_middle(memory):
    policy = shared_policy(memory)
    observations, start = sequence(policy), random_starts(BATCH, TIME)
    # A state that is not empty.
    _, _, state = run(policy, observations[:, ::-1].copy(), None, ~start)

    logits, value, last = run(policy, observations, state, start)

    for t in range(TIME):
        step_logits, step_value, state = policy.step(
            observations[:, t], state, start[:, t]
        )
        assert_close(step_logits, logits[:, t])
        assert_close(step_value, value[:, t])
    assert_close(state, last)


def test_chunks_equal_the_sequence(policy):
    observations, start = sequence(policy), random_starts(BATCH, TIME)
    logits, value, last = run(policy, observations, None, start)

    first = run(policy, observations[:, :2], None, start[:, :2])
    second = run(policy, observations[:, 2:], first[-1], start[:, 2:])

    assert_close(np.hstack([first[0], second[0]]), logits)
    assert_close(np.hstack([first[1], second[1]]), value)
    assert_close(second[2], last)


@pytest.mark.parametrize("memory", ["agalite", "stacked"])
def test_zeros_are_the_initial_state(memory):
    policy = shared_policy(memory)

    state = policy.initial_state(3)

    sizes = tree.flatten(policy.state_size)
    assert [tuple(x.shape) for x in tree.flatten(state)] == [(3, n) for n in sizes]
    assert not any(to_numpy(x).any() for x in tree.flatten(state))


def test_a_call_without_a_state_and_starts_begins_empty(policy):
    observations = sequence(policy)

    out, state = compiled(lambda x: policy(x))(observations)

    assert_close([*out, *state], run(policy, observations))


@pytest.fixture(params=["of_the_parts", "global"])
def mixed_precision(request):
    """The `dtype` of the parts of a policy in mixed precision."""
    if request.param == "of_the_parts":
        yield "mixed_bfloat16"
        return
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield None
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("memory", ["agalite", "stacked"])
def test_the_state_is_float32_under_mixed_precision(memory, mixed_precision):
    policy = make_policy(memory, dtype=mixed_precision)
    observations = sequence(policy)
    # A number that bfloat16 does not hold.
    state = tree.map_structure(lambda x: x + 1001, policy.initial_state(BATCH))
    out, last = compiled(policy)(observations, state)
    logits, value, stepped = policy.step(observations[:, 0], state)

    assert policy.memory.compute_dtype == "bfloat16"
    for x in tree.flatten([state, out.logits, out.value, last, stepped]):
        assert dtype_of(x) == "float32"
    assert logits.dtype == value.dtype == np.float32
    if memory == "agalite":  # its clock counts on
        assert to_numpy(last[0])[:, -1].tolist() == [1001 + TIME] * BATCH


@every_action_space
def test_act_takes_and_gives_numpy(action_space):
    policy = make_policy(action_space=action_space)
    randomise(policy)
    observation = policy.sample_observation(2)

    for deterministic in (False, True):
        action, state = policy.act(
            observation, policy.initial_state(2), deterministic=deterministic
        )
        assert type(action) is np.ndarray
        assert action.shape == (2, *action_space.shape)
        assert action.dtype == action_space.dtype
        assert all(action_space.contains(row) for row in action)
        assert [tuple(x.shape) for x in state] == [
            tuple(x.shape) for x in policy.initial_state(2)
        ]


@pytest.mark.parametrize("memory", ["agalite", "lstm", "memoryless", "stacked"])
def test_a_kept_state_stays_valid(memory):
    policy = shared_policy(memory)
    observation = policy.sample_observation(2, seed=0)
    _, kept = policy.act(observation, policy.initial_state(2))
    before = to_numpy(kept)

    first = policy.step(observation, kept)
    second = policy.step(observation, kept)

    assert_close(kept, before, 0)
    assert_close(first, second, 0)


@pytest.mark.parametrize("memory", ["agalite", "stacked"])
def test_a_start_empties_the_memory_of_its_row(memory):
    policy = shared_policy(memory)
    observation = policy.sample_observation(2, seed=0)
    _, used = policy.act(policy.sample_observation(2, seed=1), policy.initial_state(2))
    fresh, _, fresh_state = policy.step(observation, policy.initial_state(2))
    plain, *_ = policy.step(observation, used)

    logits, _, state = policy.step(observation, used, [True, False])

    assert_close(logits[0], fresh[0])
    assert_close(logits[1], plain[1])
    assert abs(plain - fresh).max(1).min() > 1e-3
    logits, *_ = policy.step(observation, state)
    expected, *_ = policy.step(observation, fresh_state)
    assert_close(logits[0], expected[0])


def test_deterministic_takes_the_likeliest_action(policy):
    observation, state = policy.sample_observation(64), policy.initial_state(64)
    logits, *_ = policy.step(observation, state)

    action, _ = policy.act(observation, state, deterministic=True)

    np.testing.assert_array_equal(action, logits.argmax(-1))


def test_a_seed_decides_the_action(policy):
    observation, state = policy.sample_observation(64), policy.initial_state(64)
    logits, *_ = policy.step(observation, state)

    def act(seed):
        return policy.act(observation, state, seed=seed)[0]

    np.testing.assert_array_equal(act(7), act(7))
    assert (act(7) != act(8)).any()
    noise = np.random.default_rng(7).gumbel(size=logits.shape)
    np.testing.assert_array_equal(act(7), (logits + noise).argmax(-1))


def test_a_generator_moves_on_from_act_to_act(policy):
    observation, state = policy.sample_observation(64), policy.initial_state(64)

    def act_twice(seed):
        return [policy.act(observation, state, seed=seed)[0] for _ in range(2)]

    first, second = act_twice(np.random.default_rng(7))

    assert (first != second).any()
    np.testing.assert_array_equal(act_twice(np.random.default_rng(7)), [first, second])
    np.testing.assert_array_equal(first, act_twice(7)[0])


def test_without_a_seed_the_noise_is_new_each_time(policy):
    observation, state = policy.sample_observation(64), policy.initial_state(64)

    first, _ = policy.act(observation, state)
    second, _ = policy.act(observation, state)

    assert (first != second).any()


def test_new_weights_count_at_once():
    policy = make_policy("agalite")
    observation, state = policy.sample_observation(2, seed=0), policy.initial_state(2)
    before, *_ = policy.step(observation, state)

    randomise(policy, seed=1)
    received = policy.step(observation, state)

    logits, value, last = run(policy, observation[:, None], state)
    assert abs(received[0] - before).max() > 1e-3
    assert_close(received, [logits[:, 0], value[:, 0], last])


@pytest.fixture
def traces(policy, monkeypatch):
    """The number of times Python runs the encoder of a fresh compilation."""
    calls = []
    encode = policy.encoder.call

    def call(observation):
        calls.append(1)
        return encode(observation)

    monkeypatch.setattr(policy.encoder, "call", call)
    monkeypatch.setattr(policy, "_step", None)
    return calls


def test_a_step_is_traced_once(policy, traces):
    state, noise = policy.initial_state(2), np.random.default_rng(0)
    policy.act(policy.sample_observation(2), state)
    assert len(traces) == 1

    for start in (None, np.ones(2, bool), [True, False]):
        _, state = policy.act(policy.sample_observation(2), state, start, seed=noise)
    policy.act(policy.sample_observation(2).tolist(), state, deterministic=True)

    assert len(traces) == 1


@pytest.mark.skipif(BACKEND != "tensorflow", reason="XLA is optional there alone")
def test_tensorflow_acts_with_xla(policy, traces, monkeypatch):
    import tensorflow as tf

    made, function = [], tf.function

    def record(*arguments, **keywords):
        made.append(function(*arguments, **keywords))
        return made[-1]

    monkeypatch.setattr(tf, "function", record)
    observation, state, start = (
        policy.sample_observation(2),
        policy.initial_state(2),
        np.zeros(2, bool),
    )
    policy.act(observation, state, start)
    inputs = observation, state, {"start": start}
    assert len(traces) == 1
    # Raises a ValueError for a function without XLA.
    ir = made[0].experimental_get_compiler_ir
    assert "HloModule" in ir(*tree.map_structure(keras.ops.convert_to_tensor, inputs))()


def test_the_batch_size_may_change(policy, traces):
    observation, state = policy.sample_observation(64), policy.initial_state(64)
    logits, value, _ = policy.step(observation, state)

    for batch in (1, 2):
        part = policy.step(observation[:batch], policy.initial_state(batch))
        assert_close(part[:2], [logits[:batch], value[:batch]])
    known = len(traces)
    for batch in (64, 1, 2):
        policy.step(observation[:batch], policy.initial_state(batch))

    assert len(traces) == known <= 3


def test_read_only_and_reversed_arrays_are_fine(policy):
    observation, state = policy.sample_observation(2, seed=0), policy.initial_state(2)
    expected = policy.step(observation[::-1].copy(), state)
    read_only = observation[::-1].copy()
    read_only.flags.writeable = False

    assert_close(policy.step(observation[::-1], state), expected)
    assert_close(policy.step(read_only, state, np.broadcast_to(False, 2)), expected)


def test_a_nested_observation_with_an_image():
    policy = make_policy(space=NESTED, encoder=ResNetEncoder, units=4, filters=(2,))
    observations = sequence(policy)
    logits, value, last = run(policy, observations)

    state = policy.initial_state(BATCH)
    for t in range(TIME):
        observation = tree.map_structure(lambda x, t=t: x[:, t], observations)
        observation["surplus"] = np.zeros(7)
        *step, state = policy.step(observation, state)
        assert_close(step, [logits[:, t], value[:, t]])
    assert_close(state, last)


@pytest.mark.once
@every_observation_space
def test_a_sampled_observation_fits_the_space(space):
    policy = make_policy("memoryless", space)

    observation = policy.sample_observation(3, seed=0)

    for row in range(3):
        assert space.contains(tree.map_structure(lambda x, i=row: x[i], observation))
    repeated = policy.sample_observation(3, seed=0)
    tree.map_structure(np.testing.assert_array_equal, observation, repeated)
    other = policy.sample_observation(3, seed=1)
    assert any(
        (a != b).any()
        for a, b in zip(tree.flatten(observation), tree.flatten(other), strict=True)
    )


@pytest.mark.parametrize(
    ("memory", "action_space"),
    [("agalite", "discrete"), ("stacked", "discrete"), ("gru", "box")],
)
def test_gradients_reach_every_weight(memory, action_space):
    policy = make_policy(memory, action_space=ACTION_SPACES[action_space], units=(4,))
    randomise(policy, seed=1)  # with some seeds all of a small relu are dead
    observations, start = sequence(policy), random_starts(BATCH, TIME)
    state = to_numpy(policy.initial_state(BATCH))
    weights = policy.trainable_variables

    def function(observations):
        out, _ = policy(observations, state, start, training=True)
        return out.logits, out.value

    outputs, (grad_observations, *grads) = gradients(function, [observations], weights)

    assert_close(outputs, run(policy, observations, state, start)[:2])
    assert len(weights) == len(policy.weights)
    for name, grad in zip(
        ["observations", *(w.path for w in weights)],
        [grad_observations, *grads],
        strict=True,
    ):
        assert np.isfinite(grad).all(), name
        assert grad.any(), name


@pytest.mark.skipif(BACKEND != "jax", reason="Keras offers it on JAX")
def test_stateless_call_under_jit(policy):
    import jax

    observations, start = sequence(policy), random_starts(BATCH, TIME)
    expected = run(policy, observations, None, start)
    variables = policy.trainable_variables, policy.non_trainable_variables

    (out, state), _ = jax.jit(policy.stateless_call)(
        *([v.value for v in vs] for vs in variables), observations, None, start
    )

    assert_close([*out, state], expected)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="signatures are TensorFlow's")
@pytest.mark.parametrize("memory", ["agalite", "gru"])
def test_one_function_for_every_batch_size_and_length(memory):
    import tensorflow as tf

    policy = shared_policy(memory)
    function = tf.function(
        lambda observations, start: policy(observations, None, start),
        input_signature=[
            tf.TensorSpec([None, None, *VECTOR.shape]),
            tf.TensorSpec([None, None], "bool"),
        ],
    )
    for batch, time in [(BATCH, TIME), (1, 1), (3, 2)]:
        observations, start = sequence(policy, batch, time), random_starts(batch, time)

        out, state = function(observations, start)

        expected, expected_state = policy(observations, None, start)
        assert_close([*out, *state], [*expected, *expected_state])
    assert function.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("memory", ["agalite", "stacked"])
def test_a_keras_file_holds_the_policy(memory, tmp_path):
    policy = make_policy(memory, NESTED, ACTION_SPACES["multi_discrete"])
    randomise(policy)
    observation, state = policy.sample_observation(2, seed=0), policy.initial_state(2)

    policy.save(tmp_path / "policy.keras")
    copy = keras.saving.load_model(tmp_path / "policy.keras")

    assert type(copy) is MemoryPolicy
    assert as_json(copy) == as_json(policy)
    assert_close(copy.step(observation, state), policy.step(observation, state), 1e-6)


@pytest.mark.parametrize("memory", ["gru", "stacked"])
def test_a_config_is_json_and_may_be_used_twice(memory):
    policy = make_policy(
        memory, NESTED, ACTION_SPACES["box"], units=(4,), activation="relu"
    )
    observation, state = policy.sample_observation(2, seed=0), policy.initial_state(2)
    config = json.loads(as_json(policy))

    copies = [MemoryPolicy.from_config(config) for _ in range(2)]

    for copy in copies:
        assert as_json(copy) == as_json(policy)
        assert copy.observation_space == NESTED
        assert copy.action_space == ACTION_SPACES["box"]
        copy.set_weights(policy.get_weights())
        assert_close(copy.step(observation, state), policy.step(observation, state))


def test_parts_that_were_used_before_fit():
    encoder, memory = MLPEncoder(VECTOR, units=(4,)), GRU(5)
    memory(encoder(np.zeros((6, 3), "float32"))[None])

    policy = MemoryPolicy(encoder, memory, ACTION_SPACES["discrete"], head_units=8)

    assert len(policy.weights) == 2 + 3 + 4 + 4
    policy.act(policy.sample_observation(2), policy.initial_state(2))


@pytest.mark.once
def test_parts_must_be_of_the_right_kind():
    encoder, memory, action_space = MLPEncoder(VECTOR), GRU(5), ACTION_SPACES["box"]
    for name, arguments in {
        "encoder": (keras.layers.Dense(3), memory, action_space),
        "memory": (encoder, keras.layers.GRU(5), action_space),
        "action_space": (encoder, memory, spaces.Text(3)),
    }.items():
        with pytest.raises(ValueError, match=f"Received: {name}="):
            MemoryPolicy(*arguments)


@pytest.mark.once
def test_a_stateful_memory_is_refused():
    memory = MemoryRNN(keras.layers.GRUCell(5), stateful=True)

    with pytest.raises(ValueError, match="not stateful"):
        MemoryPolicy(MLPEncoder(VECTOR), memory, ACTION_SPACES["discrete"])


@pytest.mark.once
@pytest.mark.parametrize(
    "observation",
    [
        np.zeros((2, 4)),
        np.zeros((2, 1, 3)),
        np.zeros(3),
        np.zeros(()),
        {"observation": np.zeros((2, 3))},
        [["a", "b", "c"]] * 2,
        [[1.0, 2.0, 3.0], [1.0]],
        None,
    ],
    ids=lambda x: str(getattr(x, "shape", x)),
)
def test_act_refuses_other_observations(policy, observation):
    with pytest.raises(ValueError, match=r"`observation` must .*Received"):
        policy.act(observation, policy.initial_state(2))


@pytest.mark.once
@pytest.mark.parametrize("change", ["missing", "flat", "batch", "shape", "overflow"])
def test_act_refuses_other_nested_observations(change):
    policy = make_policy("memoryless", NESTED)
    observation = policy.sample_observation(2)
    match change:
        case "missing":
            del observation["view"]["compass"]
        case "flat":
            observation = observation["previous_action"]
        case "batch":
            observation["previous_reward"] = np.zeros((3, 1))
        case "shape":
            observation["previous_action"] = np.zeros((2, 4))
        case "overflow":
            observation["view"]["image"] = np.full((2, 7, 6, 3), 256).tolist()

    with pytest.raises(ValueError, match=r"`observation` must .*Received"):
        policy.act(observation, policy.initial_state(2))


@pytest.mark.once
@pytest.mark.parametrize(
    "start", [True, [True], [[True], [False]], [True] * 3], ids=str
)
def test_act_refuses_other_starts(policy, start):
    with pytest.raises(ValueError, match=r"`start` must .*Received: start.shape="):
        policy.act(policy.sample_observation(2), policy.initial_state(2), start)


@pytest.mark.once
@pytest.mark.parametrize("memory", ["agalite", "stacked", "memoryless"])
@pytest.mark.parametrize("kind", ["batch", "size", "surplus", "text"])
def test_act_refuses_other_states(memory, kind):
    policy = shared_policy(memory)
    state = {
        "batch": policy.initial_state(3) or [np.zeros((3, 1))],
        "size": [np.zeros((2, 999))],
        "surplus": [*policy.initial_state(2), np.zeros((2, 1))],
        "text": "state",
    }[kind]

    with pytest.raises(ValueError, match=r"`state` must .*Received: shapes"):
        policy.act(policy.sample_observation(2), state)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([np.zeros((2, 3, 4), "float32")], "`observations` must"),
        ([np.zeros((2, 3), "float32")], "`observations` must"),
        ([{"a": np.zeros((2, 5, 3), "float32")}], "`observations` must"),
        ([np.zeros((2, 5, 3), "float32"), [np.zeros((2, 7))]], "`initial_state` must"),
        ([np.zeros((2, 5, 3), "float32"), None, np.zeros((2, 4))], "`start` must"),
    ],
    ids=["size", "rank", "structure", "state", "start"],
)
def test_a_call_refuses_inputs_that_do_not_fit(policy, inputs, message):
    with pytest.raises(ValueError, match=rf"{message}[\s\S]*Received"):
        policy(*inputs)


def test_a_call_refuses_nested_observations_that_do_not_fit():
    policy = make_policy("memoryless", NESTED)
    observations = sequence(policy)
    del observations["view"]["compass"]

    with pytest.raises(ValueError, match="`observations` must"):
        policy(observations)


def test_it_plays_episodes_of_a_vectorised_environment():
    envs = gymnasium.make_vec(
        "keras_agalite/TMaze-v0", 3, vectorization_mode="sync", corridor_length=2
    )
    policy = make_policy("gru", envs.single_observation_space, envs.single_action_space)
    observation, _ = envs.reset(seed=0)
    state, start, episodes = policy.initial_state(3), np.ones(3, bool), 0
    noise = np.random.default_rng(0)
    for _ in range(30):
        action, state = policy.act(observation, state, start, seed=noise)
        observation, _, terminated, truncated, _ = envs.step(action)
        start = terminated | truncated
        episodes += start.sum()

    assert episodes > 0
    envs.close()


def test_without_a_state_the_memory_is_empty(policy):
    observation = policy.sample_observation(2, seed=0)
    expected, _ = policy.act(observation, policy.initial_state(2), seed=0)
    received, state = policy.act(observation, seed=0)
    np.testing.assert_array_equal(received, expected)
    assert len(state) == len(policy.state_size)


@pytest.mark.parametrize(
    "method", ["compile", "fit", "evaluate", "predict", "train_on_batch"]
)
def test_supervised_learning_is_refused(policy, method):
    with pytest.raises(NotImplementedError, match=f"no `{method}`: it acts with `act`"):
        getattr(policy, method)()
