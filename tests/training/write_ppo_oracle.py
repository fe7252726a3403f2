"""Writes what TF-Agents' agent makes of a batch: the oracle of the JAX engine's PPO.

Run in a process of its own: `KERAS_BACKEND=tensorflow python -m
tests.training.write_ppo_oracle FILE`.
"""

import sys

import numpy as np

from tests.integrations.test_ppo_agent import TIME, Rollout, twin

# isort: split
import tensorflow as tf
import tf_keras
from tf_agents.trajectories import StepType

from keras_agalite.integrations.tf_agents import MemoryPPOAgent

ROWS = 24
SETTINGS = {
    "discount_factor": 0.97,
    "lambda_value": 0.9,
    "entropy_regularization": 0.01,
    "value_pred_loss_coef": 0.25,
    "importance_ratio_clipping": 0.2,
}


def main(file):
    rollout = Rollout(ROWS, max_episode_steps=17, value_clipping=0.0, **SETTINGS)
    for _ in range(3):
        rollout.collect()
    experience, state = rollout.collect()  # begins in the middle of episodes
    # The frame after the last step was there for the bootstrap value alone.
    experience = tf.nest.map_structure(lambda x: x[:, :TIME], experience)
    policy = twin(rollout)  # other weights than those that collected
    kernel = policy.actor.weights[-2]
    kernel.assign(kernel + np.random.default_rng(2).normal(size=kernel.shape))
    weights = policy.get_weights()
    agent = MemoryPPOAgent(
        rollout.environment.time_step_spec(),
        rollout.environment.action_spec(),
        policy,
        tf_keras.optimizers.SGD(1.0),
        **SETTINGS,
    )
    info = agent.train(experience, initial_state=state)
    after = policy.get_weights()
    final = rollout.agent.collect_policy.distribution(rollout.time_step, rollout.state)
    logits = experience.policy_info["dist_params"]["logits"]
    log_prob = tf.nn.log_softmax(logits)
    arrays = {
        "observation": experience.observation,
        "start": experience.step_type == StepType.FIRST,
        "valid": experience.step_type != StepType.LAST,
        "action": experience.action,
        "log_prob": tf.gather(log_prob, experience.action, batch_dims=2),
        "value": experience.policy_info["value_prediction"],
        "reward": experience.reward,
        "terminated": experience.discount == 0.0,
        "ended": experience.next_step_type == StepType.LAST,
        "final_value": final.info["value_prediction"],
        "advantage": experience.policy_info["advantage"],
        "returns": experience.policy_info["return"],
        "loss": info.loss,
        **{f"term/{k}": v for k, v in info.extra._asdict().items()},
    }
    for i, x in enumerate(state["actor_network_state"]):
        arrays[f"state/{i:03}"] = x
    for i, (a, b) in enumerate(zip(weights, after, strict=True)):
        arrays[f"weight/{i:03}"] = a
        arrays[f"gradient/{i:03}"] = a - b  # one step of SGD at 1
    np.savez(file, **{name: np.asarray(x) for name, x in arrays.items()})


if __name__ == "__main__":
    main(sys.argv[1])
