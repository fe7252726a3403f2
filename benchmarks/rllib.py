"""`python -m benchmarks.rllib ppo|impala|appo`: RLlib trains a policy on T-Maze 10.

Prints the steps, the mean return of the last episodes and the steps per second of each
report, ends at a return or after some minutes, and evaluates the preset that it writes.
Ray listens on every address of the machine: see docs/rllib.md.
"""

import argparse
import os
import sys
import time

# RLlib's settings, the ones of training/recipes/tmaze_10.toml where it has them.
SHARED = {"gamma": 0.99, "lr": 1e-3, "grad_clip": 0.5}
SETTINGS = {
    "ppo": {
        "train_batch_size_per_learner": 2048,
        "minibatch_size": 512,
        "num_epochs": 4,
        "lambda_": 0.95,
        "entropy_coeff": 0.01,
        "vf_loss_coeff": 0.25,
        "clip_param": 0.2,
        "use_kl_loss": False,
    },
    "impala": {"train_batch_size_per_learner": 500, "entropy_coeff": 0.01},
    "appo": {
        "train_batch_size_per_learner": 500,
        "entropy_coeff": 0.01,
        "circular_buffer_iterations_per_batch": 2,
    },
}
ENVIRONMENT = {"corridor_length": 10}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rllib", description=__doc__
    )
    parser.add_argument("algorithm", choices=tuple(SETTINGS))
    parser.add_argument("--memory", default="gru")
    parser.add_argument("--runners", type=int, default=0, help="processes that act")
    parser.add_argument("--environments", type=int, default=16, help="of a runner")
    parser.add_argument("--learners", type=int, default=0, help="processes that learn")
    parser.add_argument("--max-seq-len", type=int, default=32)
    parser.add_argument("--return", type=float, default=3.0, dest="target")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--preset", default="runs/rllib/preset", metavar="FOLDER")
    options = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from keras_agalite.integrations.rllib import save_checkpoint_as_preset

    algorithm = make_algorithm(options)
    train(algorithm, options)
    checkpoint = algorithm.save_to_path()
    algorithm.stop()
    save_checkpoint_as_preset(checkpoint, options.preset)
    score(options.preset)
    return 0


def make_algorithm(options):
    import keras
    import ray
    from ray.rllib.algorithms.appo import APPOConfig
    from ray.rllib.algorithms.impala import IMPALAConfig
    from ray.rllib.algorithms.ppo import PPOConfig

    from keras_agalite.integrations.rllib import use_memory_policy
    from keras_agalite.zoo import tmaze_policy

    keras.utils.set_random_seed(options.seed)
    ray.init(address="local", include_dashboard=False)
    policy = tmaze_policy(10, options.memory, weights=None)
    configs = {"ppo": PPOConfig, "impala": IMPALAConfig, "appo": APPOConfig}
    config = (
        configs[options.algorithm]()
        .environment("keras_agalite/TMaze-v0", env_config=ENVIRONMENT)
        .env_runners(
            num_env_runners=options.runners,
            num_envs_per_env_runner=options.environments,
        )
        .learners(num_learners=options.learners)
        .training(**SHARED, **SETTINGS[options.algorithm])
        .debugging(seed=options.seed)
    )
    return use_memory_policy(config, policy, options.max_seq_len).build_algo()


def train(algorithm, options) -> None:
    begin, told = time.perf_counter(), 0.0
    while True:
        result = algorithm.train()["env_runners"]
        seconds = time.perf_counter() - begin
        steps = int(result.get("num_env_steps_sampled_lifetime", 0))
        mean = result.get("episode_return_mean", float("nan"))
        over = mean >= options.target or seconds > 60 * options.minutes
        if over or seconds - told > 10:
            told = seconds
            rate = steps / seconds
            print(f"{seconds:5.0f} s {steps:7,} steps return {mean:6.2f} {rate:4.0f}/s")
            sys.stdout.flush()
        if over:
            return


def score(preset: str) -> None:
    import keras_agalite

    policy = keras_agalite.MemoryPolicy.from_preset(preset)
    result = keras_agalite.evaluate(policy, "tmaze_10")
    print(f"preset: success {result['success_rate']:.1%} in {result['episodes']}")


if __name__ == "__main__":
    sys.exit(main())
