"""Functional environments: their protocol, batches of them, and what they equal."""

import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

jax = pytest.importorskip("jax")

from keras_agalite import environments  # noqa: E402
from keras_agalite.environments import (  # noqa: E402
    catalog,
    functional,
    functional_vector,
    tmaze,
    wrappers,
)
from keras_agalite.environments.functional import (  # noqa: E402
    FunctionalEnv,
    FunctionalSingleEnv,
    FunctionalVectorEnv,
    make_functional,
)
from tests.environments.test_registry import ENVIRONMENTS  # noqa: E402

pytestmark = pytest.mark.once

GYMNAX = pytest.mark.environments("gymnax")
CRAFTAX = pytest.mark.environments("craftax")
MAZES = [name for name in ENVIRONMENTS if name.startswith("fast_memory_maze")]
# Name -> arguments; a compilation costs seconds, so one of a family stands for it.
CASES = {
    "tmaze_5": {},
    "passive_tmaze_4": {"random_length": True},
    "repeat_first_easy": {},
    "repeat_previous_easy": {},
    "memory_chain": {"memory_length": 3},
    "gymnax:UmbrellaChain-bsuite": {"chain_length": 4, "n_distractor": 2},
    "gymnax:CartPole-v1": {},
    "gymnax:Pendulum-v1": {},
    "gymnax:FrozenLake-misc": {},
}
PARAMETERS = [
    pytest.param(
        *case,
        marks=[GYMNAX] if case[0].startswith(("memory_chain", "gymnax")) else [],
        id=case[0],
    )
    for case in CASES.items()
]
ACTION_SPACES = {
    "discrete": spaces.Discrete(3),
    "discrete_from_2": spaces.Discrete(3, start=2),
    "multi_discrete": spaces.MultiDiscrete([2, 3]),
    "box": spaces.Box(-1.0, 1.0, (2, 2), np.float32),
}
jnp = jax.numpy


class Echo(FunctionalEnv):
    """Shows the steps and a random number; pays the sum of the action, and half."""

    max_episode_steps = 4

    def __init__(self, action_space, nested=False, costly=False):
        self.action_space = action_space
        self.nested = nested
        self.costly_reset = costly
        box = spaces.Box(0.0, 100.0, (2,), np.float32)
        self.observation_space = spaces.Dict({"a": box}) if nested else box

    def reset(self, key):
        return jnp.array([0.0, jax.random.uniform(key)])

    def step(self, key, state, action):
        state = jnp.array([state[0] + 1, jax.random.uniform(key)])
        total = jnp.sum(jnp.asarray(action, jnp.float32))
        return state, total + 0.5, state[1] > 0.9, {"success": state[1] > 0.5}

    def observe(self, state):
        return {"a": state} if self.nested else state


def equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def check_vector(env, limit, steps, number=3):
    """Steps a vector beside single environments; counts what ended."""
    vector = FunctionalVectorEnv(env, number, limit)
    singles = [FunctionalSingleEnv(env, limit) for _ in range(number)]
    many, info = vector.reset(seed=5)
    one = [single.reset(seed=5 + i)[0] for i, single in enumerate(singles)]
    assert info == {}
    vector.action_space.seed(0)
    ended, length, counts = np.zeros(number, bool), np.zeros(number, int), [0, 0]
    for _ in range(steps):
        assert vector.observation_space.contains(many)
        for i in range(number):
            assert env.observation_space.contains(one[i])
            equal(jax.tree.map(lambda x, i=i: x[i], many), one[i])
        actions = vector.action_space.sample()
        many, reward, terminated, truncated, info = vector.step(actions)
        length = np.where(ended, 0, length + 1)
        assert reward.dtype == np.float32
        assert not reward[ended].any()
        assert not (terminated | truncated)[ended].any()
        np.testing.assert_array_equal(truncated, (length == limit) & ~terminated)
        for i, single in enumerate(singles):
            if ended[i]:
                one[i], single_info = single.reset()
                assert single_info == {}
                assert not any(info[key][i] for key in info if key[0] != "_")
                continue
            one[i], *rest, single_info = single.step(actions[i])
            assert rest == [reward[i], terminated[i], truncated[i]]
            assert [type(x) for x in rest] == [float, bool, bool]
            equal({key: info[key][i] for key in single_info}, single_info)
            assert all(info[f"_{key}"].all() for key in single_info)
        ended = terminated | truncated
        counts = [counts[0] + terminated.sum(), counts[1] + truncated.sum()]
    vector.close()
    return counts


@pytest.mark.parametrize(("name", "arguments"), PARAMETERS)
class TestEveryEnvironment:
    def test_a_state_keeps_its_structure(self, name, arguments):
        env = make_functional(name, **arguments)
        key = jax.random.key(0)

        def play(key):
            state = jax.tree.map(jnp.asarray, env.reset(key))
            return state, env.step(key, state, env.action_space.sample())

        state, (after, reward, terminated, info) = jax.eval_shape(play, key)
        keys = jax.random.split(key, 4)
        many = jax.eval_shape(jax.vmap(play), keys)

        def describe(tree):
            return jax.tree.map(lambda x: (x.shape, x.dtype), tree)

        assert describe(state) == describe(after)
        for leaf in jax.tree.leaves(state):
            assert not jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
        assert (reward.shape, reward.dtype) == ((), np.float32)
        assert (terminated.shape, terminated.dtype) == ((), bool)
        assert isinstance(info, dict)
        for one, batch in zip(
            jax.tree.leaves((state, after)),
            jax.tree.leaves((many[0], many[1][0])),
            strict=True,
        ):
            assert batch.shape == (4, *one.shape)
        assert env.max_episode_steps > 0

    def test_a_vector_equals_single_environments(self, name, arguments):
        limit = 6
        terminated, truncated = check_vector(
            functional_vector.cached_env(name, **arguments), limit, steps=30
        )

        if name in ("memory_chain", "passive_tmaze_4", "gymnax:UmbrellaChain-bsuite"):
            assert terminated > 0
            assert truncated == 0
        else:
            assert truncated > 0

    # Bounds of a physical quantity may be infinite.
    @pytest.mark.filterwarnings("ignore:.*(minimum|maximum) value is -?infinity")
    @pytest.mark.filterwarnings("ignore:.*For Box action spaces")
    def test_gymnasium_finds_no_fault(self, name, arguments):
        env = functional_vector.cached_env(name, **arguments)
        check_env(FunctionalSingleEnv(env), skip_render_check=True)

    def test_gymnasium_makes_it(self, name, arguments):
        if "tmaze" in name:
            return  # that of gymnasium is another
        env = environments.make(name, **arguments)
        vector = environments.make_vec(name, 3, max_episode_steps=2, **arguments)

        assert isinstance(env.unwrapped, FunctionalSingleEnv)
        assert isinstance(vector, FunctionalVectorEnv)
        assert vector.env is env.unwrapped.vector.env  # so what is compiled is shared
        observation, _ = env.reset(seed=3)
        many, _ = vector.reset(seed=[3, 4, 5])
        np.testing.assert_array_equal(many[0], observation)
        vector.step(vector.action_space.sample())
        *_, terminated, truncated, _ = vector.step(vector.action_space.sample())
        assert (terminated | truncated).all()
        assert env.spec.id.startswith("keras_agalite/")


@pytest.mark.parametrize(
    ("nested", "costly"), [(False, True), (True, False)], ids=["costly", "dict"]
)
def test_episodes_end_in_every_way(nested, costly):
    env = Echo(spaces.Discrete(3), nested, costly)

    terminated, truncated = check_vector(env, 4, steps=80, number=5)

    assert terminated > 0
    assert truncated > 0


class TestFunctionalVectorEnv:
    ENV = Echo(spaces.Discrete(3))

    def test_seeds(self):
        vector = FunctionalVectorEnv(self.ENV, 3)
        with pytest.raises(gymnasium.error.ResetNeeded):
            vector.step(np.zeros(3, int))
        by_number, _ = vector.reset(seed=7)
        by_list, _ = vector.reset(seed=[7, 8, 9])
        some, _ = vector.reset(seed=[None, 8, None])
        on, _ = vector.reset()

        np.testing.assert_array_equal(by_number, by_list)
        np.testing.assert_array_equal(some[1], by_list[1])
        for other in (some[[0, 2]] == by_list[[0, 2]], on == some):
            assert not other[:, 1].any()
        with pytest.raises(ValueError, match=r"Received: seed=\[1, 2\]"):
            vector.reset(seed=[1, 2])
        vector.close()
        with pytest.raises(gymnasium.error.ResetNeeded):
            vector.step(np.zeros(3, int))

    def test_a_vector_without_seed_is_random(self):
        one, other = (FunctionalVectorEnv(self.ENV, 2).reset()[0] for _ in range(2))
        assert not (one == other)[:, 1].any()

    def test_mode_and_limit(self):
        vector = FunctionalVectorEnv(self.ENV, 2)

        mode = vector.metadata["autoreset_mode"]
        assert mode is gymnasium.vector.AutoresetMode.NEXT_STEP
        assert vector.limit == 4
        for bad in (0, -1):
            with pytest.raises(ValueError, match=f"max_episode_steps={bad}"):
                FunctionalVectorEnv(self.ENV, 2, bad)
            with pytest.raises(ValueError, match=f"num_envs={bad}"):
                FunctionalVectorEnv(self.ENV, bad)

    @pytest.mark.parametrize(
        ("actions", "message"),
        [
            ([0, 0, 0], r"Received: actions.shape=\(3,\)"),
            ([0, 3], r"Received: actions=array"),
            ([-1, 0], r"Received: actions=array"),
            ([0, 2**32], r"Received: actions=array"),
            ([0.0, 1.0], r"Received: actions=array"),
            ([1.5, 0], r"Received: actions=array"),
            ([np.nan, 0], r"Received: actions=array"),
        ],
    )
    def test_bad_actions_are_refused(self, actions, message):
        vector = FunctionalVectorEnv(self.ENV, 2)
        vector.reset(seed=0)

        with pytest.raises(ValueError, match=message):
            vector.step(actions)

    def test_actions_of_a_box_are_finite_numbers(self):
        vector = FunctionalVectorEnv(Echo(ACTION_SPACES["box"]), 1)
        vector.reset(seed=0)

        vector.step(np.full((1, 2, 2), 7.0))  # the bounds are left to the environment
        for bad in (np.nan, np.inf):
            with pytest.raises(ValueError, match="Received: actions="):
                vector.step(np.full((1, 2, 2), bad))

    def test_what_was_returned_stays(self):
        vector = FunctionalVectorEnv(self.ENV, 2)
        first, _ = vector.reset(seed=0)
        kept = first.copy()
        second, *_ = vector.step([0, 0])
        again = second.copy()
        vector.step([0, 0])

        np.testing.assert_array_equal(first, kept)
        np.testing.assert_array_equal(second, again)
        first[:] = 7  # and is the caller's


def test_a_render_mode_needs_an_image():
    env = FunctionalSingleEnv(Echo(spaces.Discrete(2)))
    assert env.render() is None
    with pytest.raises(ValueError, match="Received: render_mode='rgb_array'"):
        FunctionalSingleEnv(Echo(spaces.Discrete(2)), render_mode="rgb_array")
    with pytest.raises(ValueError, match="Received: render_mode='human'"):
        FunctionalVectorEnv(Echo(spaces.Discrete(2)), render_mode="human")


class Draws:
    """In place of a Generator: gives what the functional environment drew."""

    def integers(self, high, size=None):
        assert high == 2
        return self.goal if size is None else self.distractors

    def take(self, state):
        self.goal = int(state.goal)
        self.distractors = np.asarray(state.distractors)


@pytest.mark.parametrize(
    ("corridor", "distractors"), [(2, 6), (5, 3), (11, 0), (300, 1)]
)
def test_tmaze_equals_the_gymnasium_one(corridor, distractors):
    limit = 12
    env = functional.TMaze(corridor, distractors)
    vector = FunctionalVectorEnv(env, 1, limit)
    plain = tmaze.TMaze(corridor, distractors)
    plain._np_random = draws = Draws()
    limited = gymnasium.wrappers.TimeLimit(plain, limit)
    generator = np.random.default_rng(corridor)
    ends = set()

    def state():
        return jax.tree.map(lambda x: np.asarray(x[0]), vector.carry[1].state)

    shown, _ = vector.reset(seed=0)
    ended = False
    draws.take(state())
    expected, _ = limited.reset()
    for _ in range(400):
        np.testing.assert_array_equal(shown[0], expected)
        assert bool(vector.carry[1].start[0]) == bool(shown[0, :2].any())
        action = int(generator.choice(4, p=[0.15, 0.15, 0.15, 0.55]))
        shown, reward, terminated, truncated, info = vector.step([action])
        draws.take(state())
        if ended:
            expected, _ = limited.reset()
            ended = False
            continue
        expected, pay, *over, success = limited.step(action)
        assert reward[0] == np.float32(pay)
        # gymnasium's wrapper calls an end at the last moment both.
        assert (terminated[0], truncated[0]) == (over[0], over[1] and not over[0])
        assert info["success"][0] == success["success"]
        ended = any(over)
        if ended:
            ends.add((over[0], bool(success["success"])))

    assert (False, False) in ends
    assert ends == {(False, False)} or corridor < 300
    assert corridor > 5 or ends == {(False, False), (True, True), (True, False)}
    assert env.observation_space == plain.observation_space
    assert env.action_space == plain.action_space


@pytest.mark.parametrize(
    ("action_space", "nested"),
    [(name, name == "discrete") for name in ACTION_SPACES],
)
def test_previous_action_and_reward_equal_the_gymnasium_wrapper(action_space, nested):
    env = Echo(ACTION_SPACES[action_space], nested)
    inside = FunctionalSingleEnv(functional.PreviousActionReward(env))
    outside = wrappers.PreviousActionReward(FunctionalSingleEnv(env))
    inside.action_space.seed(0)
    kinds = set()

    assert inside.observation_space == outside.observation_space
    equal(inside.reset(seed=1), outside.reset(seed=1))
    for _ in range(25):
        action = inside.action_space.sample()
        one, other = inside.step(action), outside.step(action)
        equal(one, other)
        assert inside.observation_space.contains(one[0])
        kinds.add(one[2:4])
        if one[2] or one[3]:
            equal(inside.reset(), outside.reset())
    assert kinds > {(False, False)}


class Shuffled:
    """In place of a Generator: shuffles a deck so that it deals these suits."""

    def __init__(self, suits):
        of_suit = [iter(range(suit, len(suits), 4)) for suit in range(4)]
        # POPGym deals from the end.
        self.order = [next(of_suit[suit]) for suit in suits][::-1]

    def shuffle(self, cards):
        cards[:] = self.order


REPEAT = {
    "repeat_first_easy": ("RepeatFirstEasy", 51),
    "repeat_first_medium": ("RepeatFirstMedium", 415),
    "repeat_first_hard": ("RepeatFirstHard", 831),
    "repeat_previous_easy": ("RepeatPreviousEasy", 51),
    "repeat_previous_medium": ("RepeatPreviousMedium", 103),
    "repeat_previous_hard": ("RepeatPreviousHard", 155),
}


class TestRepeat:
    @staticmethod
    def play(name, seed=0):
        """An episode with a policy that is right now and then."""
        env = make_functional(name)
        reset, step = jax.jit(env.reset), jax.jit(env.step)
        generator = np.random.default_rng(seed)
        key, use = jax.random.split(jax.random.key(seed))
        state = reset(use)
        suits, steps, over = [int(np.argmax(env.observe(state)))], [], False
        while not over:
            right = np.ravel(state.memory)[0]
            action = int(generator.choice([right, generator.integers(4)]))
            key, use = jax.random.split(key)
            state, reward, over, _ = step(use, state, action)
            suits.append(int(np.argmax(env.observe(state))))
            steps.append((action, float(reward), bool(over)))
        return env, suits, steps

    @pytest.mark.environments("popgym")
    @pytest.mark.parametrize("name", REPEAT)
    def test_it_is_popgyms(self, name):
        from popgym import envs

        theirs, _ = REPEAT[name]
        env = getattr(envs, theirs)()
        _, suits, steps = self.play(name)
        env._np_random = Shuffled(suits)

        observation, _ = env.reset()
        assert observation == suits[0]
        for (action, reward, over), suit in zip(steps, suits[1:], strict=True):
            observation, expected, terminated, truncated, _ = env.step(action)
            assert (observation, terminated, truncated) == (suit, over, False)
            assert reward == pytest.approx(expected)

    @pytest.mark.parametrize("name", REPEAT)
    def test_an_episode_deals_every_card_and_pays_one(self, name):
        env, suits, steps = self.play(name)

        assert len(steps) == REPEAT[name][1] == env.max_episode_steps - 1
        assert np.bincount(suits).tolist() == [13 * env.num_decks] * 4
        paid = np.array([reward for _, reward, _ in steps])
        assert np.abs(paid).sum() == pytest.approx(1.0, rel=1e-5)
        unpaid = env.k - 1 if "previous" in name else 0
        assert not paid[:unpaid].any()
        assert paid[unpaid:].all()

    def test_a_short_game_by_hand(self):
        """Cards 2 0 3 ..., k = 2: the suit to say is that of the card before."""
        env = functional.RepeatPrevious(k=2)
        state = env.reset(jax.random.key(0))._replace(
            memory=jnp.array([0, 2]), suit=jnp.int32(2)
        )
        state, reward, over, _ = env.step(jax.random.key(1), state, 2)
        assert (float(reward), bool(over)) == (0.0, False)
        state = state._replace(memory=jnp.array([2, 0]), suit=jnp.int32(0))
        for action, sign in ((2, 1), (0, -1), (1, -1)):
            _, reward, *_ = env.step(jax.random.key(2), state, action)
            assert float(reward) == pytest.approx(sign / 50)

    def test_suits_are_drawn_alike(self):
        env = functional.RepeatFirst()
        keys = jax.random.split(jax.random.key(0), 4000)
        left = jnp.array([1, 0, 2, 5])
        suits, after = jax.vmap(env.deal, in_axes=(0, None))(keys, left)

        shares = np.bincount(suits, minlength=4) / len(keys)
        np.testing.assert_allclose(shares, np.array(left) / 8, atol=0.03)
        assert (np.asarray(after).sum(1) == 7).all()

    @pytest.mark.parametrize(
        ("kind", "arguments"),
        [
            ("RepeatFirst", {"num_decks": 0}),
            ("RepeatFirst", {"num_decks": 1.5}),
            ("RepeatFirst", {"num_decks": 10**7}),
            ("RepeatPrevious", {"num_decks": "2"}),
            ("RepeatPrevious", {"k": 0}),
            ("RepeatPrevious", {"k": 52}),
            ("RepeatPrevious", {"k": 2.0}),
        ],
    )
    def test_bad_arguments_are_refused(self, kind, arguments):
        ((name, value),) = arguments.items()

        with pytest.raises(ValueError, match=f"`{name}` must .*{name}={value!r}"):
            getattr(functional, kind)(**arguments)


class TestGymnax:
    pytestmark = GYMNAX

    @pytest.mark.parametrize(("length", "right"), [(1, True), (4, False), (20, True)])
    def test_the_bit_pays_at_the_end(self, length, right):
        vector = environments.make_vec("memory_chain", 8, memory_length=length)
        observation, _ = vector.reset(seed=0)
        bit = (observation[:, 2] > 0).astype(int)
        assert set(bit) == {0, 1}

        for step in range(length + 1):
            actions = bit if right else 1 - bit
            observation, reward, terminated, truncated, info = vector.step(actions)
            assert terminated.all() == terminated.any() == (step == length)
            assert not truncated.any()
            if step < length:
                assert not reward.any()
        assert (reward == (1 if right else -1)).all()
        assert (info["success"] == right).all()

    def test_a_long_memory_is_not_cut_short(self):
        assert make_functional("memory_chain", memory_length=5000).max_episode_steps > (
            5001
        )

    def test_its_steps_are_gymnaxs(self):
        import gymnax

        env = make_functional("gymnax:CartPole-v1")
        theirs, params = gymnax.make("CartPole-v1")
        key = jax.random.key(3)
        state, step = env.reset(key), jax.jit(env.step)
        observation, inner = theirs.reset_env(jax.random.key_data(key), params)
        for i in range(30):
            np.testing.assert_allclose(env.observe(state), observation, atol=1e-6)
            state, reward, terminated, _ = step(key, state, i % 2)
            observation, inner, *expected, _ = theirs.step_env(
                jax.random.key_data(key), inner, i % 2, params
            )
            assert [float(reward), bool(terminated)] == expected

    def test_the_time_limit_is_not_a_termination(self):
        vector = environments.make_vec("gymnax:Pendulum-v1", max_steps_in_episode=3)
        vector.reset(seed=0)
        action = np.zeros((1, 1), np.float32)

        steps = [vector.step(action)[2:4] for _ in range(3)]

        assert [bool(truncated[0]) for _, truncated in steps] == [False, False, True]
        assert not any(terminated[0] for terminated, _ in steps)

    @pytest.mark.parametrize(
        "name", ["MetaMaze-misc", "GaussianBandit-misc", "UmbrellaChain-bsuite"]
    )
    def test_corrected_spaces_hold_the_observations(self, name):
        vector = FunctionalVectorEnv(make_functional(f"gymnax:{name}"), 4)
        observation, _ = vector.reset(seed=0)
        for _ in range(60):
            assert vector.observation_space.contains(observation)
            observation, *_ = vector.step(vector.action_space.sample())

    @pytest.mark.slow
    def test_the_spaces_of_all_hold_the_observations(self):
        import gymnax

        for name in gymnax.registered_envs:
            if name == "MNISTBandit-bsuite":  # which downloads its images
                continue
            vector = FunctionalVectorEnv(make_functional(f"gymnax:{name}"), 4)
            vector.action_space.seed(0)
            observation, _ = vector.reset(seed=0)
            for _ in range(150):
                assert vector.observation_space.contains(observation), name
                observation, *_ = vector.step(vector.action_space.sample())

    def test_bad_arguments_are_refused(self):
        with pytest.raises(ValueError, match="Received: name='Nope'"):
            make_functional("gymnax:Nope")
        with pytest.raises(ValueError, match=r"chain_length.* Received: params="):
            make_functional("gymnax:UmbrellaChain-bsuite", chain=3)
        for arguments in ({"memory_length": 0}, {"num_bits": 1.5}):
            ((key, value),) = arguments.items()
            with pytest.raises(ValueError, match=f"Received: {key}={value}"):
                make_functional("memory_chain", **arguments)


class TestMakeFunctional:
    def test_names_and_ids(self):
        for name in ("tmaze", "keras_agalite/TMaze-v0"):
            env = make_functional(name, corridor_length=7, num_distractors=0)
            assert isinstance(env, functional.TMaze)
            assert (env.corridor_length, env.num_distractors) == (7, 0)
        assert make_functional("tmaze_30").corridor_length == 30
        module = "keras_agalite.environments:keras_agalite/"
        for name in ("repeat_previous_medium", f"{module}RepeatPrevious-Medium-v0"):
            env = make_functional(name)
            assert (env.k, env.num_decks) == (32, 2)
        assert make_functional("repeat_first_hard").num_decks == 16

    @GYMNAX
    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("gymnax:CartPole-v1", {}),
            ("keras_agalite/Gymnax-v0", {"name": "CartPole-v1"}),
        ],
    )
    def test_gymnax(self, name, arguments):
        assert make_functional(name, **arguments).name == "CartPole-v1"
        assert make_functional(name, length=0.7, **arguments).params.length == 0.7

    @CRAFTAX
    @pytest.mark.parametrize(
        "name",
        ["craftax_classic", "keras_agalite/Craftax-Classic-Symbolic-v1"],
    )
    def test_craftax(self, name):
        env = make_functional(name)
        assert isinstance(env, functional.Craftax)
        assert env.observation_space.shape == (1345,)
        assert env.action_space == spaces.Discrete(17)
        assert (env.max_episode_steps, env.costly_reset) == (10_000, True)

    def test_the_time_limit(self):
        assert make_functional("tmaze_5").max_episode_steps == 1000
        env = make_functional("tmaze_5", max_episode_steps=20)
        assert env.max_episode_steps == 20
        with pytest.raises(ValueError, match="Received: max_episode_steps=0"):
            make_functional("tmaze_5", max_episode_steps=0)

    @pytest.mark.parametrize(
        "name",
        ["nope", "memory_maze_9x9", "CartPole-v1", "keras_agalite/Nope-v0", "a:b"],
    )
    def test_an_unknown_name_lists_the_legal_ones(self, name):
        with pytest.raises(ValueError, match=f"Received: name='{name}'") as error:
            make_functional(name)

        for row in catalog.ENVIRONMENTS:
            assert (f" {row.form}, " in str(error.value)) == bool(row.functional)

    @pytest.mark.parametrize(
        ("name", "missing"),
        [("memory_chain", "gymnax"), ("gymnax:CartPole-v1", "six")],
    )
    def test_a_missing_package_is_told_with_the_command(
        self, name, missing, monkeypatch
    ):
        for package in {"gymnax", "flax", "seaborn", "six"} - {missing}:
            monkeypatch.setitem(sys.modules, package, gymnasium)
        monkeypatch.setitem(sys.modules, missing, None)

        with pytest.raises(ImportError, match=f"needs {missing}, ") as error:
            make_functional(name)

        package = {"gymnax": '"gymnax>=1.0.1,<2"'}.get(missing, missing)
        assert str(error.value).endswith(f"Install with: pip install {package}")


@pytest.mark.environments("memory_maze")
@pytest.mark.parametrize("name", MAZES)
def test_the_fast_maze_has_the_spaces_of_memory_maze(name):
    env = make_functional(name)

    assert env.observation_space == spaces.Box(0, 255, (64, 64, 3), np.uint8)
    assert env.action_space == spaces.Discrete(6)
    assert env.max_episode_steps == ENVIRONMENTS[name][1]
    assert ENVIRONMENTS[name][1] == ENVIRONMENTS[name.removeprefix("fast_")][1]
    made = environments.make(name, render_mode="rgb_array").unwrapped
    assert made.metadata["render_modes"] == ["rgb_array"]
    assert made.observation_space == env.observation_space


@pytest.mark.parametrize(
    "name", ["functional", "functional_vector", "functional.registry"]
)
def test_importing_loads_no_jax(name):
    code = (
        f"import sys, keras_agalite.environments.{name}\n"
        "assert not {'jax', 'keras', 'gymnax', 'craftax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_lazy_names():
    assert sorted(functional.__all__) == dir(functional)
    for name in functional.__all__:
        assert getattr(functional, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = functional.nope
