"""MemoryPolicy: an encoder, a memory and heads behind one interface."""

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self

import gymnasium
import keras
import numpy as np
from keras import ops, tree

from keras_agalite.action_masks import ACTION_MASK, has_action, mask_sizes
from keras_agalite.layers import MemoryRNN
from keras_agalite.layers.checks import check_sizes
from keras_agalite.models.acting import compile_step
from keras_agalite.models.action_heads import ActionHead, head_class, mask_logits
from keras_agalite.models.dense import mlp
from keras_agalite.models.encoders import Encoder
from keras_agalite.models.normalization import ObservationNormalizer
from keras_agalite.models.observations import to_array
from keras_agalite.models.spaces import (
    Keys,
    leaves,
    map_leaves,
    pick,
    space_from_config,
    space_to_config,
)


class PolicyOutput(NamedTuple):
    """What a policy says of each step.

    Attributes:
        logits: Parameters of the action distribution, `(batch, time,
            num_action_params)`, float32: logits for Discrete, MultiDiscrete and
            MultiBinary (-1e9 for an action that is not legal), mean and log-deviation
            for Box.
        value: Value estimate, `(batch, time)`, float32.
    """

    logits: Any
    value: Any


class _ClassProperty:
    """A property of the class itself."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self.function(owner)


def _name(path: Keys) -> str:
    """The name of a part of an observation in messages."""
    return "/".join(map(str, path))


def _supervised(name: str) -> Callable[..., NoReturn]:
    """A method of `keras.Model` that means nothing for a policy."""

    def method(*args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(
            f"A MemoryPolicy has no `{name}`: it acts with `act` in an environment, "
            "and reinforcement learning trains it (docs/training.md). For supervised "
            "learning, call it in a keras.Model of your own."
        )

    method.__name__ = name
    method.__doc__ = "Raises a NotImplementedError: a policy is not a supervised model."
    return method


@keras.saving.register_keras_serializable(package="keras_agalite")
class MemoryPolicy(keras.Model):
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
            from then on the layer returns sequences and states.
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
        **kwargs: Any,
    ) -> None:
        kwargs["autocast"] = False  # the state keeps its dtype
        super().__init__(**kwargs)
        if not isinstance(encoder, Encoder):
            raise ValueError(
                f"`encoder` must be an Encoder. Received: encoder={encoder!r}"
            )
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
        self.encoder = encoder
        self.memory = memory
        self.head_units = head_units
        self.head_activation = head_activation
        dtype = memory.dtype_policy
        self.has_own_actor = actor is not None
        self.actor = actor or head_class(action_space)(
            action_space, head_units, head_activation, dtype=dtype, name="actor"
        )
        self.mask_sizes = mask_sizes(encoder.observation_space, action_space)
        if self.mask_sizes and sum(self.mask_sizes) != self.actor.num_action_params:
            raise ValueError(
                "An observation with an `action_mask` needs an action head whose "
                f"parameters are {sum(self.mask_sizes)} logits. Received: actor="
                f"{self.actor!r} with {self.actor.num_action_params} parameters"
            )
        self.critic_hidden, self.critic_output = mlp(
            head_units, head_activation, 1, dtype
        )
        self.normalizer: ObservationNormalizer | None = None
        if normalize_observations:
            self.normalizer = ObservationNormalizer(self.observation_space)
        self._build()
        self._step: Any = None

    def _build(self) -> None:
        if not self.encoder.built:
            self.encoder.build(None)
        self.memory.build((None, None, self.encoder.output_size))
        features = self.memory.compute_output_shape(
            (None, None, self.encoder.output_size)
        )[0]
        if not self.actor.built:
            self.actor.build(features)
        self.critic_hidden.build(features)
        self.critic_output.build((*features[:-1], self.head_units))
        for layer in (self.encoder, self.memory, self.actor):
            layer.built = True
        self.built = True

    def build(self, input_shape: Any = None) -> None:
        """Nothing is left to do: the spaces give all shapes."""

    @_ClassProperty
    def presets(cls) -> list[str]:  # noqa: N805
        """Names of the released policies, for `from_preset`."""
        from keras_agalite.presets import released_presets

        return released_presets()

    @property
    def observation_space(self) -> gymnasium.Space[Any]:
        return self.encoder.observation_space

    @property
    def action_space(self) -> gymnasium.Space[Any]:
        return self.actor.action_space

    @property
    def state_size(self) -> list[Any]:
        """Sizes of the state tensors, as the memory nests them."""
        return self.memory.state_size

    def initial_state(self, batch_size: int) -> list[Any]:
        """The empty memory: zeros of shape `(batch_size, size)`."""
        if not isinstance(batch_size, int):  # a tensor, in a graph of TensorFlow
            return self.memory.initial_state(batch_size)

        dtype = self.memory.state_dtype

        def zeros(size: Any) -> Any:
            if not isinstance(size, int):
                return [zeros(part) for part in size]
            # From NumPy: JAX would compile a program to make zeros.
            return ops.convert_to_tensor(np.zeros((batch_size, size), dtype))

        return list(zeros(self.state_size))

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
        flat = tree.map_structure(
            lambda x: ops.reshape(x, (-1, *x.shape[2:])), observations
        )
        if self.normalizer is not None:
            flat = self.normalizer(flat)
        features = ops.reshape(
            self.encoder(flat), (batch, length, self.encoder.output_size)
        )
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

    def act(
        self,
        observation: Any,
        state: Any = None,
        start: Any = None,
        deterministic: bool = False,
        seed: int | np.random.Generator | None = None,
    ) -> tuple[np.ndarray, list[Any]]:
        """Chooses actions for one step, in one compiled call.

        The noise is drawn by NumPy, so that with the same seed every backend chooses
        the same actions.

        Args:
            observation: NumPy array of shape `(batch, ...)`, or a dict or tuple of
                them.
            state: State from `initial_state` or from the last call, which stays
                valid; the empty memory if None.
            start: Optional booleans of shape `(batch,)`: the observation is the
                first of an episode.
            deterministic: Take the most likely action instead of drawing one.
            seed: An int or a `numpy.random.Generator`. In a loop pass a Generator:
                the same int draws the same noise at every step. If None, the noise
                follows from `keras.utils.set_random_seed`.

        Returns:
            `(action, state)`: a NumPy array of shape `(batch, ...)`, Box actions
            clipped to their bounds, and the new state in the backend's tensors.

        Raises:
            ValueError: If an observation, a state or a start does not fit, or an
                observation holds what its space cannot (a brightness of 0.5 or 300
                for uint8, the category 3 of three), or no action is legal.
        """
        logits, _, state = self.step(observation, state, start)
        if deterministic:
            return self.actor.numpy_mode(logits), state
        if seed is None:  # as layers of Keras take theirs
            seed = random.getrandbits(128)
        # default_rng lets a Generator pass through as it is.
        rng = np.random.default_rng(seed)
        return self.actor.numpy_sample(logits, rng), state

    def step(
        self, observation: Any, state: Any = None, start: Any = None
    ) -> tuple[np.ndarray, np.ndarray, list[Any]]:
        """Runs one compiled step without a choice of actions.

        Args:
            observation: As in `act`.
            state: As in `act`.
            start: As in `act`.

        Returns:
            `(logits, value, state)`: NumPy arrays of the shapes `(batch,
            num_action_params)` and `(batch,)`, and the new state in the backend's
            tensors.

        Raises:
            ValueError: If an observation, a state or a start does not fit.
        """
        observation, batch = self._check_observation(observation)
        start = np.zeros(batch, bool) if start is None else np.asarray(start, bool)
        if start.shape != (batch,):
            raise ValueError(
                f"`start` must have the shape (batch,) = ({batch},). Received: "
                f"start.shape={start.shape}"
            )
        state = self.initial_state(batch) if state is None else state
        sizes = [(batch, n) for n in tree.flatten(self.state_size)]
        shapes = [tuple(np.shape(x)) for x in tree.flatten(state)]
        if shapes != sizes:
            raise ValueError(
                f"`state` must hold tensors of the shapes {sizes}, as "
                f"initial_state({batch}) does. Received: shapes {shapes}"
            )
        if self._step is None:
            self._step = compile_step(self)
        return self._step(observation, state, start)

    def _check_observations(self, observations: Any) -> tuple[Any, Any]:
        """The batch size and the length of sequences that fit the space."""
        parts: list[Any] = []
        for path, space in leaves(self.observation_space):
            try:
                parts.append(pick(observations, path))
                shape = tuple(parts[-1].shape)
            except (LookupError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"`observations` must fit {self.observation_space} with leading "
                    f"axes (batch, time). Received: observations={observations!r}"
                ) from error
            if len(shape) < 2 or shape[2:] != space.shape:
                where = _name(path) or "observations"
                raise ValueError(
                    "`observations` must have the shape (batch, time, "
                    f"*{space.shape}). Received: {where}.shape={shape}"
                )
            first = tuple(parts[0].shape[:2])
            # An exporter's symbols are left alone.
            if any(
                isinstance(n, int) and isinstance(m, int) and n != m
                for n, m in zip(first, shape[:2], strict=True)
            ):
                raise ValueError(
                    "`observations` must have one (batch, time) in all their parts. "
                    f"Received: parts of {first} and of {shape[:2]}"
                )
        batch, length, *_ = ops.shape(parts[0])
        if isinstance(length, int) and length == 0:
            raise ValueError(
                "`observations` must have at least one time step. Received: shape "
                f"(batch, time, ...) = {tuple(parts[0].shape)}"
            )
        return batch, length

    def _check_observation(self, observation: Any) -> tuple[Any, int]:
        """Brings an observation into the space's dtypes and structure."""
        batch: int | None = None

        def check(path: Keys, space: Any) -> np.ndarray:
            nonlocal batch
            where = _name(path) or "observation"
            try:
                raw = np.asarray(pick(observation, path))
            except (LookupError, TypeError, ValueError, OverflowError) as error:
                raise ValueError(
                    f"`observation` must fit {self.observation_space} with a leading "
                    f"batch axis. Received: observation={observation!r}"
                ) from error
            batch = len(raw) if batch is None and raw.ndim else batch
            if raw.shape != (batch, *space.shape):
                raise ValueError(
                    f"`observation` must have the shape (batch, *{space.shape}) with "
                    f"one batch size. Received: {where}.shape={raw.shape}"
                )
            return to_array(space, raw, where)

        arrays = map_leaves(self.observation_space, check)
        if self.mask_sizes:
            legal = has_action(arrays[ACTION_MASK], self.mask_sizes)
            if not legal.all():
                raise ValueError(
                    f"`{ACTION_MASK}` must leave an action in each row (and in each "
                    "part of a MultiDiscrete). Received: none in the rows "
                    f"{np.flatnonzero(~legal).tolist()}"
                )
        return arrays, int(batch or 0)

    def sample_observation(self, batch_size: int, seed: int | None = None) -> Any:
        """A random observation of the right structure, shape `(batch_size, ...)`.

        In its action mask, if it has one, every action is legal.
        """
        space = gymnasium.vector.utils.batch_space(self.observation_space, batch_size)
        space.seed(seed)
        sample = space.sample()
        if self.mask_sizes:
            sample[ACTION_MASK] = np.ones_like(sample[ACTION_MASK])
        return map_leaves(
            self.observation_space, lambda path, _: np.asarray(pick(sample, path))
        )

    def save_to_preset(self, folder: str | Path) -> None:
        """Writes `config.json` and `model.weights.h5`, which every backend loads.

        Args:
            folder: Where to write them. It is made if it is not there.

        Raises:
            ValueError: If a part of the policy is of a class that is neither of this
                library nor given to `keras_agalite.register`.

        Example:

        >>> policy.save_to_preset("my_policy")
        >>> policy = MemoryPolicy.from_preset("my_policy")
        """
        from keras_agalite.presets.preset import save_preset

        save_preset(self, Path(folder))

    @classmethod
    def from_preset(
        cls, preset: str | Path, load_weights: bool = True, dtype: str | None = None
    ) -> Self:
        """Loads a policy.

        Args:
            preset: Name of a released policy (`MemoryPolicy.presets` lists them), the
                folder or the address of a preset.
            load_weights: Whether to load the weights; fresh ones are drawn otherwise.
            dtype: Dtype policy of all parts, such as `"mixed_bfloat16"`; each part's
                own if None.

        Returns:
            A policy of the class on which this is called.

        Raises:
            ValueError: If there is no such preset, with the list of those there
                are, or if its files do not fit.

        Example:

        >>> policy = MemoryPolicy.from_preset("tmaze_10")
        >>> fast = MemoryPolicy.from_preset("tmaze_10", dtype="mixed_bfloat16")
        """
        from keras_agalite.presets import Preset

        return Preset.find(preset).policy(cls, load_weights, dtype)

    compile = _supervised("compile")
    fit = _supervised("fit")
    evaluate = _supervised("evaluate")
    predict = _supervised("predict")
    train_on_batch = _supervised("train_on_batch")
    test_on_batch = _supervised("test_on_batch")
    predict_on_batch = _supervised("predict_on_batch")

    def export(
        self,
        filepath: str | Path,
        format: str = "onnx",
        python: str | Path | None = None,
    ) -> Path:
        """Writes the policy as a program of one step that runs without Keras.

        The program takes the observation, `start` and the state, and gives the most
        likely action, the parameters of the action distribution, the value and the
        next state. Another process writes it, on the backend that owns the format:
        PyTorch for ONNX and `.pt2`, TensorFlow for SavedModel and LiteRT.

        Args:
            filepath: The folder to write, with the program and `export.json`, which
                names its inputs and outputs.
            format: `"onnx"`, `"pt2"`, `"saved_model"` or `"litert"`.
            python: The interpreter of that process, if not this one: of an
                environment with this package and the backend that owns the format.

        Returns:
            The path of the program.

        Raises:
            ValueError: If the format is unknown, the path exists, or the policy is not
                float32 or has parts that a preset cannot hold.
            ImportError: If the packages that the format needs are not installed.
            ChildProcessError: If the process failed otherwise.

        Example:

        >>> policy = MemoryPolicy.from_preset("tmaze_10")
        >>> policy.export("tmaze_10_onnx")
        PosixPath('tmaze_10_onnx/policy.onnx')
        """
        from keras_agalite.export import export_policy

        return export_policy(self, filepath, format, python)

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
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        config = copy.deepcopy(config)  # keras.layers.RNN empties what it reads
        for part in ("encoder", "memory", "actor"):
            config[part] = keras.saving.deserialize_keras_object(
                config[part], custom_objects=custom_objects
            )
        return cls(**config)
