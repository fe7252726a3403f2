"""Recordings from Minari's data sets and to them: nothing is lost."""

import gc

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from keras_agalite import environments
from training.recordings.minari import from_minari, to_minari
from training.recordings.reader import Recordings
from training.recordings.record import record
from training.recordings.writer import RecordingWriter

pytestmark = [
    pytest.mark.once,
    pytest.mark.environments("minari"),
    # It would like an author, an algorithm and a link to code.
    pytest.mark.filterwarnings("ignore::UserWarning:minari"),
]

IMAGE = spaces.Box(
    0, 255, (32, 32, 3), np.uint8
)  # smaller ones are no images to Minari
NESTED = spaces.Dict({"a": IMAGE, "b": spaces.Tuple([spaces.Discrete(3), IMAGE])})


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def write(folder, observation_space, action_space, lengths=(3, 1)):
    with RecordingWriter(folder, observation_space, action_space) as writer:
        for i, n in enumerate(lengths):
            batch = gymnasium.vector.utils.batch_space(observation_space, n + 1)
            batch.seed(i)
            actions = gymnasium.vector.utils.batch_space(action_space, n)
            actions.seed(i)
            rewards = np.random.default_rng(i).normal(size=n)
            success = [True, None][i % 2]
            writer.add(
                batch.sample(),
                actions.sample(),
                rewards,
                i % 2,
                seed=i,
                success=success,
            )
    return Recordings(folder)


def check_equal(one, other):
    assert one.episodes == other.episodes
    assert one.observation_space == other.observation_space
    assert one.action_space == other.action_space
    for a, b in zip(leaves(one.observations), leaves(other.observations), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    for a, b in ((one.actions, other.actions), (one.rewards, other.rewards)):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def leaves(tree):
    if isinstance(tree, dict | tuple):
        parts = tree.values() if isinstance(tree, dict) else tree
        return [leaf for part in parts for leaf in leaves(part)]
    return [tree]


@pytest.mark.parametrize(
    ("observation", "action"),
    [
        (IMAGE, spaces.Discrete(3)),
        (NESTED, spaces.MultiDiscrete([2, 3])),
        (spaces.Box(-1.0, 1.0, (2,), np.float64), spaces.Box(-1.0, 1.0, (1,))),
    ],
    ids=["image", "nested", "float64"],
)
def test_there_and_back(tmp_path, observation, action):
    import minari

    recordings = write(tmp_path / "one", observation, action)

    dataset = to_minari(recordings, "test/there-v0", description="noise")

    assert not dataset.storage.jpeg_encoding
    back = from_minari("test/there-v0", tmp_path / "two")
    check_equal(recordings, back)
    assert back.environment == ""
    assert back.provenance["minari"] == "test/there-v0"
    assert back.provenance["description"] == "noise"
    assert back.provenance["jpeg"] is False
    with pytest.raises(ValueError, match="Received: jpeg_encoding=True"):
        to_minari(recordings, "test/other-v0", jpeg_encoding=True)
    assert list(minari.list_local_datasets()) == ["test/there-v0"]


def test_the_environment_is_recovered(tmp_path):
    arguments = {"corridor_length": 3, "random_length": True}
    player = "training.recordings.players:PassiveTMazePlayer"
    # More episodes than are written at once.
    record("passive_tmaze", tmp_path / "one", player, 70, 3, arguments)
    recordings = Recordings(tmp_path / "one")

    dataset = to_minari(recordings, "test/maze-v0")

    env = dataset.recover_environment()
    assert env.unwrapped.corridor_length == 3
    assert env.unwrapped.random_length
    assert len(dataset) == 70
    back = from_minari(dataset, tmp_path / "two")
    check_equal(recordings, back)
    assert back.environment_arguments == arguments
    made = environments.make(back.environment, **back.environment_arguments)
    assert made.unwrapped.random_length
    assert (
        from_minari(dataset, tmp_path / "three", "tmaze_10").environment == "tmaze_10"
    )


# Minari leaves its folder to the garbage collector.
@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")
def test_data_that_minari_collected(tmp_path):
    import minari

    env = minari.DataCollector(gymnasium.make("CartPole-v1"))
    for seed in range(3):
        env.reset(seed=seed)
        over = False
        while not over:
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            over = terminated or truncated
    dataset = env.create_dataset("test/pole-v0")
    env.close()

    recordings = from_minari(dataset, tmp_path / "r")

    assert recordings.environment == "CartPole-v1"
    assert [e["seed"] for e in recordings.episodes] == [0, 1, 2]
    for i, theirs in enumerate(dataset.iterate_episodes()):
        ours = recordings.episode(i)
        np.testing.assert_array_equal(ours.observations, theirs.observations)
        np.testing.assert_array_equal(ours.actions, theirs.actions)
        assert ours.terminated == theirs.terminations[-1]
    del env, dataset, theirs
    gc.collect()


def test_what_cannot_be_kept_is_refused(tmp_path):
    import minari
    from minari.data_collector import EpisodeBuffer

    def make(name, observation_space, observations, terminations):
        return minari.create_dataset_from_buffers(
            name,
            [
                EpisodeBuffer(
                    observations=observations,
                    actions=np.zeros(2, int),
                    rewards=[0.0, 1.0],
                    terminations=terminations,
                    truncations=[False, False],
                )
            ],
            observation_space=observation_space,
            action_space=spaces.Discrete(2),
        )

    text = make("test/text-v0", spaces.Text(3), ["a", "b", "c"], [False, True])
    with pytest.raises(ValueError, match="Expected a space that is Box"):
        from_minari(text, tmp_path / "r")
    early = make(
        "test/early-v0", spaces.Box(0.0, 1.0, (1,)), np.zeros((3, 1)), [True, True]
    )
    with pytest.raises(ValueError, match=r"ends at step 1 of 2"):
        from_minari(early, tmp_path / "r")
    image = make(
        "test/image-v0", IMAGE, np.zeros((3, 32, 32, 3), np.uint8), [False, True]
    )
    assert from_minari(image, tmp_path / "image").provenance["jpeg"] is True
    with RecordingWriter(
        tmp_path / "other", IMAGE, spaces.Discrete(4), "passive_tmaze"
    ) as writer:
        writer.add(np.zeros((2, 32, 32, 3), np.uint8), [0], [0.0], True)
    with pytest.raises(ValueError, match="must have their spaces"):
        to_minari(Recordings(tmp_path / "other"), "test/other-v0")
