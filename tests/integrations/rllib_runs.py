"""Programs that start Ray; `run_alone` runs them. Each prints what came out, as JSON.

`python -m tests.integrations.rllib_runs algorithms|learners|restore|node_loss`
"""

import copy
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import keras_agalite.integrations.rllib as rllib  # sets KERAS_BACKEND

# isort: split
import keras
import numpy as np
import psutil
import ray
from ray.rllib.algorithms.appo import APPOConfig
from ray.rllib.algorithms.impala import IMPALAConfig
from ray.rllib.algorithms.ppo import PPOConfig

from keras_agalite import GRU, MemoryPolicy, MLPEncoder
from keras_agalite.environments import TMaze

RAY = Path(sys.executable).with_name("ray")


def make_config(config=None, corridor_length=4, **runners):
    keras.utils.set_random_seed(0)
    env = TMaze(corridor_length=corridor_length)
    policy = MemoryPolicy(
        MLPEncoder(env.observation_space), GRU(32), env.action_space, head_units=32
    )
    runners = {"num_env_runners": 0, "num_envs_per_env_runner": 8, **runners}
    config = (
        (config or PPOConfig())
        .environment(
            "keras_agalite/TMaze-v0", env_config={"corridor_length": corridor_length}
        )
        .env_runners(**runners)
        .learners(num_learners=0)  # IMPALA's default is a process
        .training(
            train_batch_size_per_learner=500, lr=3e-3, grad_clip=0.5, entropy_coeff=0.01
        )
        .debugging(seed=0)
    )
    if not isinstance(config, IMPALAConfig):
        config.training(minibatch_size=250, num_epochs=4)
    return rllib.use_memory_policy(config, policy)


def start():
    ray.init(address="local", include_dashboard=False, num_cpus=4, log_to_driver=False)


def weights_of(algorithm):
    return algorithm.get_module().policy.get_weights()


def same(ours, theirs):
    return len(ours) == len(theirs) and all(map(np.array_equal, ours, theirs))


def train(algorithm, iterations):
    """The mean return after each iteration, and how many steps were made in all."""
    results = [algorithm.train()["env_runners"] for _ in range(iterations)]
    steps = max(x.get("num_env_steps_sampled_lifetime", 0) for x in results)
    return [result.get("episode_return_mean") for result in results], steps


def algorithms():
    """PPO learns; IMPALA and APPO train with a process that acts."""
    start()
    algorithm = make_config().build_algo()
    returns, _ = train(algorithm, 25)
    algorithm.stop()
    report = {"ppo": returns[-1]}
    for name, config in (("impala", IMPALAConfig()), ("appo", APPOConfig())):
        config = make_config(config, num_env_runners=1)
        config.reporting(min_time_s_per_iteration=0)  # 10 by default
        algorithm = config.build_algo()
        before = weights_of(algorithm)
        begin = time.monotonic()
        changed = False
        while not changed and time.monotonic() - begin < 60:
            algorithm.train()
            # What acts in the other process is what the learner has learnt.
            (acting,) = algorithm.env_runner_group.foreach_env_runner(
                lambda runner: runner.module.policy.get_weights(),
                local_env_runner=False,
            )
            changed = not same(before, acting)
        report[name] = changed
        algorithm.stop()
    return report


def learners():
    """Two processes learn, and stay one."""
    start()
    config = make_config(num_env_runners=1).learners(num_learners=2)
    algorithm = config.build_algo()
    returns, steps = train(algorithm, 12)
    ours, theirs = algorithm.learner_group.foreach_learner(
        lambda learner: learner.module["default_policy"].unwrapped().get_state()
    )
    ours, theirs = ([*x.get().values()] for x in (ours, theirs))
    return {"returns": returns, "steps": steps, "same": same(ours, theirs)}


def restore():
    """A whole algorithm from its checkpoint, and the preset, bit for bit."""
    start()
    report = {}
    for name, config in (("ppo", PPOConfig()), ("appo", APPOConfig())):
        config = make_config(config, num_env_runners=int(name == "appo"))
        algorithm = config.build_algo()
        train(algorithm, 3)
        state = _quiet_state(algorithm)
        checkpoint = algorithm.save_to_path(tempfile.mkdtemp())
        algorithm.stop()
        other = config.copy(copy_frozen=False).build_algo()
        fresh = not _equal(state, _learner(other).get_state())
        other.restore_from_path(checkpoint)
        restored = _learner(other).get_state()
        weights = _learner(other).module["default_policy"].policy.get_weights()
        preset = tempfile.mkdtemp()
        rllib.save_checkpoint_as_preset(checkpoint, preset)
        report[name] = {
            "fresh": fresh,
            "module": _equal(state["rl_module"], restored["rl_module"]),
            "optimizer": _equal(state["optimizer"], restored["optimizer"]),
            "acts": same(weights, weights_of(other)),
            "preset": same(weights, MemoryPolicy.from_preset(preset).get_weights()),
            "returns": train(other, 2)[0],
        }
        other.stop()
    return report


def _learner(algorithm):
    return algorithm.learner_group._learner


def _quiet_state(algorithm):
    """The learner's, when its thread (of APPO) has learnt all that it was given."""
    before, now = None, copy.deepcopy(_learner(algorithm).get_state())
    while not _equal(before, now):
        time.sleep(2)
        before, now = now, copy.deepcopy(_learner(algorithm).get_state())
    return now


def _equal(ours, theirs):
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(
            _equal(x, theirs[key]) for key, x in ours.items()
        )
    if isinstance(ours, list | tuple):
        return len(ours) == len(theirs) and all(map(_equal, ours, theirs))
    return np.array_equal(ours, theirs)


def node_loss():
    """Of two nodes one is killed; training goes on, and takes a new one in."""
    node = [str(RAY), "start", "--block", "--num-cpus=1"]
    head = [*node, "--head", "--port=6379", "--include-dashboard=false"]
    worker = [*node, "--address=127.0.0.1:6379"]
    started = [_open(head)]
    try:
        _wait_for_nodes(1)
        started.append(_open(worker))
        _wait_for_nodes(2)
        config = make_config(num_env_runners=2, num_envs_per_env_runner=4)
        config.fault_tolerance(restart_failed_env_runners=True)
        algorithm = config.build_algo()
        group = algorithm.env_runner_group
        report = {"healthy": [group.num_healthy_remote_workers()], "seconds": []}
        report["before"] = train(algorithm, 2)
        _kill(started[1])
        for _ in range(4):
            begin = time.monotonic()
            train(algorithm, 1)
            report["seconds"].append(round(time.monotonic() - begin, 1))
        report["healthy"].append(group.num_healthy_remote_workers())
        report["one"] = train(algorithm, 2)
        started.append(_open(worker))
        _wait_for_nodes(2)
        begin = time.monotonic()
        while group.num_healthy_remote_workers() < 2 and time.monotonic() - begin < 90:
            train(algorithm, 1)
        report["back"] = round(time.monotonic() - begin, 1)
        report["healthy"].append(group.num_healthy_remote_workers())
        report["two"] = train(algorithm, 2)
        algorithm.stop()
        return report
    finally:
        ray.shutdown()
        for process in started:
            _kill(process)


def _open(command):
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _kill(process):
    """With all that it started, without a word."""
    if psutil.pid_exists(process.pid):
        root = psutil.Process(process.pid)
        for child in [root, *root.children(recursive=True)]:
            if child.is_running():
                child.kill()
        process.wait()


def _wait_for_nodes(number):
    begin = time.monotonic()
    while time.monotonic() - begin < 60:
        try:
            if not ray.is_initialized():
                ray.init(address="127.0.0.1:6379", log_to_driver=False)
            if sum(node["Alive"] for node in ray.nodes()) == number:
                return
        except ConnectionError:
            pass
        time.sleep(0.5)
    raise TimeoutError(f"no cluster of {number} nodes")


if __name__ == "__main__":
    code = 1
    try:
        print(json.dumps(globals()[sys.argv[1]](), default=float), flush=True)
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(code)  # Ray's own end may start Ray again, and wait for it
