"""Environments with an action mask are trained and evaluated on their legal actions."""

import dataclasses
import importlib.util
import json

import numpy as np
import pytest
from gymnasium import spaces

import keras_agalite
from tests.helpers import BACKEND
from tests.training.masked import NAME, Masked
from tests.training.processes import SMALL
from training.__main__ import main
from training.envs.checks import CheckedEnv, CheckedVectorEnv
from training.errors import EnvironmentFault
from training.recipe import ENGINES

ENGINE = next((name for name, backend in ENGINES.items() if backend == BACKEND), None)
needs_engine = pytest.mark.skipif(
    ENGINE is None
    or (ENGINE == "tf_agents" and importlib.util.find_spec("tf_agents") is None),
    reason="no engine trains on this backend",
)


def recipe(**keys):
    return dataclasses.replace(
        SMALL,
        environment=NAME,
        engine=ENGINE,
        total_steps=160,
        memory="gru",
        memory_arguments={"hidden_dim": 8},
        **keys,
    )


def train(tmp_path, **keys):
    file = tmp_path / "masked.toml"
    file.write_text(recipe(**keys).to_toml())
    return main(["train", str(file), "--run-dir", str(tmp_path / "run")])


@needs_engine
@pytest.mark.parametrize("parts", [False, True], ids=["discrete", "multi_discrete"])
def test_a_run_takes_legal_actions_alone(parts, tmp_path):
    assert train(tmp_path, environment_arguments={"parts": parts}) == 0

    lines = (tmp_path / "run" / "curve.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 4
    for row in rows:
        assert row["loss"] == pytest.approx(row["loss"])  # no NaN
        assert row["mean_return"] == Masked.LENGTH
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert evaluation["returns"] == [Masked.LENGTH] * 8


@needs_engine
def test_a_run_ends_where_no_action_is_legal(tmp_path, capsys):
    assert train(tmp_path, environment_arguments={"stuck": 3}) == 1
    error = capsys.readouterr().err
    assert "step 3 of its episode" in error
    assert "the action_mask leaves no action that is legal" in error


@pytest.mark.parametrize("policy", ["drawn", "greedy", "random"])
def test_whole_episodes_are_legal(policy):
    env = Masked(parts=True)
    model = None
    if policy != "random":
        model = keras_agalite.MemoryPolicy(
            keras_agalite.MLPEncoder(env.observation_space),
            keras_agalite.GRU(8),
            env.action_space,
        )

    episodes = keras_agalite.rollout(
        model,
        NAME,
        6,
        deterministic=policy == "greedy",
        environment_arguments={"parts": True},
        num_envs=3,
    )

    assert [e.total_reward for e in episodes] == [Masked.LENGTH] * 6


def functional_env():
    """An environment with a clock, whose mask leaves nothing after three steps."""
    import jax.numpy as jnp

    from keras_agalite.environments.functional import FunctionalEnv

    class Stuck(FunctionalEnv):
        observation_space = spaces.Dict(
            {
                "time": spaces.Box(0.0, 9.0, (1,), np.float32),
                "action_mask": spaces.MultiBinary(2),
            }
        )
        action_space = spaces.Discrete(2)
        max_episode_steps = 5

        def reset(self, key):
            return jnp.float32(0.0)

        def step(self, key, state, action):
            return state + 1.0, jnp.float32(1.0), jnp.bool_(False), {}

        def observe(self, state):
            flag = jnp.int8(state < 3.0)
            return {"time": state[None], "action_mask": jnp.stack([flag, flag])}

    return Stuck()


@pytest.mark.skipif(BACKEND != "jax", reason="functional environments live in JAX")
def test_functional_environments_are_checked():
    from keras_agalite.environments.functional import FunctionalVectorEnv

    vector = CheckedVectorEnv(FunctionalVectorEnv(functional_env(), 2))
    vector.reset(seed=0)
    vector.step(np.zeros(2, int))
    vector.step(np.zeros(2, int))
    with pytest.raises(EnvironmentFault, match=r"Environment 0.*step 3 .*no action"):
        vector.step(np.zeros(2, int))


@pytest.mark.skipif(BACKEND != "jax", reason="functional environments live in JAX")
def test_a_compiled_run_ends_where_no_action_is_legal(tmp_path, monkeypatch):
    from training.engines import jax as engine

    env = functional_env()
    monkeypatch.setattr(engine, "make_functional_environment", lambda _: env)
    # It has no name under which it could be evaluated.
    monkeypatch.setattr(engine.run, "check_evaluation", lambda *_: None)
    with pytest.raises(EnvironmentFault, match="leaves no action"):
        engine.Run(recipe(environment_arguments={}), tmp_path / "run").train()


@pytest.mark.once
def test_a_fault_is_told_with_its_environment():
    env = Masked(stuck=1)
    checked = CheckedEnv(env, 4)
    checked.reset(seed=0)
    with pytest.raises(EnvironmentFault, match=r"Environment 4.*leaves no action"):
        checked.step(int(np.flatnonzero(env.mask)[0]))
