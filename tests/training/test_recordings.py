"""Recordings: writing, refusing, cutting into segments, and playing."""

import json

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from keras_agalite import environments
from keras_agalite.previous import flatten_actions, previous_space
from training.__main__ import main
from training.recordings import vizdoom
from training.recordings.players import PassiveTMazePlayer, Player, make_player
from training.recordings.reader import Recordings
from training.recordings.record import EpisodeRecorder, record
from training.recordings.segments import Segments
from training.recordings.writer import RecordingWriter

pytestmark = pytest.mark.once

BOX = spaces.Box(-5.0, 5.0, (2,), np.float32)
THREE = spaces.Discrete(3)
NESTED = spaces.Dict(
    {
        "view": spaces.Box(0, 255, (3, 2), np.uint8),
        "more": spaces.Tuple([spaces.Discrete(3, start=-1), BOX]),
    }
)
ACTIONS = {
    "discrete": spaces.Discrete(3, start=2),
    "multi_discrete": spaces.MultiDiscrete([2, 3], start=[0, -1]),
    "multi_binary": spaces.MultiBinary((2, 2)),
    "box": spaces.Box(-1.0, 1.0, (2, 2), np.float32),
}


def draw(space, number, seed=0):
    space = gymnasium.vector.utils.batch_space(space, number)
    space.seed(seed)
    return space.sample()


def write(folder, lengths, observation_space=BOX, action_space=THREE):
    episodes = []
    with RecordingWriter(folder, observation_space, action_space, "e") as writer:
        for i, n in enumerate(lengths):
            episode = (
                draw(observation_space, n + 1, i),
                draw(action_space, n, i),
                np.random.default_rng(i).normal(size=n),
            )
            writer.add(*episode, i % 2 == 0, seed=i, success=[True, False, None][i % 3])
            episodes.append(episode)
    return episodes


class TestWriting:
    @pytest.mark.parametrize("action", ACTIONS)
    def test_what_is_written_is_read(self, tmp_path, action):
        episodes = write(tmp_path / "r", [3, 1, 4], NESTED, ACTIONS[action])

        read = Recordings(tmp_path / "r")

        assert read.observation_space == NESTED
        assert read.action_space == ACTIONS[action]
        assert (len(read), read.num_steps, read.environment) == (3, 8, "e")
        for i, (observations, actions, rewards) in enumerate(episodes):
            found = read.episode(i)
            pairs = [
                (found.observations["view"], observations["view"]),
                *zip(found.observations["more"], observations["more"], strict=True),
                (found.actions, actions),
                (found.rewards, rewards),
            ]
            for ours, theirs in pairs:
                np.testing.assert_array_equal(ours, theirs)
            assert found.observations["view"].dtype == np.uint8
            assert found[3:] == (i % 2 == 0, i % 2 == 1, i, [True, False, None][i])
            assert read.episodes[i]["return"] == pytest.approx(rewards.sum())

    def test_columns_are_plain_numpy_files(self, tmp_path):
        ((observations, *_),) = write(tmp_path / "r", [5])
        column = np.load(tmp_path / "r" / "observation.npy")
        np.testing.assert_array_equal(column, observations)

    def test_a_writer_that_was_stopped_leaves_what_is_refused(self, tmp_path):
        def write_and_stop():
            with RecordingWriter(tmp_path / "r", BOX, THREE) as writer:
                writer.add(np.zeros((2, 2)), [0], [0.0], True)
                raise RuntimeError("stopped")

        with pytest.raises(RuntimeError, match="stopped"):
            write_and_stop()
        with pytest.raises(ValueError, match="what wrote it was stopped"):
            Recordings(tmp_path / "r")
        with pytest.raises(ValueError, match=r"`folder` must be empty.*Received: "):
            RecordingWriter(tmp_path / "r", BOX, THREE)

    @pytest.mark.parametrize(
        ("name", "change", "message"),
        [
            ("reward.npy", lambda x: x[:-8], "reward.npy cannot be read"),
            ("observation.npy", lambda x: b"", "observation.npy cannot be read"),
            ("action.npy", lambda x: x.replace(b"(4,)", b"(3,)"), "action.npy should"),
            ("episodes.json", lambda x: x[:-3], "is no JSON"),
            ("episodes.json", lambda x: x.replace(b'mat": 1', b'mat": 2'), "format 1"),
            ("episodes.json", lambda x: x.replace(b"length", b"size"), "understood"),
            ("episodes.json", lambda x: x.replace(b'h": 4', b'h": 0'), "without a ste"),
            ("episodes.json", lambda x: x.replace(b'h": 4', b'h": 4.0'), "understood"),
            ("episodes.json", lambda x: x.replace(b'"seed"', b'"sed"'), "understood"),
        ],
    )
    def test_a_damaged_folder_is_refused(self, tmp_path, name, change, message):
        write(tmp_path / "r", [4])
        file = tmp_path / "r" / name
        file.write_bytes(change(file.read_bytes()))
        with pytest.raises(ValueError, match=message):
            Recordings(tmp_path / "r")

    def test_what_is_no_recording_is_refused(self, tmp_path):
        for folder, reason in ((tmp_path, "no episodes.json"), ("nowhere", "a folder")):
            with pytest.raises(ValueError, match=reason):
                Recordings(folder)
        with pytest.raises(ValueError, match="must have an episode"):
            RecordingWriter(tmp_path / "r", BOX, THREE).close()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"observations": np.zeros((2, 2))}, r"`observation` must .* \(2, 2\)"),
            ({"observations": np.full((3, 2), np.nan)}, "finite numbers. .* nan"),
            ({"observations": np.full((3, 2), 0.1 + 1e-12)}, "of dtype float32"),
            ({"observations": [["a", "b"]] * 3}, "must hold numbers"),
            ({"actions": [0.5, 0]}, "of dtype int64"),
            ({"actions": [0]}, "`action` must have the shape"),
            ({"rewards": [1.0, np.inf]}, "`reward` must hold finite"),
            ({"rewards": []}, "must have a step"),
            ({"rewards": [1e308, 1e308]}, "a sum that is finite. .* inf"),
            ({"actions": [0, 3]}, r"`action` must hold .*Discrete\(3\).* 3"),
            ({"actions": [-1, 0]}, r"`action` must hold .*Discrete\(3\).* -1"),
        ],
    )
    def test_a_wrong_episode_is_refused(self, tmp_path, change, message):
        episode = {
            "observations": np.zeros((3, 2)),
            "actions": [0, 1],
            "rewards": [0.0, 1.0],
            "terminated": True,
        }
        writer = RecordingWriter(tmp_path / "r", BOX, THREE)
        with pytest.raises(ValueError, match=message):
            writer.add(**{**episode, **change})
        writer.add(**episode)
        writer.close()
        assert Recordings(tmp_path / "r").num_steps == 2

    def test_observations_are_categories_of_all_their_parts(self, tmp_path):
        writer = RecordingWriter(tmp_path / "r", spaces.Dict(a=THREE, b=BOX), THREE)
        good = {"a": [0, 2], "b": np.zeros((2, 2))}
        for change, message in (({"a": [0, 3]}, r"Discrete\(3\).* 3"), ({"b": 0}, "b")):
            with pytest.raises(ValueError, match=message):
                writer.add({**good, **change}, [0], [0.0], True)
        with pytest.raises(ValueError, match=r"must have the parts \['a', 'b'\]"):
            writer.add({"a": [0, 2]}, [0], [0.0], True)
        writer.add(good, [0], [0.0], True)
        writer.close()
        writer.close()
        with pytest.raises(ValueError, match="finished takes no episode"):
            writer.add(good, [0], [0.0], True)
        assert Recordings(tmp_path / "r").num_steps == 1

    def test_what_held_no_episode_is_removed(self, tmp_path):
        def fail():
            with RecordingWriter(tmp_path / "r", BOX, THREE):
                raise RuntimeError("stopped")

        with pytest.raises(RuntimeError):
            fail()
        assert not list((tmp_path / "r").iterdir())

    def test_wrong_spaces_and_descriptions_are_refused(self, tmp_path):
        text = spaces.Dict({"a": spaces.Text(3)})
        for observation, action, more, message in (
            (text, BOX, {}, "Expected a space that is Box"),
            (BOX, NESTED, {}, "`action_space` must be one array"),
            (BOX, BOX, {"environment_arguments": {"a": BOX}}, "JSON's types"),
            (BOX, BOX, {"provenance": {"a": np.nan}}, "JSON's types"),
        ):
            with pytest.raises(ValueError, match=message):
                RecordingWriter(tmp_path / "r", observation, action, **more)
        assert not (tmp_path / "r").exists()


class TestSegments:
    LENGTHS = [7, 3, 1, 6]

    def plain(self, episodes, length):
        """All segments by a loop over episodes and steps."""
        for observations, actions, rewards in episodes:
            for begin in range(0, len(rewards), length):
                rows = []
                for t in range(begin, min(begin + length, len(rewards))):
                    previous = np.zeros(4)
                    if t:
                        previous[actions[t - 1]], previous[3] = 1.0, rewards[t - 1]
                    rows.append(
                        [
                            *observations[t],
                            actions[t],
                            rewards[t],
                            rewards[t:].sum(),
                            t == 0,
                            *previous,
                        ]
                    )
                yield np.array(rows)

    @pytest.mark.parametrize("length", [1, 3, 10])
    def test_an_epoch_is_every_segment_once(self, tmp_path, length):
        episodes = write(tmp_path / "r", self.LENGTHS)
        recordings = Recordings(tmp_path / "r")
        expected = list(self.plain(episodes, length))
        segments = Segments(recordings, length, 1, seed=3, previous=True)
        assert len(segments) == len(expected)
        found = []
        for i in range(len(segments)):
            batch = segments.batch(i)
            n = int(batch.mask.sum())
            assert batch.mask[0, :n].all()
            for padded in (batch.reward, batch.return_to_go):
                assert not padded[0, n:].any()
            assert not batch.observation["previous_action"][0, n:].any()
            parts = [
                batch.observation["observation"],
                batch.action[..., None],
                batch.reward[..., None],
                batch.return_to_go[..., None],
                batch.start[..., None],
                batch.observation["previous_action"],
                batch.observation["previous_reward"],
            ]
            found.append(np.concatenate(parts, axis=-1)[0, :n])
        for one in expected:
            matches = [
                i
                for i, other in enumerate(found)
                if other.shape == one.shape and np.allclose(one, other, atol=1e-6)
            ]
            assert matches
            del found[matches[0]]
        assert not found

    def test_batches_follow_from_the_seed_and_their_number(self, tmp_path):
        write(tmp_path / "r", self.LENGTHS)
        recordings = Recordings(tmp_path / "r")

        def rewards(seed, order):
            segments = Segments(recordings, 2, 5, seed)
            batches = {i: segments.batch(i).reward for i in order}
            return np.stack([batches[i] for i in sorted(order)])

        forth = rewards(0, range(6))
        np.testing.assert_array_equal(forth, rewards(0, range(5, -1, -1)))
        np.testing.assert_array_equal(forth[3:], rewards(0, range(3, 6)))
        assert (forth != rewards(1, range(6))).any()
        # Each epoch has an order of its own: 10 segments are 2 batches.
        epochs = forth.reshape(3, -1)
        assert (epochs[0] != epochs[1]).any()
        np.testing.assert_array_equal(*np.sort(epochs[:2]))

    @pytest.mark.parametrize("action", ACTIONS)
    def test_actions_are_flattened_as_gymnasium_does(self, action):
        space = ACTIONS[action]
        actions = draw(space, 12).reshape(3, 4, *space.shape)
        flat = flatten_actions(space, actions)
        assert flat.dtype == np.float32
        for i in range(3):
            for j in range(4):
                one = spaces.flatten(space, actions[i, j])
                np.testing.assert_array_equal(flat[i, j], one)

    def test_spaces_and_numbers_are_checked(self, tmp_path):
        write(tmp_path / "r", [2], previous_space(BOX, THREE))
        recordings = Recordings(tmp_path / "r")
        for arguments, message in (
            ({"length": 0, "batch_size": 1}, "`length` must be at least 1"),
            ({"length": 1, "batch_size": 0}, "`batch_size` must be at least 1"),
            ({"length": 1, "batch_size": 1, "previous": True}, "without the keys"),
        ):
            with pytest.raises(ValueError, match=message):
                Segments(recordings, **arguments)
        nested = Segments(recordings, 2, 1).batch(0).observation
        assert set(nested) == {"observation", "previous_action", "previous_reward"}


class Sometimes(Player):
    """Turns at random where the corridor ends; otherwise goes on."""

    def act(self, observation, state, *, deterministic=True, seed=None):
        assert not deterministic
        turn = seed.choice([1, 3], size=len(observation))
        return np.where(observation[:, 2] > 0, turn, 0), state


class Astray(PassiveTMazePlayer):
    """Turns the wrong way, and knows it."""

    def act(self, observation, state, *, deterministic=True, seed=None):
        self.advice, state = super().act(observation, state)
        return np.where(self.advice > 0, 4 - self.advice, 0), state


class TestRecording:
    def check_passive_tmaze(self, folder, episodes):
        """Replays what was recorded in the plain environment."""
        recordings = Recordings(folder)
        assert sorted(e["seed"] for e in recordings.episodes) == list(
            range(5, 5 + episodes)
        )
        for i in range(len(recordings)):
            episode = recordings.episode(i)
            yield episode
            assert episode.terminated
            assert not episode.truncated
            hint = episode.observations[0, 1]
            won = episode.observations[-1, 0] == hint
            assert episode.success == won == (episode.rewards[-1] == 1.0)
            assert not episode.rewards[:-1].any()

    def test_a_script_in_gymnasium_environments(self, tmp_path):
        player = f"{PassiveTMazePlayer.__module__}:PassiveTMazePlayer"
        arguments = {"corridor_length": 4, "random_length": True}
        folder = tmp_path / "r"

        result = record("passive_tmaze", folder, player, 7, 5, arguments, 3)

        assert (result["episodes"], result["success_rate"]) == (7, 1.0)
        env = environments.make("passive_tmaze", **arguments)
        for episode in self.check_passive_tmaze(folder, 7):
            seen = [env.reset(seed=episode.seed)[0]]
            seen += [env.step(action)[0] for action in episode.actions]
            np.testing.assert_array_equal(seen, episode.observations)
            assert len(episode.actions) == env.unwrapped.length + 1
        read = Recordings(folder)
        assert (read.environment, read.environment_arguments) == (
            "passive_tmaze",
            arguments,
        )
        assert read.provenance["player"] == player

    def test_advice_is_recorded_in_place_of_what_was_done(self, tmp_path):
        result = record("passive_tmaze_4", tmp_path / "r", f"{__name__}:Astray", 5)

        assert result["success_rate"] == 0.0
        recordings = Recordings(tmp_path / "r")
        for i in range(5):
            episode = recordings.episode(i)
            up = episode.observations[0, 1] > 0
            assert list(episode.actions) == [0, 0, 0, 0, 1 if up else 3]
            assert not episode.rewards.any()

    def test_a_script_that_draws(self, tmp_path):
        name = f"{__name__}:Sometimes"
        results = [
            record("passive_tmaze_3", tmp_path / str(i), name, 40, 5, sampled=True)
            for i in range(2)
        ]
        assert results[0] == results[1]
        assert 0.2 < results[0]["success_rate"] < 0.8

    def test_the_teacher_in_functional_environments(self, tmp_path, capsys):
        pytest.importorskip("jax")
        words = ["record", "passive_tmaze_6", str(tmp_path / "r"), "--player"]
        words += ["teacher", "--episodes", "5", "--num-envs", "3", "--seed", "5"]
        arguments = ["--environment-arguments", '{"random_length": true}']

        assert main([*words, *arguments]) == 0

        assert "success_rate: 1.0" in capsys.readouterr().out
        lengths = {len(e.actions) for e in self.check_passive_tmaze(tmp_path / "r", 5)}
        assert len(lengths) > 1
        assert main([*words, *arguments]) == 2
        assert "`folder` must be empty" in capsys.readouterr().err

    def test_time_limits_and_chance(self, tmp_path):
        result = record(
            "tmaze_10", tmp_path / "r", "random", 4, 0, {"max_episode_steps": 6}
        )
        assert result["steps"] <= 24
        read = Recordings(tmp_path / "r")
        assert all(e["truncated"] != e["terminated"] for e in read.episodes)
        assert any(e["truncated"] for e in read.episodes)

    def test_a_preset(self, tmp_path):
        result = record("tmaze_10", tmp_path / "r", "tmaze_10", 3, 1_000_000)
        assert result["success_rate"] == 1.0
        assert result["mean_return"] == pytest.approx(3.1)

    def test_what_cannot_be_recorded_is_refused(self, tmp_path):
        for environment, player, message in (
            ("nope", "random", "`environment` cannot be made"),
            ("tmaze_10", "nope", "nope"),
            ("tmaze_10", "training.recordings:Nope", "`player` must be"),
            ("tmaze_10", "passive_tmaze", "Expected"),
            ("CartPole-v1", "teacher", "The player `teacher` needs"),
            ("CartPole-v1", "tmaze_10", "must take the policy's actions"),
            ("CartPole-v1", "json:dumps", "a class that derives from Player"),
            (
                "CartPole-v1",
                "training.recordings.popgym:RepeatPreviousPlayer",
                "plays in .*popgym:RepeatPrevious.*SyncVec",
            ),
        ):
            with pytest.raises(ValueError, match=message):
                record(environment, tmp_path / "r", player, 1)
        for count in ({"episodes": 0}, {"episodes": 1, "num_envs": 0}):
            with pytest.raises(ValueError, match=r"` must be at least 1.*=0"):
                record("CartPole-v1", tmp_path / "r", "random", **count)
        modes = gymnasium.vector.AutoresetMode
        vector = gymnasium.make_vec(
            "CartPole-v1",
            1,
            vectorization_mode="sync",
            vector_kwargs={"autoreset_mode": modes.SAME_STEP},
        )
        with pytest.raises(ValueError, match=r"NEXT_STEP does\. Received: .*SAME_STEP"):
            EpisodeRecorder(vector, None)
        assert make_player("random", vector) is None

    def test_the_index_is_json_with_a_line_an_episode(self, tmp_path):
        write(tmp_path / "r", [1, 2])
        text = (tmp_path / "r" / "episodes.json").read_text()
        assert len(json.loads(text)["episodes"]) == 2
        assert text.count('"length"') == sum("length" in x for x in text.splitlines())


class TestTwoColorsPlayer:
    @pytest.mark.parametrize(
        ("torches", "action"),
        [
            ([("Green", 400, 3)], vizdoom.FORWARD),
            ([("Green", 400, 30)], vizdoom.FORWARD_LEFT),
            ([("Green", 400, -30)], vizdoom.FORWARD_RIGHT),
            ([("Green", 100, 30)], vizdoom.LEFT),
            ([("Green", 400, -80)], vizdoom.RIGHT),
            ([("Green", 300, 30), ("Green", 200, -30)], vizdoom.FORWARD_RIGHT),
            ([("Green", 400, 0), ("Red", 150, 4)], vizdoom.FORWARD_RIGHT),
            ([("Green", 400, 0), ("Red", 150, -4)], vizdoom.FORWARD_LEFT),
            ([("Green", 400, 0), ("Red", 450, 0)], vizdoom.FORWARD),
            ([("Red", 400, -30)], vizdoom.LEFT),
            ([], vizdoom.LEFT),
        ],
    )
    def test_it_goes_to_its_colour_around_the_other(self, torches, action):
        colours = np.array([colour for colour, _, _ in torches], str)
        distances, turns = np.array([t[1:] for t in torches], float).reshape(-1, 2).T
        view = vizdoom.View(None, colours, distances, turns)

        assert vizdoom.choose(view, "Green") == action
        other = {"Red": "Green", "Green": "Red"}
        swapped = view._replace(colours=np.array([other[c] for c in colours], str))
        assert vizdoom.choose(swapped, "Red") == action
        assert vizdoom.choose(view, None) == vizdoom.LEFT

    def test_other_environments_are_refused(self):
        with pytest.raises(ValueError, match=r"plays in .*vizdoom_two_colors.*SyncVec"):
            vizdoom.TwoColorsPlayer(environments.make_vec("passive_tmaze_4", 2))
