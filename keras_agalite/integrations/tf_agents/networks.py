"""A pair of TF-Agents networks over one MemoryPolicy."""

from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp
from gymnasium import spaces
from keras import tree
from tf_agents.networks import network
from tf_agents.trajectories import time_step as ts
from tf_agents.utils import nest_utils

from keras_agalite.models import MemoryPolicy, PolicyOutput
from keras_agalite.models.action_heads import IMPOSSIBLE


def state_spec(policy: MemoryPolicy) -> Any:
    """The TF-Agents spec of a policy's state; `()` for one without."""
    dtype = policy.memory.state_dtype
    spec = tree.map_structure(
        lambda size: tf.TensorSpec((size,), dtype), list(policy.state_size)
    )
    return spec or ()


def run_policy(
    policy: MemoryPolicy,
    observation: Any,
    step_type: Any,
    state: Any,
    spec: Any,
    training: bool = False,
) -> tuple[PolicyOutput, Any]:
    """Runs a policy on one step `(batch, ...)` or on sequences `(batch, time, ...)`.

    A first step empties the memory, wherever it is. `state=()` is the empty memory.
    """
    one_step = nest_utils.get_outer_rank(observation, spec) == 1
    start = tf.equal(step_type, ts.StepType.FIRST)
    if one_step:
        observation = tf.nest.map_structure(lambda x: x[:, None], observation)
        start = start[:, None]
    has_state = state is not None and tf.nest.flatten(state)
    out, state = policy(
        observation, list(state) if has_state else None, start, training=training
    )
    if one_step:
        out = PolicyOutput(out.logits[:, 0], out.value[:, 0])
    return out, state or ()


def distribution(policy: MemoryPolicy, logits: Any) -> Any:
    """The TensorFlow Probability distribution of a policy's parameters.

    Its categories are counted from 0, as the specs are.
    """
    space = policy.action_space
    dtype = tf.as_dtype(space.dtype)  # NumPy's own would not be saved
    match space:
        case spaces.Discrete():
            return tfp.distributions.Categorical(logits, dtype=dtype)
        case spaces.MultiDiscrete():
            sizes = [int(n) for n in space.nvec]
            parts = [
                tf.pad(
                    part,
                    [[0, 0]] * (part.shape.rank - 1) + [[0, max(sizes) - n]],
                    constant_values=IMPOSSIBLE,
                )
                for part, n in zip(tf.split(logits, sizes, axis=-1), sizes, strict=True)
            ]
            return tfp.distributions.Independent(
                tfp.distributions.Categorical(tf.stack(parts, -2), dtype=dtype), 1
            )
        case spaces.MultiBinary():
            shape = tf.concat([tf.shape(logits)[:-1], space.shape], 0)
            return tfp.distributions.Independent(
                tfp.distributions.Bernoulli(tf.reshape(logits, shape), dtype=dtype),
                len(space.shape),
            )
    # Actions have the dtype of their space; float64 is robots' common one.
    mean, log_std = tf.split(tf.cast(logits, dtype), 2, axis=-1)
    event_shape: Any = space.shape
    shape = tf.concat([tf.shape(mean)[:-1], event_shape], 0)
    return tfp.distributions.Independent(
        tfp.distributions.Normal(
            tf.reshape(mean, shape), tf.reshape(tf.exp(log_std), shape)
        ),
        len(event_shape),
    )


def _drawable(spec: Any) -> Any:
    """The spec, with a dtype that TensorFlow draws random numbers of."""
    if spec.dtype in (tf.float32, tf.float64, tf.int32, tf.int64, tf.uint8, tf.bool):
        return spec
    return tf.TensorSpec(spec.shape, tf.int32 if spec.dtype.is_integer else tf.float32)


class _PolicyNetwork(network.Network):
    """What both networks share: the policy, its variables and its state.

    TF-Agents runs on Keras 2 and does not see Keras 3 weights, so the lists of
    variables are given here.
    """

    _input_tensor_spec: Any

    def __init__(
        self, policy: MemoryPolicy, input_tensor_spec: Any, state: Any, name: str
    ) -> None:
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                "TF-Agents trains on TensorFlow. Received: KERAS_BACKEND="
                f"{keras.backend.backend()!r}; use MemoryPyPolicy to collect with it"
            )
        super().__init__(input_tensor_spec, state, name)
        self._policy = policy
        # TensorFlow's checkpoints miss Keras 3 layers that stand in a list, without
        # an error. This list they do see.
        self._checkpointed = [w.value for w in policy.variables]

    def create_variables(self, input_tensor_spec: Any = None, **kwargs: Any) -> Any:
        """As in TF-Agents, which tries a network on random inputs.

        TensorFlow draws no numbers of some dtypes, such as int8 and uint16; there the
        trial has others.
        """
        spec = (
            self._input_tensor_spec if input_tensor_spec is None else input_tensor_spec
        )
        self._input_tensor_spec = tf.nest.map_structure(_drawable, spec)
        try:
            return super().create_variables(**kwargs)
        finally:
            self._input_tensor_spec = spec

    @property
    def policy(self) -> MemoryPolicy:
        return self._policy

    @property
    def variables(self) -> list[tf.Variable]:
        return [w.value for w in self._policy.variables]

    @property
    def trainable_variables(self) -> list[tf.Variable]:
        return [w.value for w in self._policy.trainable_variables]

    @property
    def weights(self) -> list[tf.Variable]:
        return self.variables

    @property
    def trainable_weights(self) -> list[tf.Variable]:
        return self.trainable_variables

    @property
    def non_trainable_weights(self) -> list[tf.Variable]:
        return [w.value for w in self._policy.non_trainable_variables]

    def run(
        self, observation: Any, step_type: Any, state: Any, training: bool
    ) -> tuple[PolicyOutput, Any]:
        spec = self.input_tensor_spec
        return run_policy(self._policy, observation, step_type, state, spec, training)


class ActorNetwork(_PolicyNetwork):
    """A MemoryPolicy as a TF-Agents network that gives action distributions.

    Args:
        policy: The policy, under KERAS_BACKEND=tensorflow.
        input_tensor_spec: Spec of the observations.
        name: Name of the network.

    Call arguments:
        observation: Observations of shape `(batch, ...)` or `(batch, time, ...)`.
        step_type: Step types of shape `(batch,)` or `(batch, time)`. A first step
            empties the memory of its row.
        network_state: The state before them, tensors of shape `(batch, size)`; `()`
            is the empty memory.
        training: Whether the layers train.

    Returns:
        `(distribution, network_state)`: a TensorFlow Probability distribution of
        actions, and the state after them.

    Raises:
        ValueError: If Keras does not run on TensorFlow.

    Example:

    >>> spec = environment.time_step_spec().observation
    >>> actor = ActorNetwork(policy, spec)
    >>> time_step = environment.reset()
    >>> distribution, state = actor(time_step.observation, time_step.step_type)
    """

    def __init__(
        self,
        policy: MemoryPolicy,
        input_tensor_spec: Any,
        name: str = "ActorNetwork",
    ) -> None:
        super().__init__(policy, input_tensor_spec, state_spec(policy), name)

    def call(
        self,
        observation: Any,
        step_type: Any = None,
        network_state: Any = (),
        training: bool = False,
    ) -> tuple[Any, Any]:
        out, state = self.run(observation, step_type, network_state, training)
        return distribution(self._policy, out.logits), state


class ValueNetwork(_PolicyNetwork):
    """The same policy as a TF-Agents network that gives values.

    Args:
        policy: The policy, under KERAS_BACKEND=tensorflow.
        input_tensor_spec: Spec of the observations.
        has_state: Whether the network carries a state of its own, as TF-Agents' own
            agents need it. `MemoryPPOAgent` takes values from the actor's run.
        name: Name of the network.

    Call arguments:
        observation, step_type, network_state, training: As in `ActorNetwork`.

    Returns:
        `(value, network_state)`: values of shape `(batch,)` or `(batch, time)`, and
        the state after them, `()` without `has_state`.

    Raises:
        ValueError: If Keras does not run on TensorFlow.

    Example:

    >>> value, state = ValueNetwork(policy, spec)(
    ...     time_step.observation, time_step.step_type
    ... )
    """

    def __init__(
        self,
        policy: MemoryPolicy,
        input_tensor_spec: Any,
        has_state: bool = True,
        name: str = "ValueNetwork",
    ) -> None:
        state = state_spec(policy) if has_state else ()
        super().__init__(policy, input_tensor_spec, state, name)
        self._has_state = has_state

    def call(
        self,
        observation: Any,
        step_type: Any = None,
        network_state: Any = (),
        training: bool = False,
    ) -> tuple[Any, Any]:
        out, state = self.run(observation, step_type, network_state, training)
        return out.value, state if self._has_state else ()
