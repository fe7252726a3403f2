"""The base of the cells that take one step or whole sequences."""

import abc
import inspect
from typing import Any

import keras
from keras import ops

from keras_agalite.layers.checks import check_bools, check_sizes
from keras_agalite.ops.checks import check_batches
from keras_agalite.ops.saved_activations import check_saved_activations


class SequenceCell(keras.layers.Layer, abc.ABC):
    """A Keras RNN cell that also runs whole sequences: `cell.run`.

    Its arguments and their defaults are those of the memory whose `cell_class` it is,
    and stand in that memory's constructor alone. All are positive integers but those
    that a subclass names in `bool_args` and `float_args`; it checks the latter itself,
    in `check_config`.

    Args:
        *args: The first argument of the memory may be given by position.
        **kwargs: The arguments of the memory, `saved_activations`, and those of
            `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of shape `(batch, features)`.
        states: List of tensors of shape `(batch, size)`, one for each number in
            `state_size`.
        start: Optional boolean tensor of shape `(batch,)`: empties the memory before
            the step.

    Returns:
        `(output, states)`: the output of shape `(batch, output_size)`, and states of
        the shapes they came in.

    Raises:
        ValueError: If an argument is not what it must be.
    """

    # What the memory of this cell takes; `SequenceMemory` sets it.
    __signature__: inspect.Signature
    bool_args: tuple[str, ...] = ()
    float_args: tuple[str, ...] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        config, kwargs = self.bind(*args, **kwargs)
        saved_activations = kwargs.pop("saved_activations", None)
        # The state keeps its own dtype; the parts cast their own inputs.
        kwargs["autocast"] = False
        super().__init__(**kwargs)
        self.check_config(config)
        check_saved_activations(saved_activations)
        self.cell_config = config
        self.saved_activations = saved_activations

    @classmethod
    def bind(cls, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Sorts arguments: all of the memory's own, with defaults, and the others."""
        bound = cls.__signature__.bind(*args, **kwargs)
        bound.apply_defaults()
        config = dict(bound.arguments)
        return config, config.pop("kwargs")

    @classmethod
    def check_config(cls, config: dict[str, Any]) -> None:
        """Raises a ValueError if an argument is not what it must be."""
        check_bools({name: config[name] for name in cls.bool_args})
        others = (*cls.bool_args, *cls.float_args)
        check_sizes({k: v for k, v in config.items() if k not in others})

    @property
    @abc.abstractmethod
    def state_size(self) -> list[int]:
        """Size of each state."""

    @property
    def output_size(self) -> int:
        return int(self.cell_config["hidden_dim"])

    def get_initial_state(self, batch_size: Any = None) -> list[Any]:
        """The empty memory: zeros of shape `(batch_size, size)` for each size."""
        return [
            ops.zeros((batch_size, size), dtype=self.compute_dtype)
            for size in self.state_size
        ]

    def call(
        self, inputs: Any, states: Any, start: Any = None, training: bool = False
    ) -> Any:
        check_batches(inputs=inputs, states=states, start=start)
        start = None if start is None else ops.expand_dims(start, 1)
        outputs, states = self.run(ops.expand_dims(inputs, 1), states, start)
        return ops.squeeze(outputs, 1), states

    @abc.abstractmethod
    def run(
        self, sequences: Any, states: Any, start: Any = None, mask: Any = None
    ) -> tuple[Any, list[Any]]:
        """Runs over whole sequences, and gives what single steps would give.

        Args:
            sequences: Tensor of shape `(batch, time, features)`.
            states: List of tensors of shape `(batch, size)`, one for each number in
                `state_size`: the memory before the first step.
            start: Optional boolean tensor of shape `(batch, time)`: empties the
                memory before the step is read.
            mask: Optional boolean tensor of shape `(batch, time)`: where False, the
                step is skipped, its start included.

        Returns:
            `(outputs, states)`: the outputs of shape `(batch, time, output_size)`, of
            which those of masked steps mean nothing, and the memory after the last
            step, in the shapes and dtypes it came in.
        """

    @classmethod
    @abc.abstractmethod
    def count_weights(cls, features: int, **config: Any) -> int:
        """Number of weights, in closed form; see `ConfiguredMemory.count_weights`."""

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            **self.cell_config,
            "saved_activations": self.saved_activations,
        }
