"""What every policy for recordings does, whatever it remembers with."""

import functools

import keras
import numpy as np
import pytest
from gymnasium import spaces
from keras import ops, tree

import keras_agalite
from keras_agalite.layers import GRU
from keras_agalite.models import (
    ELMUR,
    RATE,
    DecisionTransformer,
    DTMem,
    MemoryPolicy,
    MLPEncoder,
    Policy,
    ResNetEncoder,
    ReturnConditionedPolicy,
)
from keras_agalite.previous import previous_space
from tests.helpers import compiled, gradients, to_numpy
from tests.models.conftest import IMAGE, VECTOR, randomise

BATCH, TIME = 2, 7
ACTIONS = spaces.Discrete(3, start=1)
TOKENS = {
    "segment_length": 3,
    "hidden_dim": 8,
    "num_layers": 1,
    "num_heads": 2,
    "intermediate_dim": 6,
    "dropout": 0.0,
    "target_return": 1.5,
    "return_scale": 2.0,
}
RATE_SIZES = {**TOKENS, "head_dim": 3, "memory_tokens": 2}
MODELS = {
    "decision_transformer": (DecisionTransformer, {**TOKENS, "head_dim": 3}),
    "rate": (RATE, RATE_SIZES),
    "rate_lstm": (RATE, {**RATE_SIZES, "valve": "lstm", "cache_length": 13}),
    "elmur": (ELMUR, {**TOKENS, "max_distance": 5}),
    "dt_mem": (DTMem, {**TOKENS, "num_slots": 2, "rounds": 1}),
}
RECURRENT = "return_conditioned"
every_model = pytest.mark.parametrize("name", [*MODELS, RECURRENT])
with_memory = pytest.mark.parametrize("name", [*list(MODELS)[1:], RECURRENT])


def make(name, space=VECTOR, actions=ACTIONS, encoder=MLPEncoder, **changes):
    arguments = {} if encoder is MLPEncoder else {"units": 4, "filters": (2,)}
    if name == RECURRENT:
        return ReturnConditionedPolicy(
            encoder(previous_space(space, actions), **arguments),
            GRU(5),
            actions,
            head_units=4,
            **{"target_return": 1.5, "return_scale": 2.0, **changes},
        )
    cls, sizes = MODELS[name]
    return cls(encoder(space, **arguments), actions, **{**sizes, **changes})


@functools.cache
def shared(name):
    policy = make(name)
    randomise(policy)
    return policy


def rows(policy, batch=BATCH, time=TIME, seed=0):
    """Random observations of shape `(batch, time, ...)`, actions one-hot."""
    flat = policy.sample_observation(batch * time, seed=seed)
    random = np.random.default_rng(seed)
    size = policy.observation_space["previous_action"].shape[0]
    flat["previous_action"] = np.eye(size, dtype="float32")[
        random.integers(size, size=batch * time)
    ]
    return tree.map_structure(lambda x: x.reshape(batch, time, *x.shape[1:]), flat)


def at(observations, t):
    return tree.map_structure(lambda x: x[:, t], observations)


def until(observations, t):
    return tree.map_structure(lambda x: x[:, :t], observations)


def length_of(policy):
    """As many steps as a row may have."""
    if isinstance(policy, DecisionTransformer):
        return policy.segment_length
    return TIME


@functools.cache
def compiled_policy(policy):
    return compiled(lambda x, target: policy(x, target_return=target))


def assert_close(received, expected, tolerance=1e-5):
    pairs = zip(tree.flatten(received), tree.flatten(expected), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(to_numpy(a), to_numpy(b), tolerance, tolerance)


@every_model
def test_steps_equal_the_row(name):
    policy = shared(name)
    time = length_of(policy)
    observations, target = rows(policy, time=time), np.array([1.0, -2.0], "float32")
    out, last = compiled_policy(policy)(observations, target)

    state = None
    for t in range(time):
        logits, value, state = policy.step(at(observations, t), state, None, target)
        assert_close(logits, out.logits[:, t])
        assert (value is None) == (out.value is None) == (name != RECURRENT)

    assert_close(state, last)
    assert np.ptp(to_numpy(out.logits), axis=1).max() > 0.01


@every_model
def test_a_start_empties_its_row_bit_for_bit(name):
    policy = shared(name)
    observations = rows(policy)
    for part in observations.values():
        part[0, 4] = np.nan  # what a broken sensor leaves behind
    state = None
    for t in range(5):
        _, _, state = policy.step(at(observations, t), state)
    fresh = policy.step(at(observations, 5))

    logits, _, new = policy.step(at(observations, 5), state, [True, False])
    plain, *_ = policy.step(at(observations, 5), state)

    assert (logits[0] == fresh[0][0]).all()
    for a, b in zip(tree.flatten(new), tree.flatten(fresh[2]), strict=True):
        np.testing.assert_array_equal(to_numpy(a)[0], to_numpy(b)[0])
    assert_close(logits[1], plain[1])
    assert abs(plain - fresh[0])[1].max() > 1e-4
    assert np.isnan(plain[0]).any()


@pytest.mark.parametrize("name", ["rate", RECURRENT])
def test_a_row_with_starts_equals_its_steps(name):
    policy = shared(name)
    observations, start = rows(policy, time=5), np.zeros((BATCH, 5), bool)
    start[0, 2] = start[1, 4] = True
    observations["previous_reward"][0, 1] = np.nan  # an episode that went wrong

    out, last = compiled(lambda x, s: policy(x, None, s))(observations, start)

    state = None
    for t in range(5):
        logits, _, state = policy.step(at(observations, t), state, start[:, t])
        assert_close(logits, out.logits[:, t])
    assert_close(state, last)
    assert np.isfinite(to_numpy(out.logits)[0, 2:]).all()


@every_model
def test_nothing_comes_from_later_steps(name):
    policy = shared(name)
    time = length_of(policy)
    observations, target = rows(policy, time=time), np.ones(BATCH, "float32")
    other = tree.map_structure(np.copy, observations)
    for key, x in rows(policy, time=time, seed=1).items():
        other[key][:, -1] = x[:, -1]

    (first, _), (second, _) = (
        compiled_policy(policy)(x, target) for x in (observations, other)
    )

    assert_close(first.logits[:, :-1], second.logits[:, :-1])
    assert abs(to_numpy(first.logits - second.logits)[:, -1]).max() > 1e-3


@with_memory
def test_the_memory_goes_from_segment_to_segment(name):
    """What was seen in the first segment changes the last."""
    policy = shared(name)
    observations, target = rows(policy), np.ones(BATCH, "float32")
    other = tree.map_structure(np.copy, observations)
    other["observation"][:, 0] *= -1.0

    (first, _), (second, _) = (
        compiled_policy(policy)(x, target) for x in (observations, other)
    )

    assert abs(to_numpy(first.logits - second.logits)[:, -1]).max() > 1e-5


@pytest.mark.parametrize("name", ["rate", "elmur", "dt_mem"])
@pytest.mark.parametrize("detach", [False, True], ids=["", "detached"])
def test_gradients_flow_through_the_memory_unless_it_is_detached(name, detach):
    policy = make(name, detach_memory=detach)
    randomise(policy)
    rest = rows(policy)
    seen = rest.pop("observation")

    _, (gradient,) = gradients(
        lambda x: policy({**rest, "observation": x})[0].logits,
        [seen],
        cotangents=lambda _: [np.arange(TIME)[None, :, None] >= 6],
    )

    assert np.abs(gradient[:, :3]).max() > 0.0 or detach
    assert not np.abs(gradient[:, :3]).any() or not detach
    assert np.abs(gradient[:, 6]).max() > 0.0


@every_model
def test_zeros_are_the_initial_state_and_weights_are_counted(name):
    policy = make(name)

    state = policy.initial_state(3)

    assert [tuple(x.shape) for x in state] == [(3, n) for n in policy.state_size]
    assert not any(to_numpy(x).any() for x in state)
    if name != RECURRENT:
        arguments = {key: getattr(policy, key) for key in policy.arguments}
        count = type(policy).count_weights(3, ACTIONS, **arguments)
        assert count == policy.count_params()
    assert policy.count_params() == sum(
        int(np.prod(w.shape)) for w in policy.trainable_weights
    )


@every_model
def test_a_preset_acts_alike(name, tmp_path):
    policy = shared(name)
    if name == RECURRENT:
        policy = make(name, normalize_observations=True)
        policy.normalizer.update(policy.sample_observation(9, seed=1))

    policy.save_to_preset(tmp_path / "a")
    copy = MemoryPolicy.from_preset(tmp_path / "a")
    copy.save_to_preset(tmp_path / "b")

    assert type(copy) is type(policy)
    configs = [(tmp_path / x / "config.json").read_text() for x in "ab"]
    assert configs[0] == configs[1]
    assert copy.observation_space == policy.observation_space
    assert (copy.target_return, copy.return_scale) == (1.5, 2.0)
    for a, b in zip(copy.get_weights(), policy.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    observation = policy.sample_observation(2, seed=0)
    assert_close(copy.step(observation)[0], policy.step(observation)[0])
    again = type(policy).from_config(policy.get_config())
    assert again.state_size == policy.state_size
    assert type(Policy.from_preset(tmp_path / "a", load_weights=False)) is type(policy)


@pytest.mark.once
def test_a_policy_with_too_large_a_state_is_not_saved(tmp_path):
    policy = make("rate", cache_length=2**21, hidden_dim=8)

    with pytest.raises(ValueError, match=r"at most 16,777,216 .* Received: 16,7"):
        policy.save_to_preset(tmp_path / "preset")
    assert not (tmp_path / "preset").exists()


def test_a_preset_of_another_class_is_refused(tmp_path):
    shared("rate").save_to_preset(tmp_path)

    with pytest.raises(ValueError, match=r"preset of ELMUR. Received: .* of RATE"):
        ELMUR.from_preset(tmp_path)
    with pytest.raises(ValueError, match="Received: none of"):
        keras_agalite.presets.Preset.find(tmp_path)


@every_model
def test_the_target_may_be_another(name):
    policy = shared(name)
    observation = policy.sample_observation(2, seed=0)

    own, *_ = policy.step(observation)
    same, *_ = policy.step(observation, target_return=1.5)
    other, *_ = policy.step(observation, target_return=[1.5, 7.0])

    assert_close(same, own, 0)
    assert_close(other[0], own[0], 0)
    assert abs(other[1] - own[1]).max() > 1e-3
    action, _ = policy.act(observation, deterministic=True, target_return=[1.5, 7.0])
    np.testing.assert_array_equal(action, other.argmax(-1) + 1)


def test_rewards_leave_less_to_reach():
    policy = shared("rate")
    observations = rows(policy, time=3)
    observations["previous_reward"][:, :, 0] = [9.0, 0.5, 0.25]  # the 9 is not its own
    entries = policy._parts(to_numpy(policy(observations)[1][0]).reshape(BATCH, 3, -1))

    # Halves of what is left of 1.5.
    np.testing.assert_allclose(entries[-1][:, :, 0], [[0.75, 0.5, 0.375]] * BATCH)


@pytest.mark.parametrize(
    ("space", "actions", "encoder"),
    [
        (VECTOR, spaces.MultiDiscrete([2, 3]), MLPEncoder),
        (
            spaces.Dict({"image": IMAGE, "a": VECTOR}),
            spaces.Box(-1, 1, (2,)),
            ResNetEncoder,
        ),
    ],
    ids=["multi_discrete", "image_and_box"],
)
@pytest.mark.parametrize("name", ["rate", RECURRENT])
def test_spaces_of_other_kinds(name, space, actions, encoder):
    policy = make(name, space, actions, encoder)
    observations = rows(policy, time=3)

    out, _ = policy(observations)
    action, _ = policy.act(at(observations, 0), deterministic=True)

    assert out.logits.shape == (BATCH, 3, policy.actor.num_action_params)
    assert all(actions.contains(row) for row in action)
    taken = np.stack([np.stack([actions.sample() for _ in range(3)])] * BATCH)
    loss = to_numpy(policy.actor.imitation_loss(out.logits, taken))
    assert loss.shape == (BATCH, 3)
    assert (loss > 0).all()


@pytest.mark.parametrize("name", ["rate", RECURRENT])
def test_illegal_actions_have_no_chance(name):
    mask = spaces.MultiBinary(3)
    policy = make(name, spaces.Dict({"board": VECTOR, "action_mask": mask}))
    observations = rows(policy, time=3)
    observations["action_mask"][:] = [0, 1, 0]

    out, _ = policy(observations)
    action, _ = policy.act(at(observations, 0), seed=0)

    assert (to_numpy(out.logits)[..., [0, 2]] == -1e9).all()
    assert (action == ACTIONS.start + 1).all()
    loss = policy.actor.imitation_loss(out.logits, np.full((BATCH, 3), action[0]))
    np.testing.assert_allclose(to_numpy(loss), 0, atol=1e-6)
    observations["action_mask"][:] = 0
    with pytest.raises(ValueError, match="`action_mask` must leave an action"):
        policy.act(at(observations, 0))


def test_the_loss_of_a_box_is_half_the_squared_error():
    policy = make("rate", actions=spaces.Box(-1, 1, (2,)))
    params = ops.convert_to_tensor([[0.5, -0.5, 3.0, 3.0]])

    loss = policy.actor.imitation_loss(params, np.array([[1.0, 1.0]], "float32"))

    assert_close(loss, [0.5 * (0.25 + 2.25)])


def test_without_a_target_there_are_no_return_tokens():
    policy = make("rate", target_return=None, action_tokens=False)
    observation = policy.sample_observation(2, seed=0)

    assert policy.tokens_per_step == 1
    assert policy.act(observation)[0].shape == (2,)
    with pytest.raises(
        ValueError, match=r"made without one. Received: target_return=1"
    ):
        policy.act(observation, target_return=1.0)


def test_dropout_follows_from_its_seed():
    policy = make("rate", dropout=0.5, attention_dropout=0.5)
    randomise(policy)
    observations = rows(policy)

    def run(seed):
        return to_numpy(policy(observations, training=True, seed=seed)[0].logits)

    first, same, other = run(3), run(3), run(4)

    np.testing.assert_array_equal(first, same)
    assert (first != other).any()
    assert_close(run(np.array(3, "int32")), first)
    with pytest.raises(ValueError, match=r"where there is dropout.*seed=None"):
        policy(observations, training=True)


@pytest.mark.once
def test_a_rollout_gives_what_the_policy_needs():
    space = keras_agalite.environments.make("tmaze_10").observation_space
    policy = RATE(MLPEncoder(space), spaces.Discrete(4), **RATE_SIZES)

    score = keras_agalite.evaluate(policy, "tmaze_10", episodes=3)

    assert len(score["returns"]) == 3


@pytest.mark.once
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segment_length": 0}, "segment_length=0"),
        ({"target_return": float("nan")}, "target_return=nan"),
        ({"target_return": 10**400}, "target_return=1000"),
        ({"target_return": 1e39}, r"target_return=1e\+39"),
        ({"target_return": True}, "target_return=True"),
        ({"return_scale": 0.0}, "return_scale=0.0"),
        ({"return_scale": 1e-40}, "return_scale=1e-40"),
        ({"target_return": 1e30, "return_scale": 1e-30}, "return_scale=1e-30"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"valve": "tap"}, "valve='tap'"),
        ({"valve_heads": 3}, "valve_heads=3"),
        ({"memory_tokens": 0}, "memory_tokens=0, cache_length=0"),
        ({"cache_length": -1}, "cache_length=-1"),
        ({"detach_memory": 1}, "detach_memory=1"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_arguments_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=f"Received: .*{message}"):
        make("rate", **change)


@pytest.mark.once
def test_returns_may_be_numbers_of_numpy(tmp_path):
    policy = make(RECURRENT, target_return=np.float32(2), return_scale=np.int64(4))
    policy.save_to_preset(tmp_path / "preset")

    loaded = Policy.from_preset(tmp_path / "preset")

    assert (loaded.target_return, loaded.return_scale) == (2.0, 4.0)


@pytest.mark.once
def test_rows_that_do_not_fit_are_refused():
    window, policy = shared("decision_transformer"), shared("rate")
    with pytest.raises(ValueError, match=r"segment_length=3 .*Received: 4"):
        window(rows(window, time=4))
    with pytest.raises(ValueError, match=r"\(batch, time\).*shape=\(3,\)"):
        policy(rows(policy), target_return=np.zeros(3, "float32"))
    with pytest.raises(ValueError, match=r"`target_return` must have.*shape=\(3,\)"):
        policy.act(policy.sample_observation(2), target_return=[1.0, 2.0, 3.0])
    for target in (float("nan"), [1.0, float("inf")], 1e39, 10**400, "high"):
        with pytest.raises(ValueError, match="`target_return` must be a number or an"):
            policy.act(policy.sample_observation(2), target_return=target)
    for model in (policy, shared(RECURRENT)):
        for start in (np.zeros((BATCH, TIME + 1), bool), np.zeros((1, TIME), bool)):
            with pytest.raises(ValueError, match=r"`start` must have the shape"):
                model(rows(model), start=start)
        with pytest.raises(ValueError, match="`observations` and `state` must have"):
            model(rows(model), model.initial_state(1))
    with pytest.raises(ValueError, match="without the keys previous_action and"):
        make("rate", space=policy.observation_space)
    with pytest.raises(ValueError, match="with `previous_reward`"):
        ReturnConditionedPolicy(MLPEncoder(VECTOR), GRU(5), ACTIONS, target_return=1.0)


@pytest.mark.parametrize("name", ["rate", "elmur", "dt_mem"])
def test_the_state_is_float32_under_mixed_precision(name):
    policy = make(name, dtype="mixed_bfloat16")
    observation = policy.sample_observation(2, seed=0)

    state = None
    for _ in range(4):  # beyond a segment
        logits, _, state = policy.step(observation, state)

    assert np.isfinite(logits).all()
    assert {keras.backend.standardize_dtype(x.dtype) for x in state} == {"float32"}
    out, last = policy(rows(policy))
    assert out.logits.shape == (BATCH, TIME, 3)
    assert {keras.backend.standardize_dtype(x.dtype) for x in last} == {"float32"}
