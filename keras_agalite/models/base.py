"""Policy: what every policy does, whatever it remembers with."""

import abc
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self

import gymnasium
import keras
import numpy as np
from keras import ops, tree

from keras_agalite.action_masks import ACTION_MASK, has_action
from keras_agalite.models.acting import compile_step
from keras_agalite.models.action_heads import ActionHead
from keras_agalite.models.encoders import Encoder
from keras_agalite.models.observations import to_array
from keras_agalite.models.spaces import Keys, leaves, map_leaves, pick
from keras_agalite.ops.checks import check_inputs


class PolicyOutput(NamedTuple):
    """What a policy says of each step.

    Attributes:
        logits: Parameters of the action distribution, `(batch, time,
            num_action_params)`, float32: logits for Discrete, MultiDiscrete and
            MultiBinary (-1e9 for an action that is not legal), mean and log-deviation
            for Box.
        value: Value estimate, `(batch, time)`, float32; None of a policy without a
            critic.
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
            f"A policy has no `{name}`: it acts with `act` in an environment, and "
            "reinforcement learning trains it (docs/training.md), or an engine for "
            "recordings (docs/offline.md). For other supervised learning, call it in "
            "a keras.Model of your own."
        )

    method.__name__ = name
    method.__doc__ = "Raises a NotImplementedError: a policy is not a supervised model."
    return method


def encode(
    encoder: Encoder,
    observations: Any,
    batch: Any,
    length: Any,
    normalizer: Callable[[Any], Any] | None = None,
) -> Any:
    """Features `(batch, length, encoder.output_size)` of sequences of observations.

    Args:
        encoder: The encoder.
        observations: Tensors of shape `(batch, length, ...)`.
        batch: Number of rows.
        length: Steps of a row.
        normalizer: What the encoder sees is brought through it first.
    """
    flat = tree.map_structure(
        lambda x: ops.reshape(x, (-1, *x.shape[2:])), observations
    )
    if normalizer is not None:
        flat = normalizer(flat)
    return ops.reshape(encoder(flat), (batch, length, encoder.output_size))


def check_encoder(encoder: Any) -> None:
    """Raises a ValueError if it is none."""
    if not isinstance(encoder, Encoder):
        raise ValueError(f"`encoder` must be an Encoder. Received: encoder={encoder!r}")


class Policy(keras.Model, abc.ABC):
    """Base of the policies: it acts step by step, and is saved, loaded and exported.

    A subclass has an observation space, an action head and a state, which zeros empty,
    and says in `call` what it makes of sequences.

    Attributes:
        encoder: The `Encoder`.
        actor: The `ActionHead`.
        mask_sizes: Flags of the observation's `action_mask` for each part of an
            action; None without a mask.
        target_return: The return to reach, of a policy that is told one; None of
            another.
        extra_inputs: Names of what a call takes besides observations, state, start and
            training.
        presets: Names of the released policies, for `from_preset`.

    Call arguments:
        observations: Tensor of shape `(batch, time, ...)`, or a dict or tuple of
            them.
        state: State from the last call; the empty memory if None.
        start: Optional boolean tensor of shape `(batch, time)`: the observation is
            the first of an episode.

    Returns:
        `(out, state)`: a `PolicyOutput` and the new state.
    """

    encoder: Encoder
    actor: ActionHead
    mask_sizes: list[int] | None
    target_return: float | None = None
    extra_inputs: tuple[str, ...] = ()

    def __init__(self, **kwargs: Any) -> None:
        kwargs["autocast"] = False  # the state keeps its dtype
        super().__init__(**kwargs)
        self._step: Any = None

    def build(self, input_shape: Any = None) -> None:
        """Nothing is left to do: the spaces give all shapes."""

    @_ClassProperty
    def presets(cls) -> list[str]:  # noqa: N805
        """Names of the released policies, for `from_preset`."""
        from keras_agalite.presets import released_presets

        return released_presets()

    @property
    @abc.abstractmethod
    def observation_space(self) -> gymnasium.Space[Any]:
        """What the policy sees at one step."""

    @property
    def action_space(self) -> gymnasium.Space[Any]:
        return self.actor.action_space

    @property
    @abc.abstractmethod
    def state_size(self) -> list[Any]:
        """Sizes of the state tensors, which may be nested."""

    @property
    def max_length(self) -> int | None:
        """Steps that a row of a call may have; None for any number."""
        return None

    @property
    def state_dtype(self) -> str:
        """The dtype of the state."""
        return "float32"

    def initial_state(self, batch_size: int) -> list[Any]:
        """The empty memory: zeros of shape `(batch_size, size)`."""

        def zeros(size: Any) -> Any:
            if not isinstance(size, int):
                return [zeros(part) for part in size]
            shape = (batch_size, size)
            if not isinstance(batch_size, int):  # a tensor, in a graph of TensorFlow
                return ops.zeros(shape, self.state_dtype)
            # From NumPy: JAX would compile a program to make zeros.
            return ops.convert_to_tensor(np.zeros(shape, self.state_dtype))

        return [zeros(size) for size in self.state_size]

    @abc.abstractmethod
    def call(
        self,
        observations: Any,
        state: Any = None,
        start: Any = None,
        training: bool = False,
    ) -> tuple[PolicyOutput, list[Any]]:
        """See the class."""

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
        return self._choose(logits, deterministic, seed), state

    def _choose(
        self,
        logits: np.ndarray,
        deterministic: bool,
        seed: int | np.random.Generator | None,
    ) -> np.ndarray:
        if deterministic:
            return self.actor.numpy_mode(logits)
        if seed is None:  # as layers of Keras take theirs
            seed = random.getrandbits(128)
        # default_rng lets a Generator pass through as it is.
        rng = np.random.default_rng(seed)
        return self.actor.numpy_sample(logits, rng)

    def step(
        self, observation: Any, state: Any = None, start: Any = None
    ) -> tuple[np.ndarray, Any, list[Any]]:
        """Runs one compiled step without a choice of actions.

        Args:
            observation: As in `act`.
            state: As in `act`.
            start: As in `act`.

        Returns:
            `(logits, value, state)`: NumPy arrays of the shapes `(batch,
            num_action_params)` and `(batch,)` (None without a critic), and the new
            state in the backend's tensors.

        Raises:
            ValueError: If an observation, a state or a start does not fit.
        """
        return self._run(observation, state, start)

    def _run(
        self, observation: Any, state: Any, start: Any, **rows: Any
    ) -> tuple[np.ndarray, Any, list[Any]]:
        """`step`, with more inputs of a call as arrays of shape `(batch,)`.

        A number stands for one in every row.
        """
        observation, batch = self._check_observation(observation)
        start = np.zeros(batch, bool) if start is None else np.asarray(start, bool)
        rows = {k: np.asarray(x, np.float32) for k, x in rows.items()}
        rows = {k: np.repeat(x, batch) if x.ndim == 0 else x for k, x in rows.items()}
        for name, row in {"start": start, **rows}.items():
            if row.shape != (batch,):
                raise ValueError(
                    f"`{name}` must have the shape (batch,) = ({batch},). Received: "
                    f"{name}.shape={row.shape}"
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
        return self._step(observation, state, {"start": start, **rows})

    def _check_observations(
        self, observations: Any, state: Any = None, start: Any = None
    ) -> tuple[Any, Any]:
        """The batch size and the length of sequences that fit the space.

        A state and starts, if they are given, fit the sequences.
        """
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
        check_inputs(state, start, None, observations=parts[0])
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
        from keras_agalite.presets.offline import save_preset

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
            A policy of the class that the preset names, or of the class on which this
            is called where that is a subclass of it.

        Raises:
            ValueError: If there is no such preset, with the list of those there
                are, if its files do not fit, or if this is called on a class of
                policies for recordings and the preset is one of another.

        Example:

        >>> policy = MemoryPolicy.from_preset("tmaze_10")
        >>> fast = MemoryPolicy.from_preset("tmaze_10", dtype="mixed_bfloat16")
        """
        from keras_agalite.presets.offline import find_policy

        return find_policy(cls, preset, load_weights, dtype)

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
