"""Actions that a mask forbids are impossible, and nothing else changes."""

import keras
import numpy as np
import pytest
from gymnasium import spaces

from keras_agalite.action_masks import has_action, mask_sizes, random_actions
from keras_agalite.models import MLPEncoder
from keras_agalite.models.action_heads import DiscreteHead, mask_logits
from tests.helpers import gradients, to_numpy
from tests.models.conftest import VECTOR, make_policy, randomise

ACTIONS = {
    "discrete": spaces.Discrete(5, start=2),
    "multi_discrete": spaces.MultiDiscrete([2, 3], start=[0, -1]),
}
every_action = pytest.mark.parametrize("action_space", ACTIONS.values(), ids=ACTIONS)
FLAGS = {
    "multi_binary": spaces.MultiBinary(5),
    "int8": spaces.Box(0, 1, (5,), np.int8),
    "bool": spaces.Box(0, 1, (5,), np.bool_),
    "float32": spaces.Box(0.0, 1.0, (5,), np.float32),
}


def masked(mask=FLAGS["int8"]):
    return spaces.Dict({"view": VECTOR, "action_mask": mask})


def make_masked(action_space, mask=FLAGS["int8"], **kwargs):
    policy = make_policy("gru", masked(mask), action_space, **kwargs)
    randomise(policy)
    return policy


def observe(policy, mask, rows):
    observation = policy.sample_observation(rows, seed=0)
    return {**observation, "action_mask": np.tile(mask, (rows, 1))}


def legal(action_space, mask):
    """The legal actions, as lists."""
    if isinstance(action_space, spaces.Discrete):
        return [2 + i for i in range(5) if mask[i]]
    return [[i, j - 1] for i in range(2) for j in range(3) if mask[i] and mask[2 + j]]


@every_action
def test_only_legal_actions_are_chosen(action_space):
    policy, mask = make_masked(action_space), [0, 1, 1, 0, 1]
    observation, allowed = observe(policy, mask, 200), legal(action_space, mask)

    drawn, _ = policy.act(observation, seed=0)
    greedy, _ = policy.act(observation, deterministic=True)

    assert all(action in allowed for action in greedy.tolist())
    assert {str(x) for x in drawn.tolist()} == {str(x) for x in allowed}


@pytest.mark.once
@pytest.mark.parametrize("mask", FLAGS.values(), ids=FLAGS)
def test_a_mask_may_have_any_dtype(mask):
    policy = make_masked(ACTIONS["discrete"], mask)
    observation = observe(policy, np.array([0, 0, 0, 1, 0], mask.dtype), 3)

    assert policy.act(observation, seed=0)[0].tolist() == [5, 5, 5]


@every_action
def test_the_distribution_is_that_of_the_legal_actions(action_space):
    policy, mask = make_masked(action_space), np.array([1, 0, 1, 0, 1])
    free, _, _ = policy.step(observe(policy, np.ones(5, int), 4))
    logits, _, _ = policy.step(observe(policy, mask, 4))

    np.testing.assert_array_equal(logits[:, mask > 0], free[:, mask > 0])
    head, entropy, parts = policy.actor, 0.0, []
    for part, allowed in zip(
        np.split(free, head.splits, -1), np.split(mask, head.splits), strict=True
    ):
        weights = np.where(allowed, np.exp(part.astype(float)), 0.0)
        parts.append(weights / weights.sum(-1, keepdims=True))
        entropy -= np.sum(parts[-1] * np.log(np.where(allowed, parts[-1], 1.0)), -1)
    np.testing.assert_allclose(to_numpy(head.entropy(logits)), entropy, rtol=1e-4)
    for action in legal(action_space, mask):
        places = np.atleast_1d(action) - head.starts
        expected = sum(
            np.log(part[:, i]) for part, i in zip(parts, places, strict=True)
        )
        received = to_numpy(head.log_prob(logits, np.array([action] * 4)))
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5)


def test_gradients_are_finite_and_zero_where_masked():
    head = DiscreteHead(spaces.Discrete(4))
    logits = np.array([[0.3, -2.0, 1.0, 0.5]], "float32")
    mask = np.array([[1, 0, 1, 0]])

    def objective(x):
        x = mask_logits(x, keras.ops.convert_to_tensor(mask))
        return head.entropy(x) + head.log_prob(x, np.array([2]))

    _, (grad, *_) = gradients(objective, [logits], [], lambda y: [np.ones(1)])

    assert np.isfinite(grad).all()
    np.testing.assert_array_equal(grad == 0.0, mask == 0)


def test_an_encoder_does_not_see_the_mask():
    policy = make_masked(ACTIONS["discrete"])

    values = [
        policy.step(observe(policy, mask, 3))[1]
        for mask in ([1, 1, 1, 1, 1], [0, 0, 1, 0, 0])
    ]

    assert MLPEncoder(masked()).output_size == 3
    np.testing.assert_array_equal(*values)


def test_a_mask_that_leaves_nothing_is_refused():
    policy = make_masked(ACTIONS["multi_discrete"])
    observation = observe(policy, [1, 1, 1, 1, 1], 3)
    observation["action_mask"][1] = [1, 1, 0, 0, 0]

    with pytest.raises(ValueError, match=r"in each part.*in the rows \[1\]"):
        policy.act(observation)


def test_a_masked_policy_survives_a_preset(tmp_path):
    policy = make_masked(ACTIONS["multi_discrete"], FLAGS["multi_binary"])
    policy.save_to_preset(tmp_path)
    copy = type(policy).from_preset(tmp_path)
    observation = observe(policy, [1, 0, 0, 1, 1], 3)

    assert copy.mask_sizes == [2, 3]
    for x, y in zip(
        copy.step(observation)[:2], policy.step(observation)[:2], strict=True
    ):
        np.testing.assert_allclose(x, y, rtol=1e-6)


@pytest.mark.once
@pytest.mark.parametrize(
    ("mask", "action_space", "message"),
    [
        (FLAGS["int8"], spaces.Discrete(4), r"MultiBinary\(4\) or a Box from 0 to 1"),
        (FLAGS["int8"], spaces.MultiDiscrete([5, 5]), r"MultiBinary\(10\)"),
        (spaces.Box(-1, 1, (5,), np.int8), spaces.Discrete(5), "from 0 to 1"),
        (spaces.Discrete(5), spaces.Discrete(5), "from 0 to 1"),
        (FLAGS["int8"], spaces.Box(-1, 1, (5,)), "rename the part"),
        (FLAGS["int8"], spaces.MultiBinary(5), "rename the part"),
    ],
    ids=str,
)
def test_masks_that_do_not_fit_are_refused(mask, action_space, message):
    with pytest.raises(ValueError, match=f"{message}.*Received: action_mask="):
        make_policy("gru", masked(mask), action_space)


@pytest.mark.once
def test_a_mask_deeper_down_is_a_feature():
    space = spaces.Dict({"player": masked()})

    assert mask_sizes(space, spaces.Discrete(5)) is None
    assert MLPEncoder(space).output_size == 8


@pytest.mark.once
def test_an_action_head_needs_a_logit_for_each_flag():
    class Wide(DiscreteHead):
        def __init__(self, action_space, **kwargs):
            super().__init__(action_space, **kwargs)
            self.num_action_params = 7

    policy = make_policy("gru", masked(), ACTIONS["discrete"])
    with pytest.raises(ValueError, match="parameters are 5 logits"):
        type(policy)(
            policy.encoder, policy.memory, ACTIONS["discrete"],
            actor=Wide(ACTIONS["discrete"]),
        )  # fmt: skip


@pytest.mark.once
@every_action
def test_random_actions_are_legal_and_even(action_space):
    mask = np.tile([0, 1, 1, 0, 1], (3000, 1))

    drawn = random_actions(mask, action_space, np.random.default_rng(0)).tolist()

    allowed = legal(action_space, mask[0])
    counts = [drawn.count(action) for action in allowed]
    assert sum(counts) == len(drawn)
    assert min(counts) > 0.9 * len(drawn) / len(allowed)


@pytest.mark.once
def test_what_a_mask_leaves_is_told_row_by_row():
    mask = np.array([[[1, 0, 0, 0, 1], [1, 1, 0, 0, 0]]])

    np.testing.assert_array_equal(has_action(mask, [2, 3]), [[True, False]])
