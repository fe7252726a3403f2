"""MemoryPolicy: an encoder, a memory and heads behind one interface."""

import copy
from typing import Any

import gymnasium
import keras
from keras import ops

from keras_agalite.action_masks import ACTION_MASK, mask_sizes
from keras_agalite.layers import MemoryRNN
from keras_agalite.layers.checks import check_sizes
from keras_agalite.layers.sequence_memory import add_merge
from keras_agalite.models.action_heads import ActionHead, head_class, mask_logits
from keras_agalite.models.base import Policy, PolicyOutput, check_encoder, encode
from keras_agalite.models.dense import mlp
from keras_agalite.models.encoders import Encoder
from keras_agalite.models.normalization import ObservationNormalizer
from keras_agalite.models.spaces import space_from_config, space_to_config


@keras.saving.register_keras_serializable(package="keras_agalite")
class MemoryPolicy(Policy):
    """An actor-critic policy with a memory, for partially observable environments.

    All weights exist once it is made. Zeros are the empty memory, and `start` says
    where an episode begins; the state is float32 under every mixed-precision
    policy.

    Where the observation is a Dict with the key `action_mask`, actions whose flag is
    zero are impossible: they are never chosen, and the distribution is that of the
    others. A mask is for Discrete and MultiDiscrete actions (their flags one after
    another), a `MultiBinary` space or a Box from 0 to 1 of one axis. The encoder does
    not see it.

    Args:
        encoder: An `Encoder`, which knows the observation space.
        memory: A `MemoryRNN` such as `AGaLiTe`. The policy uses this layer, no copy:
            from then on the layer returns sequences and states. The heads have its
            dtype and its `saved_activations`.
        action_space: Gymnasium space: Discrete, MultiDiscrete, MultiBinary or a Box of
            floats.
        head_units: Width of the hidden layer of the actor and of the critic.
        head_activation: Activation of these layers.
        actor: An `ActionHead` for the action space. If None, the policy makes the one
            that fits the space: `DiscreteHead`, `MultiDiscreteHead`,
            `MultiBinaryHead` or `BoxHead`.
        normalize_observations: Whether the encoder sees the floats of an observation
            brought to mean 0 and deviation 1. Both are weights of the policy, which
            acting and gradients leave as they are: `policy.normalizer.update(...)`
            counts observations in.
        merge_units: Width of SHERL's merge (`layers.sherl_merge`) in front of the
            memory's last block, with which a policy is fine-tuned; 0: none.

    Attributes:
        presets: Names of the released policies, for `from_preset`.
        normalizer: The `ObservationNormalizer`; None without one.

    Call arguments:
        observations: Tensor of shape `(batch, time, ...)`, or a dict or tuple of
            them.
        state: State from the last call; the empty memory if None.
        start: Optional boolean tensor of shape `(batch, time)`: the observation is
            the first of an episode.

    Returns:
        `(out, state)` with `out.logits` and `out.value`, differentiable.

    Raises:
        ValueError: If a part is of the wrong kind, a space is not supported, or an
            input is of the wrong structure or shape.
        NotImplementedError: From `fit` and the other methods of `keras.Model` for
            supervised learning.

    Example:

    >>> space = env.observation_space
    >>> policy = MemoryPolicy(MLPEncoder(space), AGaLiTe(2), env.action_space)
    >>> state = policy.initial_state(1)
    >>> observation, _ = env.reset(seed=0)
    >>> action, state = policy.act(observation[None], state, start=[True])
    """

    def __init__(
        self,
        encoder: Encoder,
        memory: MemoryRNN,
        action_space: gymnasium.Space[Any],
        head_units: int = 128,
        head_activation: str = "tanh",
        actor: ActionHead | None = None,
        normalize_observations: bool = False,
        merge_units: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_encoder(encoder)
        if not isinstance(memory, MemoryRNN) or memory.stateful:
            raise ValueError(
                "`memory` must be a MemoryRNN that is not stateful. Received: "
                f"memory={memory!r}"
            )
        if isinstance(action_space, dict):
            action_space = space_from_config(action_space)
        if actor is not None and (
            not isinstance(actor, ActionHead) or actor.action_space != action_space
        ):
            raise ValueError(
                f"`actor` must be an ActionHead for the action space {action_space}. "
                f"Received: actor={actor!r}"
            )
        check_sizes({"head_units": head_units})
        memory.return_sequences = memory.return_state = True
        if type(merge_units) is not int or merge_units:
            check_sizes({"merge_units": merge_units})
        self.encoder = encoder
        self.memory = memory
        self.head_units = head_units
        self.head_activation = head_activation
        dtype = memory.dtype_policy
        self.merge_units = merge_units
        self.has_own_actor = actor is not None
        saved = memory.saved_activations
        self.actor = actor or head_class(action_space)(
            action_space,
            head_units,
            head_activation,
            dtype=dtype,
            saved_activations=saved,
            name="actor",
        )
        self.mask_sizes = mask_sizes(encoder.observation_space, action_space)
        if self.mask_sizes and sum(self.mask_sizes) != self.actor.num_action_params:
            raise ValueError(
                "An observation with an `action_mask` needs an action head whose "
                f"parameters are {sum(self.mask_sizes)} logits. Received: actor="
                f"{self.actor!r} with {self.actor.num_action_params} parameters"
            )
        self.critic_hidden, self.critic_output = mlp(
            head_units, head_activation, 1, dtype, saved_activations=saved
        )
        self.normalizer: ObservationNormalizer | None = None
        if normalize_observations:
            self.normalizer = ObservationNormalizer(self.observation_space)
        if merge_units:
            add_merge(memory, merge_units)
        self._build()

    def _build(self) -> None:
        if not self.encoder.built:
            self.encoder.build(None)
        inputs = (None, None, self.memory_inputs)
        self.memory.build(inputs)
        features = self.memory.compute_output_shape(inputs)[0]
        if not self.actor.built:
            self.actor.build(features)
        self.critic_hidden.build(features)
        self.critic_output.build((*features[:-1], self.head_units))
        for layer in (self.encoder, self.memory, self.actor):
            layer.built = True
        self.built = True

    @property
    def observation_space(self) -> gymnasium.Space[Any]:
        return self.encoder.observation_space

    @property
    def memory_inputs(self) -> int:
        """Width of what the memory reads."""
        return self.encoder.output_size

    @property
    def state_size(self) -> list[Any]:
        return self.memory.state_size

    @property
    def state_dtype(self) -> str:
        return self.memory.state_dtype

    def call(
        self,
        observations: Any,
        state: Any = None,
        start: Any = None,
        training: bool = False,
    ) -> tuple[PolicyOutput, list[Any]]:
        features, state = self.remember(observations, state, start, training)
        return self.decide(features, observations), state

    def remember(
        self,
        observations: Any,
        state: Any = None,
        start: Any = None,
        training: bool = False,
    ) -> tuple[Any, list[Any]]:
        """The first half of a call: the encoder and the memory.

        Args:
            observations: As in a call.
            state: As in a call.
            start: As in a call.
            training: As in a call.

        Returns:
            `(features, state)`: the memory's output, of shape `(batch, time, size)`,
            which `decide` takes, and the new state.

        Raises:
            ValueError: If an input is of the wrong structure or shape.

        Example:

        >>> features, state = policy.remember(observations)
        >>> out = policy.decide(features, observations)
        """
        batch, length = self._check_observations(observations)
        features = encode(self.encoder, observations, batch, length, self.normalizer)
        features, *state = self.memory(
            features, initial_state=state, start=start, training=training
        )
        return features, state

    def decide(self, features: Any, observations: Any) -> PolicyOutput:
        """The second half of a call: actor and critic on the memory's output.

        Args:
            features: Tensor of shape `(batch, time, size)`, from `remember`.
            observations: As in a call; only their `action_mask` is read, if any.

        Returns:
            `PolicyOutput`, as of a call.
        """
        logits = self.actor(features)
        if self.mask_sizes:
            logits = mask_logits(logits, observations[ACTION_MASK])
        value = self.critic_output(self.critic_hidden(features))
        return PolicyOutput(logits, ops.cast(ops.squeeze(value, -1), "float32"))

    def get_config(self) -> dict[str, Any]:
        actor = self.actor if self.has_own_actor else None
        return {
            "name": self.name,
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "memory": keras.saving.serialize_keras_object(self.memory),
            "action_space": space_to_config(self.action_space),
            "head_units": self.head_units,
            "head_activation": self.head_activation,
            "actor": actor and keras.saving.serialize_keras_object(actor),
            "normalize_observations": self.normalizer is not None,
            "merge_units": self.merge_units,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        config = copy.deepcopy(config)  # keras.layers.RNN empties what it reads
        if config.get("merge_units"):  # the policy adds it before it builds the memory
            config["memory"].pop("build_config", None)
        for part in {"encoder", "memory", "actor"} & set(config):
            config[part] = keras.saving.deserialize_keras_object(
                config[part], custom_objects=custom_objects
            )
        return cls(**config)
