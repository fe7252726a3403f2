import subprocess
import sys
import time
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from keras_agalite import environments, zoo
from keras_agalite.environments import catalog, popgym
from tests.environments.test_registry import ENVIRONMENTS
from training.recipe import load_recipe
from training.recordings import memory_gym
from training.recordings.reader import Recordings
from training.recordings.record import record
from training.recordings.vizdoom import TwoColorsPlayer, look

pytestmark = pytest.mark.once

MEMORY_MAZE = pytest.mark.environments("memory_maze")
MEMORY_GYM = pytest.mark.environments("memory_gym")
MINIGRID = pytest.mark.environments("minigrid")
CRAFTAX = pytest.mark.environments("craftax")
VIZDOOM = pytest.mark.environments("vizdoom")
POPGYM = pytest.mark.environments("popgym")
IN_PROCESS = pytest.mark.skipif(
    "tensorflow" in sys.modules, reason="TensorFlow and Mesa crash in one process"
)
# A maze or a compilation costs seconds, so one of each family stands for it.
SLOW = {
    "memory_maze_11x11",
    "memory_maze_13x13",
    "memory_maze_15x15",
    "craftax_symbolic",
}
# Those of other people's packages; the tests of functional ones are elsewhere.
REAL = [
    pytest.param(
        row.name,
        marks=[
            pytest.mark.environments(row.requirement),
            *([pytest.mark.slow] if row.name in SLOW else []),
        ],
    )
    for row in catalog.ENVIRONMENTS
    if row.name in ENVIRONMENTS
    and row.requirement not in (None, "jax", "labmaze", "gymnax")
]
# Forward more often than not: a uniform policy turns on the spot.
WALK = (0.05, 0.45, 0.1, 0.1, 0.15, 0.15)


def rollout(env, seed, actions):
    """Everything that a seed and some actions give, as one list of arrays."""
    observation, _ = env.reset(seed=seed)
    steps = [(observation,)]
    for action in actions:
        observation, reward, terminated, truncated, _ = env.step(action)
        steps.append((observation, reward, terminated, truncated))
        if terminated or truncated:
            steps.append((env.reset()[0],))
    return steps


def same(one, other):
    return len(one) == len(other) and all(
        len(a) == len(b)
        and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("name", REAL)
def test_checker_spaces_and_seeds(name, make):
    env = make(name)
    row, _ = catalog.resolve(name)

    assert (env.observation_space, env.action_space) == ENVIRONMENTS[name][2:]
    if row.requirement in ("minigrid", "memory_gym"):  # seconds a reset elsewhere
        check_env(env.unwrapped, skip_render_check=True)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(40)]
    once = rollout(env, 7, actions)
    again = rollout(env, 7, actions)
    other = rollout(env, 8, actions)

    assert same(once, again)
    assert not same(once, other)
    for step in once:
        assert step[0] in env.observation_space
    for _, reward, terminated, truncated in filter(lambda s: len(s) == 4, once):
        assert type(reward) is float
        assert type(terminated) is bool
        assert type(truncated) is bool


FAMILIES = [
    pytest.param(
        name, marks=pytest.mark.environments(catalog.resolve(name)[0].requirement)
    )
    for name in (
        "memory_maze_9x9",
        "mystery_path_grid",
        "mystery_path",
        "mortar_mayhem_grid",
        "mortar_mayhem",
        "searing_spotlights",
        "vizdoom_two_colors",
        "minigrid_memory_7",
        "popgym:AutoencodeEasy",
        "popgym:MultiarmedBanditEasy",
        "popgym:BattleshipEasy",
        "popgym:NoisyPositionOnlyPendulumEasy",
        "mujoco_positions:Hopper-v5",
    )
]


# gymnasium warns as well, and goes on.
@pytest.mark.filterwarnings("ignore:.*not in the possible render_modes")
@pytest.mark.parametrize("name", FAMILIES)
def test_an_unknown_render_mode_is_refused(name, make):
    with pytest.raises(ValueError, match=r"`render_mode` must be .*'nonsense'"):
        make(name, render_mode="nonsense")


@pytest.mark.parametrize("name", FAMILIES)
def test_illegal_actions_are_refused(name, make):
    env = make(name)
    space = env.action_space
    env.reset(seed=0)
    if isinstance(space, gymnasium.spaces.Box):
        bad = [np.full(space.shape, np.nan, np.float32), np.zeros(99), "up", None]
    elif isinstance(space, gymnasium.spaces.MultiDiscrete):
        bad = [-space.nvec, space.nvec, space.nvec * 0.5, [0], np.nan, None]
    else:
        bad = [-1, 10**6, space.n, 1.5, 1.0, np.nan, [0], None]

    for action in bad:
        with pytest.raises(
            ValueError, match=r"`action` must be in .* Received: action"
        ):
            env.unwrapped.step(action) if "mujoco" not in name else env.step(action)
    env.step(space.sample())


@pytest.mark.parametrize(
    ("name", "action", "steps"),
    [
        pytest.param("memory_maze_9x9", 2, 1000, marks=MEMORY_MAZE),
        pytest.param(
            "memory_maze_11x11", 2, 2000, marks=[MEMORY_MAZE, pytest.mark.slow]
        ),
        pytest.param(
            "memory_maze_13x13", 2, 3000, marks=[MEMORY_MAZE, pytest.mark.slow]
        ),
        pytest.param(
            "memory_maze_15x15", 2, 4000, marks=[MEMORY_MAZE, pytest.mark.slow]
        ),
        pytest.param("mystery_path_grid", 0, 128, marks=MEMORY_GYM),
        pytest.param("mystery_path", [0, 0], 512, marks=MEMORY_GYM),
        pytest.param("minigrid_memory_7", 0, 245, marks=MINIGRID),
        pytest.param("minigrid_memory_11", 0, 605, marks=MINIGRID),
    ],
)
def test_the_time_limit_truncates(name, action, steps, make):
    env = make(name).unwrapped  # without gymnasium's own limit
    env.reset(seed=0)

    ends = [env.step(action)[2:4] for _ in range(steps)]

    assert ends == [(False, False)] * (steps - 1) + [(False, True)]


class TestMemoryMaze:
    pytestmark = MEMORY_MAZE

    @IN_PROCESS
    @pytest.mark.parametrize(
        "size", ["9x9", pytest.param("15x15", marks=pytest.mark.slow)]
    )
    def test_frames_and_rewards_are_those_of_memory_maze(self, size, make):
        env = make(f"memory_maze_{size}").unwrapped
        make_shipped = getattr(env.maze.tasks, f"memory_maze_{size}")
        shipped, rewards = make_shipped(seed=55, image_only_obs=True), []
        actions = np.random.default_rng(55).choice(6, p=WALK, size=90)

        for episode in (actions[:60], actions[60:]):
            frame, _ = env.reset() if rewards else env.reset(seed=55)
            np.testing.assert_array_equal(frame, shipped.reset().observation)
            for action in episode:
                frame, reward, *_ = env.step(action)
                expected = shipped.step(action)
                np.testing.assert_array_equal(frame, expected.observation)
                assert reward == expected.reward
                rewards.append(reward)
        shipped.close()

        if size == "9x9":
            assert rewards[5] == 1.0  # so a target was touched, and another shown

    @IN_PROCESS
    @pytest.mark.slow
    def test_at_least_two_and_a_half_times_as_fast(self, make):
        env = make("memory_maze_9x9").unwrapped
        shipped = env.maze.tasks.memory_maze_9x9(seed=3, image_only_obs=True)
        actions = np.random.default_rng(0).integers(6, size=(5, 40))
        env.reset(seed=3)
        shipped.reset()

        def seconds(step, actions):
            begin = time.process_time()
            for action in actions:
                step(action)
            return time.process_time() - begin

        ratios = [seconds(shipped.step, a) / seconds(env.step, a) for a in actions]
        shipped.close()

        assert np.median(ratios) >= 2.5

    @IN_PROCESS
    def test_memory_maze_itself_is_left_alone(self, make):
        from dm_control import composer
        from dm_control.locomotion.props.target_sphere import TargetSphere

        before = vars(TargetSphere).copy()
        env = make("memory_maze_9x9").unwrapped
        env.reset(seed=0)

        assert vars(TargetSphere) == before
        assert env.maze.tasks.composer is composer

    def test_render_and_close(self, make):
        env = make("memory_maze_9x9", render_mode="rgb_array")
        with pytest.raises(gymnasium.error.ResetNeeded):
            env.unwrapped.step(0)
        observation, _ = env.reset(seed=0)

        np.testing.assert_array_equal(env.render(), observation)
        env.close()
        env.close()
        assert env.render() is None

    def test_a_process_of_its_own_gives_the_same(self, make):
        actions = np.random.default_rng(0).integers(6, size=20)
        env, apart = make("memory_maze_9x9"), make("memory_maze_9x9", process=True)
        worker = apart.unwrapped.maze.process

        assert same(rollout(env, 1, actions), rollout(apart, 1, actions))
        with pytest.raises(RuntimeError, match="IndexError"):
            apart.unwrapped.maze.step(99)
        apart.close()
        assert worker.returncode == 0

    def test_beside_tensorflow_it_runs_in_a_process_of_its_own(self, make, monkeypatch):
        monkeypatch.setitem(sys.modules, "tensorflow", sys)
        env = make("memory_maze_9x9")
        env.reset(seed=0)

        env.unwrapped.maze.process.kill()

        with pytest.raises((RuntimeError, BrokenPipeError)):
            env.step(0)

    def test_where_nothing_draws_the_worker_says_so(self, make, monkeypatch):
        monkeypatch.setenv("MUJOCO_GL", "nope")

        with pytest.raises(RuntimeError, match="apt-get install -y libegl1 libosmesa6"):
            make("memory_maze_9x9", process=True)


class TestMysteryPath:
    pytestmark = MEMORY_GYM
    NAMES = ("mystery_path_grid", "mystery_path")

    @staticmethod
    def walk_to_the_goal(env):
        """Action by action along the path that is not seen."""
        game = env.unwrapped.env
        path = [(node.x, node.y) for node in game.mystery_path.path]
        if path[0] == tuple(game.end):
            path.reverse()
        here, *path = path
        for there in path:
            move = np.subtract(there, here)
            heading = {(0, -1): 0, (-1, 0): 1, (0, 1): 2, (1, 0): 3}[tuple(move)]
            while game.agent.rotation // 90 != heading:
                yield 1
            yield 3
            here = there

    def test_the_goal_terminates_and_progress_pays(self, make):
        env = make("mystery_path_grid")
        env.reset(seed=1)
        steps = [env.step(action) for action in self.walk_to_the_goal(env)]
        rewards = [step[1] for step in steps]
        tiles = len(env.unwrapped.env.mystery_path.path) - 2

        assert [step[2:4] for step in steps[:-1]] == [(False, False)] * len(steps[:-1])
        assert steps[-1][2:4] == (True, False)
        assert sum(rewards) == pytest.approx(1 + 0.1 * tiles)
        assert [step[4]["success"] for step in steps] == [False] * (len(steps) - 1) + [
            True
        ]
        assert steps[-1][4]["num_fails"] == 0

    @pytest.mark.parametrize("name", NAMES)
    def test_easy_is_the_default(self, name, make):
        easy = {"show_origin": True, "show_goal": True, "reward_path_progress": 0.1}
        env = make(name)
        game = type(env.unwrapped.env)()
        actions = [env.action_space.sample() for _ in range(60)]

        frame, _ = env.reset(seed=5)
        expected, _ = game.reset(seed=5, options=easy)
        np.testing.assert_array_equal(frame, expected)
        for action in actions:
            frame, reward, terminated, truncated, _ = env.step(action)
            expected, expected_reward, done, *_ = game.step(action)
            np.testing.assert_array_equal(frame, expected)
            assert (reward, terminated or truncated) == (expected_reward, done)
            if done:
                break

    def test_options(self, make):
        hidden = {"show_origin": False, "show_goal": False}
        shown, _ = make("mystery_path_grid").reset(seed=0)
        env = make("mystery_path_grid", **hidden)
        once, _ = env.reset(seed=0)
        again, _ = make("mystery_path_grid").reset(seed=0, options=hidden)

        assert not np.array_equal(shown, once)
        np.testing.assert_array_equal(once, again)
        env.reset(seed=0, options={"max_steps": 2})
        assert [env.step(0)[3] for _ in range(2)] == [False, True]
        with pytest.raises(ValueError, match="Received: show_orign"):
            make("mystery_path_grid", show_orign=True)

    @pytest.mark.parametrize("name", [*NAMES, "mortar_mayhem", "searing_spotlights"])
    def test_one_environment_does_not_disturb_another(self, name, make):
        env, other = make(name, render_mode="rgb_array"), make(name)
        actions = [env.action_space.sample() for _ in range(20)]
        alone = rollout(env, 3, actions)
        closed = make(name)

        observation, _ = env.reset(seed=3)
        mixed = [(observation,)]
        other.reset(seed=4)
        closed.reset(seed=4)
        closed.close()
        for action in actions:
            step = env.step(action)
            other.step(other.action_space.sample())
            mixed.append(step[:4])
            np.testing.assert_array_equal(env.render(), step[0].transpose(1, 0, 2))

        assert same(alone, mixed)


class TestMortarMayhem:
    pytestmark = MEMORY_GYM

    @staticmethod
    def obey(game):
        """The action on the grid that carries out what was commanded."""
        move = np.subtract(game._target_pos, game.normalized_agent_position)
        if game._command_visualization or not move.any():
            return 0
        heading = {(0, -1): 0, (-1, 0): 1, (0, 1): 2, (1, 0): 3}
        step = (np.sign(move[0]), 0) if move[0] else (0, np.sign(move[1]))
        return 3 if game.agent.rotation // 90 == heading[step] else 1

    @pytest.mark.parametrize("obeyed", [10, 9, 0])
    def test_success_is_every_command(self, obeyed, make):
        env = make("mortar_mayhem_grid")
        env.reset(seed=0)  # its last command does not say to stay
        game, rewards, over = env.unwrapped.env, [], False
        while not over:
            action = self.obey(game) if game._current_command < obeyed else 0
            _, reward, terminated, truncated, info = env.step(action)
            over = terminated or truncated
            rewards.append(reward)
            assert info == {"success": over and obeyed == 10}

        assert (terminated, truncated) == (True, False)
        assert sum(rewards) == pytest.approx(0.1 * obeyed)
        assert len(rewards) == 118 or obeyed == 0

    def test_options_make_it_shorter(self, make):
        env = make("mortar_mayhem", command_count=[1])
        env.reset(seed=0)
        steps = 1
        while not env.step([0, 0])[2]:
            steps += 1

        assert steps < 30


class TestSearingSpotlights:
    pytestmark = MEMORY_GYM

    def test_death_terminates_and_the_time_limit_truncates(self, make):
        ends = []
        for health in (5, 10**6):
            env = make("searing_spotlights", agent_health=health).unwrapped
            env.reset(seed=0)
            over = False
            while not over:
                *_, terminated, truncated, info = env.step([0, 0])
                over = terminated or truncated
            ends.append((env.env.t, terminated, truncated, info))

        assert ends[0][0] < 256
        assert ends[0][1:] == (True, False, {"success": False})
        assert ends[1] == (256, False, True, {"success": False})

    def test_the_coin_and_then_the_exit_are_a_success(self, make):
        env = make("searing_spotlights", agent_health=10**6)
        env.reset(seed=0)
        game, rewards, terminated = env.unwrapped.env, [], False
        while not terminated:
            there = game.coins[0].location if game.coins else game.exit.rect.center
            move = np.subtract(there, game.agent.rect.center)
            action = np.select([move < -1, move > 1], [1, 2])
            _, reward, terminated, truncated, info = env.step(action)
            assert not truncated
            rewards.append(reward)

        assert [reward for reward in rewards if reward] == [0.25, 1.0]
        assert info == {"success": True}


class TestMemoryGymPlayers:
    pytestmark = MEMORY_GYM
    PLAYERS = {
        "mystery_path_grid": memory_gym.MysteryPathPlayer,
        "mortar_mayhem_grid": memory_gym.MortarMayhemPlayer,
        "searing_spotlights": memory_gym.SearingSpotlightsPlayer,
    }
    STAGES = (
        "mortar_mayhem_grid_cloned_1",
        "mortar_mayhem_grid_cloned_4",
        "mortar_mayhem_grid_cloned_7",
        "searing_spotlights_cloned_1",
        "searing_spotlights_cloned_2",
    )

    def record(self, name, folder, **more):
        player = f"{memory_gym.__name__}:{self.PLAYERS[name].__name__}"
        # The first row plays on after its episode's end, with the notes of another.
        result = record(name, folder, player, 4, 5, num_envs=2, **more)
        recordings = Recordings(folder)
        return result, [recordings.episode(i) for i in range(len(recordings))]

    @pytest.mark.parametrize("name", PLAYERS)
    def test_they_know_nothing_but_the_images(self, name, tmp_path):
        result, episodes = self.record(name, tmp_path / "r")
        assert result["success_rate"] == 1.0
        spaces = environments.make(name)
        blind = SimpleNamespace(  # no environment to look into
            single_observation_space=spaces.observation_space,
            single_action_space=spaces.action_space,
        )
        for episode in episodes:
            player = self.PLAYERS[name](blind)
            state = player.initial_state(1)
            for image, recorded in zip(
                episode.observations, episode.actions, strict=False
            ):
                action, state = player.act(image[None], state)
                np.testing.assert_array_equal(action[0], recorded)

    @pytest.mark.parametrize("stage", STAGES)
    def test_they_play_the_stages_of_a_curriculum(self, stage, tmp_path):
        recipe = load_recipe(f"training/recipes/{stage}.toml")
        result, episodes = self.record(
            recipe.environment,
            tmp_path / "r",
            environment_arguments=recipe.environment_arguments,
        )
        assert result["success_rate"] == 1.0
        longest = max(len(episode.actions) for episode in episodes)
        assert longest <= recipe.sequence_length  # a segment holds an episode

    def test_no_fall_is_repeated(self, tmp_path):
        _, episodes = self.record("mystery_path_grid", tmp_path / "r")
        falls = []
        for i, episode in enumerate(episodes):
            red = (episode.observations == memory_gym.FALL).all(axis=-1)
            falls += [
                (i, *np.argwhere(image).mean(axis=0) // 12)
                for image in red
                if image.any()
            ]
        assert len(falls) == len(set(falls)) > 4

    @pytest.mark.parametrize("name", PLAYERS)
    def test_drawn_actions_differ_now_and_then(self, name, tmp_path):
        (_, plain), (_, drawn) = (
            self.record(name, tmp_path / str(sampled), sampled=sampled)
            for sampled in (False, True)
        )
        different = []
        for one, other in zip(plain, drawn, strict=True):
            assert one.seed == other.seed
            length = min(len(one.actions), len(other.actions))
            different.append((one.actions[:length] != other.actions[:length]).any())
        assert any(different)


class TestViZDoomTwoColors:
    pytestmark = VIZDOOM

    @staticmethod
    def towards(env, colours):
        """The action that leads to the nearest item of these colours."""
        from vizdoom import GameVariable

        env = env.unwrapped
        names = (GameVariable.POSITION_X, GameVariable.POSITION_Y, GameVariable.ANGLE)
        *here, angle = map(env.game.get_game_variable, names)

        def bearing(item):
            x, y = item.position_x - here[0], item.position_y - here[1]
            turn = (np.degrees(np.arctan2(y, x)) - angle + 180) % 360 - 180
            return np.hypot(x, y) + abs(turn), turn

        items = env.game.get_state().objects
        ways = [bearing(i) for i in items if env.items.get(i.id) in colours]
        turn = min(ways)[1] if ways else 90
        return (
            0
            if abs(turn) < 8
            else {0: 4, 1: 3, 2: 2, 3: 1}[2 * int(abs(turn) > 45) + int(turn > 0)]
        )

    @pytest.mark.parametrize("follows", [True, False])
    def test_the_colour_of_the_sign_heals_and_the_other_harms(self, follows, make):
        env = make("vizdoom_two_colors")
        env.reset(seed=0)
        game, health, total, over = env.unwrapped, 100.0, 0.0, False
        while not over:
            colours = [game.colour] if follows else {"Red", "Green"} - {game.colour}
            _, reward, terminated, truncated, info = env.step(
                self.towards(env, colours)
            )
            health = max(0.0, min(100.0, health + 25 * reward - 0.3))
            assert info == {"health": pytest.approx(health), "success": truncated}
            total, over = total + reward, terminated or truncated

        assert (terminated, truncated) == (not follows, follows)
        assert game.steps == 525 if follows else game.steps < 200
        assert total > 10 if follows else total <= -3

    @pytest.mark.parametrize("colour", ["red", "green"])
    def test_one_colour_alone(self, colour, make):
        env, drawn = make("vizdoom_two_colors", colour=colour), []
        both = make("vizdoom_two_colors")
        for seed in range(4):
            observation, _ = env.reset(seed=seed)
            assert env.unwrapped.colour.lower() == colour
            same, _ = both.reset(seed=seed)
            drawn.append(both.unwrapped.colour.lower())
            if drawn[-1] == colour:
                np.testing.assert_array_equal(observation, same)
        assert set(drawn) == {"red", "green"}
        with pytest.raises(ValueError, match=r"'red', 'green' or None.*colour='blue'"):
            make("vizdoom_two_colors", colour="blue")

    def test_the_sign_stands_for_its_time(self, make):
        env = make("vizdoom_two_colors")
        game = env.unwrapped.game
        for seed in range(12):
            env.reset(seed=seed)
            stood = []
            for _ in range(20):
                names = [o.name for o in game.get_state().objects]
                stood.append("Sign" in str(names))
                env.step(1)
            assert stood == [True] * 17 + [False] * 3

    def test_the_sign_shows_the_colour_and_goes(self, make):
        env, signs = make("vizdoom_two_colors", render_mode="rgb_array"), set()
        for seed in range(6):
            frame, _ = env.reset(seed=seed)
            game = env.unwrapped
            names = {o.name for o in game.game.get_state().objects}
            assert {n for n in names if "Sign" in n} == {f"TwoColorsSign{game.colour}"}
            flame = frame[15:25, 36:44].astype(float).mean((0, 1))
            assert ("Red", "Green")[flame[:2].argmax()] == game.colour
            signs.add(game.colour)
            assert env.render().shape == (120, 160, 3)
            for _ in range(20):
                env.step(1)
            assert "Sign" not in str([o.name for o in game.game.get_state().objects])

        assert signs == {"Red", "Green"}

    def test_what_the_player_sees_is_in_the_image(self, make):
        env = make("vizdoom_two_colors", render_mode="rgb_array")
        env.reset(seed=3)
        game, large = env.unwrapped.game, set()
        for action in [0, 1, 4, 2] * 15:
            state, image, view = game.get_state(), env.render(), look(env.unwrapped)
            seen = {"TwoColorsSign" + str(view.sign)}
            for label in state.labels:
                pixels = image[state.labels_buffer == label.value]
                if "TwoColors" in label.object_name and len(pixels) > 150:
                    flame = pixels[pixels.max(1) > 180].astype(float).mean(0)
                    assert ("Red", "Green")[flame[:2].argmax()] in label.object_name
                    large.add(label.object_name)
                if "Sign" in label.object_name:
                    assert (label.object_name in seen) == (len(pixels) > 0)
            on_screen = [
                label.object_name.removeprefix("TwoColors")
                for label in state.labels
                if (state.labels_buffer == label.value).any()
            ]
            torches = [name for name in on_screen if name in ("Red", "Green")]
            assert list(view.colours) == torches
            assert len(torches) < 25
            assert (np.abs(view.turns) < 60).all()
            env.step(action)

        assert large >= {"TwoColorsRed", "TwoColorsGreen", "TwoColorsSignGreen"}

    def test_the_player_knows_only_what_was_on_its_screen(self):
        vector = environments.make_vec("vizdoom_two_colors", 2)
        player, games = TwoColorsPlayer(vector), [e.unwrapped for e in vector.envs]

        def on_screen(state):
            buffer = state.labels_buffer
            labels = [x for x in state.labels if (buffer == x.value).any()]
            return SimpleNamespace(labels=labels, labels_buffer=buffer)

        def screen(env):
            game = SimpleNamespace(
                get_game_variable=env.game.get_game_variable,
                get_state=lambda: on_screen(env.game.get_state()),
            )
            return SimpleNamespace(game=game)

        player.envs = [screen(env) for env in games]
        observation, _ = vector.reset(seed=[1, 3])
        state = player.initial_state(2)
        total, running, wanted = np.zeros(2), np.ones(2, bool), []
        while running.any():
            action, state = player.act(observation, state)
            wanted = wanted or list(state)
            observation, reward, terminated, truncated, _ = vector.step(action)
            total += reward * running
            running &= ~(terminated | truncated)
            assert state == wanted
        vector.close()

        assert wanted == [env.colour for env in games] == ["Red", "Green"]
        assert (total > 10).all()

    def test_torches_come_again(self, make):
        env = make("vizdoom_two_colors")
        env.reset(seed=1)
        game, counts, known = env.unwrapped, [], set()
        for _ in range(150):
            env.step(self.towards(env, ("Red", "Green")) if len(counts) < 100 else 1)
            counts.append(len(game.items))
            known |= set(game.items)

        assert min(counts) < counts[-1] == 25
        assert len(known) > 25
        assert set(game.items.values()) == {"Red", "Green"}

    def test_nothing_is_left_behind(self, make, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        env = make("vizdoom_two_colors").unwrapped
        with pytest.raises(gymnasium.error.ResetNeeded):
            env.step(0)
        env.close()
        env.close()

        assert list(tmp_path.iterdir()) == []
        assert not env.end.alive

    @pytest.mark.parametrize("how", ["env.close()", "del env", "pass"])
    def test_it_ends_without_a_word(self, how):
        code = (
            "from keras_agalite import environments\n"
            "env = environments.make('vizdoom_two_colors')\n"
            f"env.reset(seed=0)\n{how}"
        )
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )

        assert (result.stdout, result.stderr) == ("", "")


class TestMuJoCoPositions:
    pytestmark = pytest.mark.environments("mujoco")

    @pytest.fixture(autouse=True)
    def _elsewhere(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)  # MuJoCo writes its log where it runs

    @pytest.mark.parametrize(
        ("name", "size"), [("Hopper-v5", 5), ("HalfCheetah-v5", 8), ("Ant-v5", 13)]
    )
    def test_it_sees_the_positions_alone(self, name, size, make):
        env, whole = make(f"mujoco_positions:{name}"), make(name)
        action = env.action_space.sample()
        assert env.observation_space.shape == (size,)
        assert env.action_space == whole.action_space
        steps = zip(
            (env.reset(seed=1), *(env.step(action) for _ in range(5))),
            (whole.reset(seed=1), *(whole.step(action) for _ in range(5))),
            strict=True,
        )
        for (seen, *ours, _), (observation, *theirs, _) in steps:
            positions = whole.unwrapped.data.qpos.size
            assert seen in env.observation_space
            np.testing.assert_array_equal(seen, np.float32(observation[:size]))
            assert size in (positions - 1, positions - 2)
            assert ours == theirs

    def test_the_time_limit_is_the_robots(self, make):
        env = make("mujoco_positions:HalfCheetah-v5")
        env.reset(seed=0)
        action = np.zeros(6, np.float32)

        assert [env.step(action)[3] for _ in range(1000)] == [False] * 999 + [True]

    @pytest.mark.parametrize("name", ["Reacher-v5", "CartPole-v1", "Nope-v0"])
    def test_others_are_refused(self, name, make):
        with pytest.raises(ValueError, match=r"Received: (env|name)="):
            make(f"mujoco_positions:{name}")


class TestPOPGym:
    pytestmark = POPGYM

    @pytest.mark.parametrize("task", popgym.TASKS)
    def test_the_policy_and_the_task_have_the_same_spaces(self, task, make):
        spec, env = zoo.specs.popgym(task), make(f"popgym:{task}")

        assert env.observation_space == spec.observation_space
        assert env.action_space == spec.action_space

    @pytest.mark.filterwarnings("ignore:.*WARN")  # of spaces that are POPGym's
    @pytest.mark.parametrize("name", popgym.FAMILIES)
    def test_it_is_the_task_of_popgym(self, name, make):
        import popgym.envs

        env = make(f"popgym:{name}Easy")
        shipped = getattr(popgym.envs, f"{name}Easy")()
        check_env(env.unwrapped, skip_render_check=True)
        env.action_space.seed(0)
        observation, _ = env.reset(seed=3)
        expected, _ = shipped.reset(seed=3)
        flat, over = 0, False
        while True:
            assert observation in env.observation_space
            if isinstance(observation, dict):
                assert np.all(observation["previous_action"] == flat)
                observation = observation["observation"]
            np.testing.assert_array_equal(observation, np.asarray(expected))
            if over:
                break
            action = env.action_space.sample()
            flat = gymnasium.spaces.flatten(env.action_space, action)
            observation, *ours, _ = env.step(action)
            expected, *theirs, _ = shipped.step(action)
            assert ours == theirs
            over = any(ours[1:])

    @pytest.mark.parametrize("level", ["Easy", "Medium"])
    @pytest.mark.parametrize(
        "name", ["RepeatFirst", "RepeatPrevious", "CountRecall", "Autoencode"]
    )
    def test_scripted_players_make_no_mistake(self, name, level, tmp_path):
        player = f"training.recordings.popgym:{name}Player"

        result = record(f"popgym:{name}{level}", tmp_path / "r", player, episodes=3)

        assert result["mean_return"] == pytest.approx(1.0)

    @pytest.mark.parametrize(
        ("name", "at_least"),
        [
            ("HigherLower", 0.54),  # 0.52 in these episodes without counting
            ("MultiarmedBandit", 0.65),
            ("Battleship", 0.45),
            ("Concentration", 0.75),
        ],
    )
    def test_scripted_players_play_well(self, name, at_least, tmp_path):
        player = f"training.recordings.popgym:{name}Player"

        result = record(f"popgym:{name}Easy", tmp_path / "r", player, episodes=40)

        assert result["mean_return"] > at_least

    def test_what_is_recorded_of_concentration_is_no_mistake(self, tmp_path):
        """Now and then another card is turned up than the one that is recorded."""
        player = "training.recordings.popgym:ConcentrationPlayer"
        arguments = "popgym:ConcentrationEasy", tmp_path / "r", player, 4
        record(*arguments, sampled=True)

        recordings, differ = Recordings(tmp_path / "r"), 0
        for number in range(4):
            episode = recordings.episode(number)
            turned = episode.observations["previous_action"][1:].argmax(-1)
            differ += (turned != episode.actions).sum()
            up = episode.observations["observation"] < 2
            found = up[:-3] & up[1:-2] & up[2:-1]  # those of a turn are seen twice
            assert not found[np.arange(len(found)), episode.actions[2:]].any()
        assert differ > 0


class TestMiniGridMemory:
    pytestmark = MINIGRID

    def test_it_is_the_image_of_minigrid(self, make):
        import minigrid  # noqa: F401
        from minigrid.wrappers import ImgObsWrapper

        env = make("minigrid_memory_11")
        shipped = ImgObsWrapper(gymnasium.make("MiniGrid-MemoryS11-v0"))
        actions = np.random.default_rng(0).integers(3, size=200)

        assert same(rollout(env, 2, actions), rollout(shipped, 2, actions))

    @pytest.mark.parametrize("size", ["7", "13_random"])
    @pytest.mark.parametrize("right", [True, False])
    def test_success_is_the_right_object(self, size, right, make):
        env = make(f"minigrid_memory_{size}")
        env.reset(seed=0)
        game = env.unwrapped.env
        assert env.step(0)[4] == {"success": False}
        column, row = game.success_pos if right else game.failure_pos
        middle = game.height // 2
        game.agent_pos = np.array((column, middle))
        game.agent_dir = 3 if row < middle else 1

        _, reward, terminated, truncated, info = env.step(2)

        assert (terminated, truncated) == (True, False)
        assert info["success"] is right
        assert (reward > 0) is right


class TestCraftax:
    pytestmark = CRAFTAX
    CLASSIC = "craftax_classic"

    def test_a_vector_equals_single_environments(self, make):
        limit = 12
        vector = environments.make_vec(self.CLASSIC, 1, max_episode_steps=limit)
        env = make(self.CLASSIC, max_episode_steps=limit)
        observations, _ = vector.reset(seed=5)
        observation, _ = env.reset(seed=5)
        np.testing.assert_array_equal(observations[0], observation)
        actions = np.random.default_rng(0).integers(17, size=2 * limit + 4)
        ended = False
        for action in actions:
            observations, *many, info = vector.step([action])
            if ended:  # NEXT_STEP: the action is ignored, the reward is 0
                observation, one = env.reset()[0], [0.0, False, False]
                achievements = np.zeros(22, bool)
            else:
                observation, *one, single_info = env.step(action)
                achievements = single_info["achievements"]
            np.testing.assert_array_equal(observations[0], observation)
            assert [value[0] for value in many] == one
            ended = one[1] or one[2]
            assert info["_achievements"].tolist() == [True]
            np.testing.assert_array_equal(info["achievements"][0], achievements)
        vector.close()

    def test_environments_end_on_their_own(self):
        count = 8
        mode = gymnasium.vector.AutoresetMode.NEXT_STEP
        vector = environments.make_vec(self.CLASSIC, count, max_episode_steps=150)
        vector.action_space.seed(0)
        random, length = vector.action_space, np.zeros(count, int)
        first, _ = vector.reset(seed=0)
        assert vector.metadata["autoreset_mode"] is mode
        assert vector.observation_space.contains(first)
        assert len({row.tobytes() for row in first}) == count
        over = died = late = 0
        ended = np.zeros(count, bool)
        for _ in range(450):
            before = vector.carry[2]
            observation, reward, terminated, truncated, _ = vector.step(random.sample())
            length = np.where(ended, 0, length + 1)
            assert not reward[ended].any()
            assert not (terminated | truncated)[ended].any()
            assert not (terminated & truncated).any()
            np.testing.assert_array_equal(truncated, (length == 150) & ~terminated)
            assert not np.array_equal(observation, before)
            ended = terminated | truncated
            over, died = over + ended.sum(), died + terminated.sum()
            late += truncated.sum()
        vector.close()

        assert died > 0
        assert late > 0
        assert over == died + late
        assert observation.dtype == np.float32

    def test_seeds(self):
        vector = environments.make_vec(self.CLASSIC, 8)
        with pytest.raises(gymnasium.error.ResetNeeded):
            vector.step(np.zeros(8, int))
        by_number, _ = vector.reset(seed=3)
        by_list, _ = vector.reset(seed=[*range(3, 11)])
        on, _ = vector.reset()
        np.testing.assert_array_equal(by_number, by_list)
        assert not np.array_equal(on, by_list)
        with pytest.raises(ValueError, match=r"Received: seed=\[1, 2\]"):
            vector.reset(seed=[1, 2])
        with pytest.raises(ValueError, match=r"Received: actions.shape=\(2,\)"):
            vector.step([0, 0])
        vector.close()
