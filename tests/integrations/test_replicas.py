"""Replicas of tf.distribute learn what one replica learns from the whole minibatch."""

import json
import os
import socket
import subprocess
import sys

import pytest
import tensorflow as tf

from keras_agalite.integrations.tf_agents.ppo_agent import _standardize

PROGRAM = [sys.executable, "-m", "tests.integrations.replicas"]


def start(log, **environment):
    return subprocess.Popen(
        PROGRAM, env={**os.environ, **environment}, stdout=log, stderr=log
    )


def test_padding_does_not_change_advantages():
    advantages = tf.constant([[1.0, 5.0, 2.0], [4.0, -3.0, 9.0]])
    padded = tf.concat([advantages, tf.fill([2, 2], 1e3)], axis=1)
    counts = tf.constant([[1.0] * 3 + [0.0] * 2] * 2)
    expected = _standardize(advantages, None)
    assert abs(float(tf.reduce_mean(expected))) < 1e-6
    assert abs(float(tf.math.reduce_std(expected)) - 1.0) < 1e-6
    received = _standardize(padded, counts)[:, :3]
    tf.debugging.assert_near(received, expected, atol=1e-6)
    nothing = _standardize(padded, tf.zeros(()))
    assert bool(tf.reduce_all(tf.math.is_finite(nothing)))


@pytest.mark.process
def test_two_replicas_learn_what_one_learns(tmp_path):
    with (tmp_path / "log").open("w") as log:
        code = start(log).wait(timeout=300)
    assert code == 0, (tmp_path / "log").read_text()


@pytest.mark.slow
def test_two_workers_learn_what_one_learns(tmp_path):
    sockets = [socket.socket() for _ in range(2)]
    for each in sockets:
        each.bind(("localhost", 0))
    hosts = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    workers = []
    for i in range(2):
        task = {"type": "worker", "index": i}
        config = json.dumps({"cluster": {"worker": hosts}, "task": task})
        with (tmp_path / str(i)).open("w") as log:
            workers.append(start(log, TF_CONFIG=config))
    try:
        for i, worker in enumerate(workers):
            assert worker.wait(timeout=600) == 0, (tmp_path / str(i)).read_text()
    finally:
        for worker in workers:
            worker.kill()
