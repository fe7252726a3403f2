"""The bandit over allocation strategies, and policies that differ in theirs alone."""

import keras
import numpy as np
import pytest
from gymnasium import spaces

from keras_agalite import GRU, MemoryPolicy, MLPEncoder, SpatialMemory
from keras_agalite.models import AdaptiveMemoryAllocator, with_strategy
from keras_agalite.ops.place_memory import allocate
from tests.helpers import compiled, to_numpy

STRATEGIES = AdaptiveMemoryAllocator.strategies
# Places of nine steps, and the step whose item one strategy alone still holds in the
# end, of a memory of four; in the order of the strategies.
TASKS = (
    ([2, 3, 1, 3, 1, 2, 1, 1, 3], 6),
    ([2, 2, 1, 2, 3, 2, 2, 2, 2], 0),
    ([1, 1, 3, 2, 3, 3, 3, 1, 3], 4),
    ([2, 2, 1, 2, 3, 2, 2, 2, 2], 4),
)
SPACE = spaces.Dict(
    {
        "view": spaces.Box(-1.0, 1.0, (3,), np.float32),
        "place_id": spaces.Discrete(4),
    }
)


def make_policy(memory=None):
    memory = memory or SpatialMemory(
        1, hidden_dim=8, num_heads=2, capacity=4, intermediate_dim=8
    )
    return MemoryPolicy(MLPEncoder(SPACE), memory, spaces.Discrete(2), head_units=4)


@pytest.fixture(scope="module")
def rewards():
    """By strategy and task: 1 where the item of the step is held in the end, else 0."""
    places = np.array([places for places, _ in TASKS], np.float32)
    empty = [np.zeros((len(TASKS), size), np.float32) for size in (4, 4, 1, 1)]

    def times_held(place, *state):
        return [allocate(place, list(state), name)[2][1] for name in STRATEGIES]

    times = np.stack(to_numpy(compiled(times_held)(places, *empty)))
    steps = np.array([[step] for _, step in TASKS])
    return (times == steps).any(axis=2).astype(np.float32)


def test_a_strategy_holds_what_the_others_let_go(rewards):
    np.testing.assert_array_equal(rewards, np.eye(4))


def test_it_converges_to_the_best_strategy_of_each_task(rewards):
    keras.utils.set_random_seed(0)
    allocator = AdaptiveMemoryAllocator(4, learning_rate=0.01, epsilon_steps=150)
    random = np.random.default_rng(0)
    assert allocator.epsilon == 1.0
    for _ in range(200):
        tasks = random.integers(4, size=8)
        chosen = allocator.choose(tasks, seed=random)
        noise = random.normal(scale=0.3, size=8)
        earned = rewards[[STRATEGIES.index(name) for name in chosen], tasks]
        allocator.learn(tasks, chosen, earned + noise)
    best = allocator.choose(np.arange(4), deterministic=True)

    assert best == list(STRATEGIES)
    assert allocator.epsilon == pytest.approx(0.2)
    values = to_numpy(allocator(np.arange(4)))
    np.testing.assert_allclose(np.diag(values), 1.0, atol=0.3)


@pytest.mark.once
def test_copies_have_the_weights_and_share_a_state():
    policy = make_policy()
    copy = with_strategy(policy, "mvfo")
    observation = policy.sample_observation(2, seed=0)
    action, state = policy.act(observation, deterministic=True)

    assert copy.memory.cell_config == {**policy.memory.cell_config, "strategy": "mvfo"}
    for one, other in zip(policy.get_weights(), copy.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    same, other_state = copy.act(observation, deterministic=True)
    np.testing.assert_array_equal(same, action)
    for one, other in zip(state, other_state, strict=True):
        np.testing.assert_array_equal(to_numpy(one), to_numpy(other))
    copy.act(observation, state)  # and goes on from the other's


def test_the_loss_is_that_of_what_was_chosen():
    allocator = AdaptiveMemoryAllocator(3, units=4)
    values = to_numpy(allocator(np.array([2, 0])))
    expected = 0.1 * np.mean([(values[0, 1] - 2.0) ** 2, (values[1, 3] + 1.0) ** 2])

    loss = allocator.learn([2, 0], ["lifo", "mvfo"], [2.0, -1.0])

    assert loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.once
def test_it_is_saved_with_what_it_has_learnt(tmp_path):
    allocator = AdaptiveMemoryAllocator(2, units=4, epsilon_steps=10)
    allocator.learn([0, 1], ["fifo", "mvfo"], [1.0, -1.0])
    allocator.save(tmp_path / "allocator.keras")

    loaded = keras.models.load_model(tmp_path / "allocator.keras")

    assert loaded.epsilon == allocator.epsilon == pytest.approx(0.92)
    tasks = np.array([0, 1])
    np.testing.assert_array_equal(to_numpy(loaded(tasks)), to_numpy(allocator(tasks)))


@pytest.mark.once
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: a.choose([2]), r"`tasks` must be .* 0 to 1.*Received: tasks="),
        (lambda a: a.choose([0.0]), r"Received: tasks="),
        (lambda a: a.learn([0], ["fifo"], [1.0, 2.0]), "Received: strategies="),
        (lambda a: a.learn([0], ["fifo"], [np.nan]), r"rewards=array\(\[nan\]"),
        (lambda a: a.learn([0], ["gifo"], [1.0]), r"Received: \['gifo'\]"),
        (lambda a: AdaptiveMemoryAllocator(0), "Received: num_tasks=0"),
        (
            lambda a: AdaptiveMemoryAllocator(1, last_epsilon=2.0),
            "Received: last_epsilon=2.0",
        ),
        (lambda a: with_strategy(make_policy(), "gifo"), "Received: strategy='gifo'"),
        (
            lambda a: with_strategy(make_policy(GRU(4)), "fifo"),
            "must have a SpatialMemory",
        ),
    ],
)
def test_what_does_not_exist_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(AdaptiveMemoryAllocator(2, units=4))
