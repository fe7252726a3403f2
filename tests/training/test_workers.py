"""Environments in processes: replaced when they fail, gone when the run is."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest

from tests.training.test_checked import RECIPE, failing
from training.envs.make import make_environments
from training.errors import EnvironmentFault
from training.recipe import Recipe

pytestmark = [pytest.mark.once, pytest.mark.process]


def play(vector, steps=20):
    """All that a vector says in some steps."""
    try:
        said = [vector.reset(seed=10)[0]]
        for i in range(steps):
            said.append(vector.step(np.full(3, i % 2)))
    finally:
        vector.close()
    return said


def test_processes_say_what_one_process_says():
    recipe = dataclasses.replace(
        RECIPE,
        environment="tmaze_4",
        environment_arguments={"max_episode_steps": 9},
        previous_action_reward=True,
    )
    sync, parallel = (
        play(make_environments(dataclasses.replace(recipe, vectorization_mode=mode), 3))
        for mode in ("sync", "async")
    )
    np.testing.assert_equal(sync[0], parallel[0])
    for one, other in zip(sync[1:], parallel[1:], strict=True):
        np.testing.assert_equal(one[:4], other[:4])
        assert (one[4].get("success") == other[4].get("success")) is not False


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (
            "raise",
            r"Environment 1 \(last seeded with 11\).*RuntimeError: the simulator",
        ),
        ("die", r"Environment 1 \(last seeded with 11\).*died with exit code 7"),
    ],
)
def test_a_worker_that_fails_is_replaced_and_its_episode_closed(fault, told):
    vector = failing(fault, "async")
    try:
        vector.reset(seed=10)
        for _ in range(8):  # an episode of 6, a first step, 1 of the next episode
            before = vector.step(np.zeros(3, int))
        with pytest.warns(RuntimeWarning, match=f"(?s){told}.*restarts left: 2"):
            after = vector.step(np.zeros(3, int))
        observation, reward, terminated, truncated, _ = after
        np.testing.assert_array_equal(truncated, [False, True, False])
        assert not terminated.any()
        np.testing.assert_array_equal(reward, [1.0, 0.0, 1.0])
        # Its last observation, and those of the others as ever.
        np.testing.assert_array_equal(observation[1], before[0][1])
        np.testing.assert_array_equal(observation[:, 0], [2.0, 1.0, 2.0])
        observation, *_ = vector.step(np.zeros(3, int))
        np.testing.assert_array_equal(observation[:, 0], [3.0, 0.0, 3.0])
        assert observation[1, 1] not in (10, 11, 12)  # a seed that none had
        observation, reward, *_ = vector.step(np.zeros(3, int))
        np.testing.assert_array_equal(observation[:, 0], [4.0, 1.0, 4.0])
        np.testing.assert_array_equal(reward, 1.0)
    finally:
        vector.close()


def test_a_worker_that_fails_in_a_reset_begins_another_way():
    recipe = dataclasses.replace(
        RECIPE,
        vectorization_mode="async",
        environment_arguments={"fault": "reset", "only": 11},
    )
    vector = make_environments(recipe, 3)
    try:
        with pytest.warns(RuntimeWarning, match=r"(?s)Environment 1 .*no such level"):
            observation, _ = vector.reset(seed=10)
        np.testing.assert_array_equal(observation[:, 0], 0.0)
        assert observation[1, 1] not in (10, 11, 12)
    finally:
        vector.close()


@pytest.mark.parametrize("fault", ["hang", "spin"])
def test_a_worker_that_does_not_answer_is_replaced(fault):
    vector = failing(fault, "async", worker_timeout=2.0)
    told = (
        r"Environment 1 \(last seeded with 11\): its process \d+ has not answered for"
    )
    try:
        vector.reset(seed=10)
        for _ in range(8):
            vector.step(np.zeros(3, int))
        with pytest.warns(RuntimeWarning, match=f"(?s){told} 2 seconds.*left: 2"):
            observation, reward, _, truncated, _ = vector.step(np.zeros(3, int))
        np.testing.assert_array_equal(truncated, [False, True, False])
        np.testing.assert_array_equal(reward, [1.0, 0.0, 1.0])
        observation, *_ = vector.step(np.zeros(3, int))
        np.testing.assert_array_equal(observation[:, 0], [3.0, 0.0, 3.0])
    finally:
        vector.close()


def test_restarts_have_a_limit():
    vector = failing("raise", "async", worker_restarts=0)
    with pytest.raises(EnvironmentFault, match=r"(?s)broke.*worker_restarts=0"):
        play(vector)


def test_an_environment_that_cannot_be_made_is_told(tmp_path):
    """The first one is made for its spaces; the workers then fail."""
    maker = tmp_path / "made"

    def make():
        if maker.exists():
            raise OSError("no level file")
        maker.touch()
        return make_environments(RECIPE, 1).envs[0]

    from training.envs.workers import SupervisedVectorEnv

    with pytest.raises(EnvironmentFault, match=r"(?s)Environment 0 raised.*no level"):
        SupervisedVectorEnv([make, make], restarts=1)


def test_one_program_needs_no_processes():
    recipe = Recipe(
        name="x",
        environment="repeat_first_easy",
        total_steps=1,
        vectorization_mode="async",
    )
    with pytest.raises(ValueError, match="`vectorization_mode` must be"):
        make_environments(recipe, 2)


def test_workers_leave_ctrl_c_to_the_run():
    """The terminal sends it to all processes; the run goes on to save."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "survive"],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout.readline() == b"at work\n"
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout.read() == b"restarts: 0\n"
    assert process.wait(timeout=30) == 0
    process.stdout.close()


SCRIPT = """
import dataclasses, os, signal, sys, time
import numpy as np
from tests.training.test_checked import RECIPE
from training.envs.make import make_environments

if __name__ == "__main__":
    arguments = {"fault": "hang", "at": 5, "only": 11} if "hang" in sys.argv else {}
    recipe = dataclasses.replace(
        RECIPE, vectorization_mode="async", environment_arguments=arguments
    )
    vector = make_environments(recipe, 3)
    vector.reset(seed=10)
    vector.step(np.zeros(3, int))
    if "survive" in sys.argv:
        asked = []
        signal.signal(signal.SIGINT, lambda *_: asked.append(1))
    print("at work", flush=True)
    if "survive" in sys.argv:
        while not asked:
            vector.step(np.zeros(3, int))
        for _ in range(50):
            vector.step(np.zeros(3, int))
        print("restarts:", vector.restarts)
        vector.close()
        sys.exit(0)
    if "exception" in sys.argv:
        raise RuntimeError("broken")
    if "return" in sys.argv:
        sys.exit(0)
    while True:
        vector.step(np.zeros(3, int))
"""


def processes_with(mark):
    """Processes that have a text in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue  # it ended meanwhile
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    ("arguments", "end"),
    [
        (["return"], None),
        (["exception"], None),
        (["run"], signal.SIGINT),
        (["run"], signal.SIGTERM),
        (["run"], signal.SIGKILL),
        (["hang"], signal.SIGKILL),
    ],
    ids=lambda x: x[0] if isinstance(x, list) else getattr(x, "name", "by itself"),
)
def test_no_worker_outlives_the_run(arguments, end):
    mark = f"KERAS_AGALITE_TEST={uuid.uuid4()}"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        env={**os.environ, "PYTHONPATH": os.getcwd(), **dict([mark.split("=")])},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdout.readline() == b"at work\n"
    if end:
        # Three workers, the server that forks them, the tracker of resources.
        assert len(processes_with(mark)) >= 4
        time.sleep(0.3)
        if end == signal.SIGINT:
            os.killpg(process.pid, end)  # as a terminal does: to all of them
        else:
            process.send_signal(end)
    process.wait(timeout=30)
    process.stdout.close()
    limit = time.monotonic() + 10
    while left := processes_with(mark):
        assert time.monotonic() < limit, f"still there: {left}"
        time.sleep(0.05)
