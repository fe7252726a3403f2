"""Memory policies in RLlib: what the learner sees is what the rollout saw.

Most tests need no cluster: RLlib's runner, connectors and learner in this process. The
others run `rllib_runs.py` where there is no network but loopback.
"""

import json
import sys

import gymnasium
import keras
import numpy as np
import pytest
from gymnasium import spaces

import keras_agalite
from keras_agalite import MemoryPolicy
from tests.integrations.namespaces import run_alone
from tests.integrations.setup import small_policy
from tests.memories import tiny
from tests.test_docs import PAGES, programs_of

pytest.importorskip("ray", reason="needs Ray: make test-ray")
if keras.backend.backend() != "torch":
    pytest.skip("RLlib trains with PyTorch", allow_module_level=True)

import torch
from ray.rllib.algorithms.appo import APPOConfig
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.algorithms.impala import IMPALAConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.utils import update_target_network
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

from keras_agalite.integrations import rllib

pytestmark = pytest.mark.filterwarnings("ignore")
MODULE = "default_policy"
ACTIONS = {
    "Discrete": spaces.Discrete(3),
    "MultiDiscrete": spaces.MultiDiscrete([2, 3]),
    "Box": spaces.Box(np.float32([-9.0, 2.0]), np.float32([9.0, 6.0])),
}
MEMORIES = ("gru", "agalite", "gtrxl", "lru", "memoryless")


class Walk(gymnasium.Env):
    """Random observations; episodes of 4 to 23 steps. Remembers its actions."""

    observation_space = spaces.Box(-1.0, 1.0, (3,), np.float32)

    def __init__(self, config):
        self.action_space = config["action_space"]
        self.actions = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = self.np_random.integers(4, 24)
        return self.observe(), {}

    def step(self, action):
        self.actions.append(np.copy(action))
        self.left -= 1
        reward = float(self.np_random.normal())
        return self.observe(), reward, bool(self.left <= 0), False, {}

    def observe(self):
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)


def lively_policy(action_space=ACTIONS["Discrete"], memory="gru", seed=0):
    """A policy whose actions depend on all that it has seen."""
    policy = small_policy(Walk.observation_space, action_space, tiny(memory), seed)
    random = np.random.default_rng(seed)
    policy.set_weights([random.normal(0, 0.5, w.shape) for w in policy.weights])
    return policy


def make_config(policy, config=None, max_seq_len=5, **settings):
    config = (
        (config or PPOConfig())
        .environment(Walk, env_config={"action_space": policy.action_space})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=3)
        .training(lr=1e-2, **settings)
        .debugging(seed=0)
    )
    return rllib.use_memory_policy(config, policy, max_seq_len)


def make_module(policy, **kwargs):
    spec = rllib.memory_module_spec(policy, **kwargs)
    spec.observation_space = policy.observation_space
    spec.action_space = policy.action_space
    return spec.build()


def rows_of(config):
    """A learner, and what it sees of a second sample, cut in mid-episode."""
    runner = SingleAgentEnvRunner(config=config)
    runner.sample(num_timesteps=40, random_actions=False)
    episodes = runner.sample(num_timesteps=60, random_actions=False)
    assert any(episode.t_started > 0 for episode in episodes)
    learner = config.build_learner(env=runner.env)
    batch = learner._learner_connector(
        rl_module=learner.module, batch={}, episodes=episodes, shared_data={}
    )
    return learner, batch[MODULE], episodes


@pytest.mark.parametrize("memory", MEMORIES)
def test_rows_of_the_learner_equal_the_rollout(memory):
    policy = lively_policy(memory=memory)

    learner, batch, _ = rows_of(make_config(policy))
    module = learner.module[MODULE]
    out = module.forward_train(batch)

    mask = batch[Columns.LOSS_MASK]
    assert 60 <= mask.sum() < mask.numel()
    assert mask.ndim == (1 if memory == "memoryless" else 2)
    logits = batch[Columns.ACTION_DIST_INPUTS][mask]
    assert logits.std() > 0.1
    assert (out[Columns.ACTION_DIST_INPUTS] - batch[Columns.ACTION_DIST_INPUTS])[
        mask
    ].abs().max() < 1e-5
    values = module.compute_values(batch, out[Columns.EMBEDDINGS])
    torch.testing.assert_close(values, module.compute_values(batch))
    # Several learners wait for the gradient of every weight.
    (values.sum() + out[Columns.ACTION_DIST_INPUTS].sum()).backward()
    assert all(weight.grad is not None for weight in module.weights)
    if memory != "memoryless":
        state = batch[Columns.STATE_IN]
        empty = {key: torch.zeros_like(x) for key, x in state.items()}
        other = module.forward_train({**batch, Columns.STATE_IN: empty})
        difference = other[Columns.ACTION_DIST_INPUTS][mask] - logits
        assert difference.abs().max() > 0.01


@pytest.mark.parametrize("kind", ACTIONS)
def test_rllib_draws_from_the_policy_s_distribution(kind):
    policy = lively_policy(ACTIONS[kind])

    learner, batch, _ = rows_of(make_config(policy))

    mask = batch[Columns.LOSS_MASK]
    logits, actions = batch[Columns.ACTION_DIST_INPUTS], batch[Columns.ACTIONS]
    torch.testing.assert_close(
        policy.actor.log_prob(logits, actions)[mask],
        batch[Columns.ACTION_LOGP][mask],
        rtol=1e-4,
        atol=1e-4,
    )
    module = learner.module[MODULE]
    ours = module.get_train_action_dist_cls().from_logits(logits)
    torch.testing.assert_close(ours.entropy(), policy.actor.entropy(logits))


def test_a_learner_changes_every_weight_and_not_the_policy_of_the_user():
    policy = lively_policy()
    before = policy.get_weights()
    learner, _, episodes = rows_of(make_config(policy, num_epochs=2))
    module = learner.module[MODULE]
    for ours, theirs in zip(before, module.policy.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)

    learner.update(episodes=episodes, num_epochs=2, minibatch_size=30)

    for ours, theirs in zip(before, module.policy.get_weights(), strict=True):
        assert np.any(ours != theirs)
    for ours, theirs in zip(before, policy.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("memory", ["gru", "lru"])
def test_modules_of_one_process_exchange_their_weights(memory):
    source = make_module(lively_policy(memory=memory))
    target = make_module(lively_policy(memory=memory, seed=1))

    state = source.get_state()
    target.set_state(state)

    assert len(state) == len(source.policy.weights)
    assert [*source.parameters()] == [*source.weights]
    for module in (source, target):
        for ours, theirs in zip(module.weights, module.policy.weights, strict=True):
            assert ours is theirs.value
    for ours, theirs in zip(
        source.policy.get_weights(), target.policy.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    observation = source.policy.sample_observation(2, seed=0)
    np.testing.assert_array_equal(
        source.policy.step(observation)[0], target.policy.step(observation)[0]
    )


def test_other_weights_are_refused():
    module = make_module(lively_policy())
    state = module.get_state()
    first = state.pop("weights.0")

    for wrong in (
        state,
        {**state, "weights.0": first[:1]},
        {**state, "weights.0": first, "encoder/kernel": first},
    ):
        with pytest.raises(RuntimeError, match="loading state_dict for MemoryRLModule"):
            module.set_state(wrong)


def test_observation_normalisation_comes_along():
    policy = MemoryPolicy(
        keras_agalite.MLPEncoder(Walk.observation_space),
        tiny("gru"),
        ACTIONS["Discrete"],
        normalize_observations=True,
    )
    policy.normalizer.update(3 + policy.sample_observation(50, seed=0))
    module = make_module(policy)
    other = make_module(MemoryPolicy.from_config(policy.get_config()))
    observation = policy.sample_observation(2, seed=1)
    expected = policy.step(observation)[0]
    assert np.abs(other.policy.step(observation)[0] - expected).max() > 1e-5

    other.set_state(module.get_state())

    np.testing.assert_array_equal(other.policy.step(observation)[0], expected)


@pytest.mark.parametrize("rescale", [False, True])
def test_box_actions_reach_the_environment_as_drawn(rescale):
    """Unless RLlib is told to rescale them, which is its default."""
    config = make_config(lively_policy(ACTIONS["Box"]))
    config.environment(normalize_actions=rescale)
    runner = SingleAgentEnvRunner(config=config)

    episodes = runner.sample(num_timesteps=30, random_actions=False)

    drawn = np.concatenate([episode.get_actions() for episode in episodes])
    taken = np.concatenate([env.unwrapped.actions for env in runner.env.unwrapped.envs])
    low, high = ACTIONS["Box"].low, ACTIONS["Box"].high
    assert np.any(drawn != drawn.clip(low, high))
    drawn, taken = (np.sort(x, axis=0) for x in (drawn.clip(low, high), taken))
    assert np.array_equal(drawn, taken) is not rescale


@pytest.mark.parametrize(
    "action_space",
    [
        spaces.Discrete(3, start=1),
        spaces.MultiDiscrete([2, 3], start=[0, 1]),
        spaces.Box(-1.0, 1.0, (2, 2)),
        spaces.MultiBinary(2),
    ],
    ids=str,
)
def test_actions_that_rllib_cannot_draw_are_refused(action_space):
    policy = lively_policy(action_space)

    with pytest.raises(ValueError, match="draws categories from 0 on and Gaussians"):
        rllib.memory_module_spec(policy)


def test_a_head_with_a_distribution_of_its_own_is_refused():
    class Sharp(keras_agalite.models.DiscreteHead):
        def log_prob(self, action_params, actions):
            return super().log_prob(2 * action_params, actions)

    policy = MemoryPolicy(
        keras_agalite.MLPEncoder(Walk.observation_space),
        tiny("gru"),
        ACTIONS["Discrete"],
        actor=Sharp(ACTIONS["Discrete"]),
    )
    with pytest.raises(ValueError, match="actor=<Sharp"):
        rllib.memory_module_spec(policy)


def test_another_backend_is_refused(monkeypatch):
    policy = lively_policy()
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")

    with pytest.raises(ValueError, match="Received: KERAS_BACKEND='jax'"):
        rllib.memory_module_spec(policy)


def test_what_cannot_be_trained_is_refused():
    policy = lively_policy()

    with pytest.raises(ValueError, match="Received: config=DQNConfig"):
        rllib.use_memory_policy(DQNConfig(), policy)
    with pytest.raises(ValueError, match="Received: policy='tmaze_10'"):
        rllib.use_memory_policy(PPOConfig(), "tmaze_10")
    with pytest.raises(ValueError, match="Received: max_seq_len=0"):
        rllib.use_memory_policy(PPOConfig(), policy, 0)


@pytest.mark.parametrize("part", ["observation_space", "action_space"])
def test_another_environment_is_refused(part):
    spec = rllib.memory_module_spec(lively_policy())
    spec.observation_space = Walk.observation_space
    spec.action_space = spaces.Discrete(3)
    setattr(spec, part, spaces.Discrete(7))

    with pytest.raises(ValueError, match=rf"Received: {part}=Discrete\(7\)"):
        spec.build()


def test_the_target_network_of_appo():
    policy = lively_policy()
    module = make_module(policy, module_class=rllib.MemoryAPPOModule)
    worker = make_module(policy, module_class=rllib.MemoryAPPOModule)
    batch = {
        Columns.OBS: torch.rand(2, 5, 3),
        Columns.STATE_IN: {"000": torch.rand(2, 5), "001": torch.rand(2, 5)},
    }
    module.make_target_networks()
    ((main, target),) = module.get_target_network_pairs()

    def target_logits():
        (logits,) = module.forward_target(batch).values()
        assert not logits.requires_grad
        return logits

    logits = module.forward_train(batch)[Columns.ACTION_DIST_INPUTS]
    torch.testing.assert_close(target_logits(), logits.detach())
    old = [x.clone() for x in target]
    with torch.no_grad():
        for x in main:
            x += 1.0
    torch.testing.assert_close(target_logits(), logits.detach())
    update_target_network(main_net=main, target_net=target, tau=0.25)
    for x, before, now in zip(target, old, main, strict=True):
        torch.testing.assert_close(x, 0.75 * before + 0.25 * now)
        assert not x.requires_grad
    assert (target_logits() - logits).abs().max() > 0.01

    state = module.get_state()
    assert len(state) == 2 * len(policy.weights)
    assert module.get_state(inference_only=True).keys() == worker.get_state().keys()
    worker.set_state(state)  # which has no target
    assert torch.equal(worker.weights[0], main[0])
    copy = make_module(policy, module_class=rllib.MemoryAPPOModule)
    copy.make_target_networks()
    copy.set_state(module.get_state(inference_only=True))
    assert torch.equal(copy.weights[0], main[0])
    torch.testing.assert_close(copy.target[0], old[0], rtol=0, atol=0)
    copy.set_state(state)
    assert torch.equal(copy.target[0], target[0])


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (PPOConfig, "MemoryRLModule"),
        (IMPALAConfig, "MemoryRLModule"),
        (APPOConfig, "MemoryAPPOModule"),
    ],
)
def test_each_algorithm_has_its_module(config, name):
    policy = lively_policy()

    config = rllib.use_memory_policy(config(), policy, 7)

    spec = config.rl_module_spec
    assert spec.module_class is getattr(rllib, name)
    assert spec.model_config["max_seq_len"] == 7
    assert str(spec.model_config["weights"]) == f"<{len(policy.weights)} arrays>"
    assert (config.normalize_actions, config.clip_actions) == (False, True)


def test_several_policies_side_by_side():
    policies = {"walker": lively_policy(), "runner": lively_policy(memory="lru")}

    def build():
        specs = {name: rllib.memory_module_spec(p) for name, p in policies.items()}
        for spec in specs.values():
            spec.observation_space = Walk.observation_space
            spec.action_space = ACTIONS["Discrete"]
        return MultiRLModuleSpec(rl_module_specs=specs).build()

    ours, theirs = build(), build()
    ours["runner"].policy.set_weights(lively_policy(memory="lru", seed=1).get_weights())
    theirs.set_state(ours.get_state())

    for name in policies:
        for x, y in zip(ours[name].weights, theirs[name].weights, strict=True):
            assert torch.equal(x, y)


def test_a_checkpoint_becomes_a_preset(tmp_path):
    policy = lively_policy(memory="agalite")
    module = make_module(policy, module_class=rllib.MemoryAPPOModule)
    module.make_target_networks()
    folder = tmp_path / "learner_group" / "learner" / "rl_module" / MODULE
    module.save_to_path(folder)

    rllib.save_checkpoint_as_preset(tmp_path, tmp_path / "preset")

    preset = MemoryPolicy.from_preset(tmp_path / "preset")
    for ours, theirs in zip(policy.get_weights(), preset.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match="must be the folder that an algorithm has"):
        rllib.save_checkpoint_as_preset(folder, tmp_path / "preset")
    with pytest.raises(ValueError, match="rl_module/player"):
        rllib.save_checkpoint_as_preset(tmp_path, tmp_path / "preset", "player")


def run(name):
    """What a program of rllib_runs.py reports; its last line, behind Ray's."""
    program = (sys.executable, "-m", "tests.integrations.rllib_runs", name)
    return json.loads(run_alone(*program, timeout=900).splitlines()[-1])


def test_ppo_learns_and_processes_that_act_get_what_impala_and_appo_learn():
    report = run("algorithms")

    assert report.pop("ppo") > 1.5  # 1.2 is the best without a memory, 3.7 with one
    assert report == {"impala": True, "appo": True}


def programs_with_ray():
    """The different programs of the docs that need Ray."""
    programs = {
        block.text: f"{page.stem}-{name}"
        for page in PAGES
        for name, program in programs_of(page).items()
        for block in program.blocks
        if "ray" in program.words["needs"].split(",") and block.language == "python"
    }
    return [pytest.param(text, id=name) for text, name in programs.items()]


@pytest.mark.parametrize("text", programs_with_ray())
def test_a_program_of_the_docs_runs(text, tmp_path):
    run_alone(sys.executable, "-c", text, cwd=tmp_path)


@pytest.mark.slow
def test_two_learners_stay_one():
    report = run("learners")

    assert report["same"]
    assert np.mean(report["returns"][-3:]) > report["returns"][0] + 0.5


@pytest.mark.slow
def test_an_algorithm_is_restored_and_a_preset_saved_bit_for_bit():
    for report in run("restore").values():
        assert len(report.pop("returns")) == 2
        assert all(report.values()), report


@pytest.mark.slow
def test_training_goes_on_when_a_node_is_killed():
    report = run("node_loss")

    assert report["healthy"] == [2, 1, 2]
    steps = [report[phase][1] for phase in ("before", "one", "two")]
    assert steps == sorted(set(steps))
