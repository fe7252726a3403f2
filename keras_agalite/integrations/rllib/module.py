"""A MemoryPolicy as RLlib's RLModule."""

from typing import Any

import keras
import torch
from gymnasium import spaces
from keras import tree
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import (
    TorchCategorical,
    TorchDiagGaussian,
    TorchMultiCategorical,
)
from ray.rllib.core.rl_module.apis import (
    TARGET_NETWORK_ACTION_DIST_INPUTS,
    InferenceOnlyAPI,
    TargetNetworkAPI,
    ValueFunctionAPI,
)
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.rllib.utils.numpy import convert_to_numpy
from ray.rllib.utils.torch_utils import convert_to_torch_tensor

from keras_agalite.models import MemoryPolicy
from keras_agalite.models.action_heads import head_class

# The attribute of MemoryAPPOModule that holds its target network.
TARGET = "target"


def check_backend() -> None:
    """Raises a ValueError unless Keras runs on PyTorch."""
    if keras.backend.backend() != "torch":
        raise ValueError(
            "RLlib trains with PyTorch. Set KERAS_BACKEND=torch before Keras is "
            "imported, for Ray's workers with ray.init(runtime_env={'env_vars': "
            "{'KERAS_BACKEND': 'torch'}}). Received: KERAS_BACKEND="
            f"{keras.backend.backend()!r}"
        )


def action_distribution(policy: MemoryPolicy) -> Any:
    """RLlib's distribution, of the parameters that the policy's actor gives.

    Raises:
        ValueError: If RLlib has none.
    """
    space: Any = policy.action_space
    if type(policy.actor).log_prob is head_class(space).log_prob:
        match space:
            case spaces.Discrete() if space.start == 0:
                return TorchCategorical
            case spaces.MultiDiscrete() if not space.start.any():
                sizes = space.nvec.tolist()
                return TorchMultiCategorical.get_partial_dist_cls(input_lens=sizes)
            case spaces.Box() if len(space.shape) == 1:
                return TorchDiagGaussian
    raise ValueError(
        "RLlib draws categories from 0 on and Gaussians of one axis: `policy` must "
        "have actions that are Discrete or MultiDiscrete without a start, or a Box of "
        "one axis, and an actor with the distribution of `DiscreteHead`, "
        f"`MultiDiscreteHead` or `BoxHead`. Received: action_space={space}, "
        f"actor={policy.actor!r}"
    )


def parameters_of(policy: MemoryPolicy) -> torch.nn.ParameterList:
    """The weights of a policy, themselves and no copies, named by their number.

    Keras names a weight by a path that counts the layers of the process.
    """
    return torch.nn.ParameterList(weight.value for weight in policy.weights)


class MemoryRLModule(TorchRLModule, ValueFunctionAPI):
    """A `MemoryPolicy` for RLlib's PPO and IMPALA; `memory_module_spec` describes it.

    Acting takes one step in a traced program. Learning runs the memory once over rows
    of `max_seq_len` steps, which begin with the state that the rollout had there.

    Attributes:
        policy: The policy.

    Raises:
        ValueError: If Keras does not run on PyTorch, or the spaces of the environment
            are not those of the policy.
    """

    policy: MemoryPolicy
    model_config: dict[str, Any]

    def setup(self) -> None:
        check_backend()
        # A checkpoint's weights are those of its state.
        self.model_config = dict(self.model_config)
        first = self.model_config.pop("weights", None)
        policy = self._make_policy()
        for name in ("observation_space", "action_space"):
            ours, theirs = getattr(policy, name), getattr(self, name)
            if ours != theirs:
                raise ValueError(
                    f"The environment's {name}, behind RLlib's connectors, must be the "
                    f"policy's: {ours}. Received: {name}={theirs}"
                )
        self.action_dist_cls = action_distribution(policy)
        # Not registered as a part: torch would see each weight once a level.
        object.__setattr__(self, "policy", policy)
        self.weights = parameters_of(policy)
        if first is not None:
            policy.set_weights(first.arrays)

    def _make_policy(self) -> MemoryPolicy:
        return MemoryPolicy.from_config(self.model_config["policy"])

    def get_initial_state(self) -> dict[str, torch.Tensor]:
        """The empty memory of one row; an empty dict of a policy without a state."""
        sizes = tree.flatten(self.policy.state_size)
        dtype = getattr(torch, self.policy.state_dtype)
        return {f"{i:03}": torch.zeros(n, dtype=dtype) for i, n in enumerate(sizes)}

    def _state(self, batch: dict[str, Any]) -> Any:
        parts = batch.get(Columns.STATE_IN, {})
        flat = [parts[name] for name in sorted(parts)]
        return tree.pack_sequence_as(self.policy.state_size, flat)

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Parameters of the action distributions of one step, and the next state.

        Args:
            batch: Observations of shape `(batch, 1, ...)` and the state; `(batch, ...)`
                of a policy without a state.
            **kwargs: Not used.
        """
        stateful = self.is_stateful()
        observation = convert_to_numpy(batch[Columns.OBS])
        if stateful:
            observation = tree.map_structure(lambda x: x[:, 0], observation)
        with self._on_device():
            output, _, state = self.policy.step(observation, self._state(batch))
        logits = torch.as_tensor(output)
        if not stateful:
            return {Columns.ACTION_DIST_INPUTS: logits}
        parts = {f"{i:03}": x for i, x in enumerate(tree.flatten(state))}
        return {Columns.ACTION_DIST_INPUTS: logits[:, None], Columns.STATE_OUT: parts}

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Parameters of the action distributions, and values as RLlib's embeddings.

        Args:
            batch: Observations of shape `(batch, max_seq_len, ...)` and the states
                before them; `(batch, ...)` of a policy without a state.
            **kwargs: Not used.
        """
        logits, value = self._run(self.policy, batch)
        return {Columns.ACTION_DIST_INPUTS: logits, Columns.EMBEDDINGS: value}

    def _run(
        self, policy: MemoryPolicy, batch: dict[str, Any], training: bool = True
    ) -> tuple[Any, Any]:
        """Logits and values of rows, or of steps of a policy without a state."""
        stateful = self.is_stateful()
        observations = batch[Columns.OBS]
        if not stateful:
            observations = tree.map_structure(lambda x: x[:, None], observations)
        with self._on_device():
            out, _ = policy(observations, self._state(batch), training=training)
        return out if stateful else (out.logits[:, 0], out.value[:, 0])

    def _on_device(self) -> Any:
        """Keras takes a GPU that it sees; RLlib says where the module is."""
        return keras.device(str(self.weights[0].device))

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Any:
        """Values of shape `(batch, max_seq_len)`; `(batch,)` without a state.

        Args:
            batch: As of `forward_train`.
            embeddings: The values, if `forward_train` has given them.
        """
        return self._run(self.policy, batch)[1] if embeddings is None else embeddings

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes the weights that `get_state` gave, of this module or another one.

        A target network is kept where the state has none, and left out where this
        module has none.

        Raises:
            RuntimeError: If other weights are missing, unknown or of another shape.
                RLlib itself would pass over them.
        """
        own = self.state_dict()
        weights = {
            key: x
            for key, x in state.items()
            if key in own or not key.startswith(f"{TARGET}.")
        }
        kept = {key: x for key, x in own.items() if key.startswith(f"{TARGET}.")}
        self.load_state_dict(convert_to_torch_tensor({**kept, **weights}))


class MemoryAPPOModule(MemoryRLModule, InferenceOnlyAPI, TargetNetworkAPI):
    """A `MemoryPolicy` for RLlib's APPO, with a second policy as target network.

    The learner makes the target, and checkpoints hold it; workers have none.

    Attributes:
        policy: The policy.
        target_policy: The target network, in the learner.

    Raises:
        ValueError: As `MemoryRLModule`.
    """

    target_policy: MemoryPolicy

    def make_target_networks(self) -> None:
        with self._on_device():
            policy = self._make_policy()
        policy.set_weights(self.policy.get_weights())
        object.__setattr__(self, "target_policy", policy)
        self.target = parameters_of(policy).requires_grad_(False)

    def get_target_network_pairs(self) -> list[tuple[Any, Any]]:
        """`[(weights, target)]`: lists of parameters, which RLlib averages."""
        return [(self.weights, self.target)]

    def forward_target(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Parameters of the target's action distributions, without gradients.

        Args:
            batch: As of `forward_train`.
        """
        with torch.no_grad():
            logits, _ = self._run(self.target_policy, batch, training=False)
        return {TARGET_NETWORK_ACTION_DIST_INPUTS: logits}

    def get_non_inference_attributes(self) -> list[str]:
        return [TARGET]
