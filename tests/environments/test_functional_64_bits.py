"""JAX_ENABLE_X64 changes nothing in the functional environments."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("jax")

pytestmark = [pytest.mark.once, pytest.mark.process]

PROGRAM = """
import json, sys
import jax
import jax.numpy as jnp
from keras_agalite.environments import functional

rows = []
for name in sys.argv[1:]:
    env = functional.PreviousActionReward(functional.make_functional(name))
    vector = functional.FunctionalVectorEnv(env, 4)
    vector.action_space.seed(0)
    observation, _ = vector.reset(seed=3)
    for _ in range(30):
        observation, reward, *over, _ = vector.step(vector.action_space.sample())
        leaves = jax.tree.leaves([observation, reward, *over])
        rows.append([[x.dtype.name, x.tolist()] for x in leaves])

    def step(states, key):
        keys = jax.random.split(key, 4)
        actions = jnp.zeros(4, jnp.int32)
        return functional.step_envs(env, keys, states, actions)

    @jax.jit
    def play(key):  # as the JAX engine does: one program, without a vector
        states = functional.reset_envs(env, jax.random.split(key, 4))
        return jax.lax.scan(step, states, jax.random.split(key, 30))

    states, transitions = play(jax.random.key(0))
    for leaf in jax.tree.leaves([states, transitions]):
        assert leaf.dtype.itemsize <= 4, (name, leaf.dtype)
print(json.dumps([jnp.arange(2.0).dtype.name, rows]))
"""
ENVIRONMENTS = ("tmaze_5", "repeat_first_easy", "repeat_previous_easy")


def test_episodes_are_the_same_in_64_bits():
    received = []
    for bits in ("0", "1"):
        program = subprocess.run(
            [sys.executable, "-c", PROGRAM, *ENVIRONMENTS],
            env={**os.environ, "JAX_ENABLE_X64": bits},
            check=True,
            capture_output=True,
            text=True,
        )
        received.append(json.loads(program.stdout))
    (single, expected), (double, rows) = received
    assert (single, double) == ("float32", "float64")
    assert rows == expected
