"""An RNN layer that knows where episodes start."""

import inspect
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops, tree

from keras_agalite.ops.checks import check_batches, check_flags
from keras_agalite.ops.episodes import last_true
from keras_agalite.ops.precision import at_least_float32


@keras.saving.register_keras_serializable(package="keras_agalite")
class MemoryRNN(keras.layers.RNN):
    """Turns any Keras RNN cell into a memory that knows episode starts.

    Unlike `keras.layers.RNN`, `return_sequences` is True unless told otherwise.

    Where `start` is True the state of that row is emptied before the step is read,
    so one call may hold several episodes. The state is float32 under every
    mixed-precision policy (float64 under a float64 policy), zeros are the empty
    state, and gradients flow through it: running step by step, in chunks of any
    size or whole gives the same outputs, states and gradients.

    Args:
        cell: A Keras RNN cell whose states have rank 2, or a list of cells, which
            is stacked. A cell whose `call` takes `start`, of shape `(batch,)`,
            empties its state itself.
        return_sequences: Whether to return the output of every step.
        return_state: Whether to return the last state besides the output.
        stateful: As in `keras.layers.RNN`: keep the last state for the next call.
        **kwargs: Other arguments of `keras.layers.RNN`. `go_backwards=True` is
            refused: an episode runs forwards.

    Call arguments:
        sequences: Tensor of shape `(batch, time, features)`.
        initial_state: Optional list of state tensors of shape `(batch, size)`, as
            `initial_state()` and the last call gave them (nested as the cell's
            states are).
        mask: Optional boolean tensor of shape `(batch, time)`. Where False, the
            step is skipped, its start included: the state stays, and the output is
            the previous one.
        training: Passed on to the cell.
        start: Optional boolean tensor of shape `(batch, time)`: this step is the
            first of an episode.

    Returns:
        The outputs, of shape `(batch, time, output_size)` (`(batch, output_size)`
        without `return_sequences`), and with `return_state=True` the tuple
        `(outputs, *state)`.

    Raises:
        ValueError: If `go_backwards` is True, the input is not of rank 3 or has no time
            step, or the shape of `start` or `mask`, the structure of `initial_state`
            or its batch size does not fit; of a stateful memory, if the batch size is
            not that of the state it keeps.

    Example:

    >>> memory = MemoryRNN(keras.layers.GRUCell(32), return_state=True)
    >>> outputs, state = memory(np.zeros((2, 10, 8)), start=np.zeros((2, 10), bool))
    """

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = True,
        return_state: bool = False,
        stateful: bool = False,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("go_backwards"):
            raise ValueError(
                "A memory runs forwards through an episode. Received: go_backwards=True"
            )
        if (saved := kwargs.pop("saved_activations", None)) is not None:
            raise ValueError(
                "A memory of Keras's own cells keeps activations as they are; that of "
                "a cell of this library says so to the cell. Received: "
                f"saved_activations={saved!r}"
            )
        if isinstance(cell, list | tuple):
            cell = keras.layers.StackedRNNCells(cell, dtype=kwargs.get("dtype"))
        # With autocast, a half-precision policy would round a float32 state.
        kwargs["autocast"] = False
        super().__init__(
            cell,
            return_sequences=return_sequences,
            return_state=return_state,
            stateful=stateful,
            **kwargs,
        )

    @property
    def saved_activations(self) -> str | None:
        """How the cell keeps activations for the backward pass; None: as they are."""
        return getattr(self.cell, "saved_activations", None)

    @property
    def state_dtype(self) -> str:
        """Dtype of the state: float32, or float64 under a float64 policy."""
        return at_least_float32(self.compute_dtype)

    def get_initial_state(self, batch_size: Any) -> list[Any]:
        state = tree.flatten(super().get_initial_state(batch_size))
        # Stacked cells nest their states more deeply than their state sizes.
        return _nest(
            self.state_size, iter([ops.cast(s, self.state_dtype) for s in state])
        )

    def initial_state(self, batch_size: Any) -> list[Any]:
        """The empty state: zeros, as a list of tensors `(batch_size, size)`."""
        return self.get_initial_state(batch_size)

    def reset_state(self) -> None:
        """Empties the state that `stateful=True` keeps, nested or not."""
        if self.states is not None:
            for variable in tree.flatten(self.states):
                variable.assign(ops.zeros_like(variable.value))

    def build(
        self,
        sequences_shape: Any,
        initial_state_shape: Any = None,
        start_shape: Any = None,
    ) -> None:
        if len(sequences_shape) != 3:
            raise ValueError(
                f"{type(self).__name__} expects sequences of shape (batch, time, "
                f"features). Received: sequences.shape={tuple(sequences_shape)}"
            )
        super().build(sequences_shape)

    def call(
        self,
        sequences: Any,
        initial_state: Any = None,
        mask: Any = None,
        training: bool = False,
        start: Any = None,
    ) -> Any:
        sequences = ops.cast(sequences, self.compute_dtype)
        if start is not None:
            start = ops.cast(start, "bool")
        if initial_state is None and self.stateful:
            initial_state = tree.map_structure(lambda v: v.value, self.states)
        if tree.is_nested(mask):
            (mask,) = tree.flatten(mask)
        if mask is not None:
            mask = ops.cast(mask, "bool")
        self._check_shapes(sequences, initial_state, start, mask)
        empty = self.get_initial_state(ops.shape(sequences)[0])
        state = empty
        if initial_state is not None:
            state = self._match_state(initial_state, empty)

        last_output, outputs, state = self.inner_loop(
            sequences=sequences,
            initial_state=state,
            mask=mask,
            training=training,
            start=start,
        )
        state = tree.map_structure(lambda s: ops.cast(s, self.state_dtype), state)
        if self.stateful:
            for variable, value in zip(
                tree.flatten(self.states), tree.flatten(state), strict=True
            ):
                variable.assign(value)
        output = outputs if self.return_sequences else last_output
        output = ops.cast(output, self.compute_dtype)
        return (output, *state) if self.return_state else output

    def inner_loop(
        self,
        sequences: Any,
        initial_state: Any,
        mask: Any,
        training: bool = False,
        start: Any = None,
    ) -> tuple[Any, Any, Any]:
        """Runs the memory over time; the one place for a fast form.

        Args:
            sequences: Tensor of shape `(batch, time, features)`.
            initial_state: The memory before the first step, nested as the states of
                the cell are.
            mask: Boolean tensor of shape `(batch, time)`, or None.
            training: Passed on to the cell.
            start: Boolean tensor of shape `(batch, time)`, or None.

        Returns:
            `(last_output, outputs, state)`: of shapes `(batch, output_size)` and
            `(batch, time, output_size)`, and as `initial_state`.
        """
        if start is None:
            start = ops.zeros_like(sequences[:, :, 0])
        channel = ops.cast(start, sequences.dtype)[:, :, None]
        cell = _StartCell(self.cell, training, self.state_dtype)
        cell_state = tree.map_structure(
            lambda s: ops.cast(s, self.cell.compute_dtype), initial_state
        )
        # Draws dropout masks outside the loop, as keras.layers.RNN does.
        self._maybe_config_dropout_masks(self.cell, sequences[:, 0], cell_state)
        sequences = ops.concatenate([sequences, channel], axis=-1)
        if sequences.shape[1] == 1 and mask is None:  # acting needs no loop
            last_output, state = cell(sequences[:, 0], initial_state)
            outputs = last_output[:, None]
        else:
            loop = keras.layers.RNN(
                cell,
                return_sequences=self.return_sequences or mask is not None,
                unroll=self.unroll,
                zero_output_for_mask=True,
            )
            last_output, outputs, state = loop.inner_loop(
                sequences, initial_state, mask=mask, training=training
            )
        self._maybe_reset_dropout_masks(self.cell)
        if mask is not None:
            # On JAX, Keras would take the first state for the previous output.
            outputs = self.repeat_masked_outputs(outputs, mask)
            last_output = outputs[:, -1]
        return last_output, outputs, state

    def repeat_masked_outputs(self, outputs: Any, mask: Any) -> Any:
        """Puts what Keras returns at masked steps: the previous output, or zeros.

        Args:
            outputs: Tensor of shape `(batch, time, output_size)`; what it holds where
                `mask` is False does not matter.
            mask: Boolean tensor of shape `(batch, time)`.

        Returns:
            Tensor of the shape of `outputs`: zeros at masked steps with
            `zero_output_for_mask` and before the first step that is not masked, else
            the output of the last such step.
        """
        valid = mask
        if not self.zero_output_for_mask:
            count, last = last_true(mask)
            outputs = ops.take_along_axis(outputs, last[:, :, None], axis=1)
            valid = count > 0
        return ops.where(valid[:, :, None], outputs, 0.0)

    def compute_output_spec(
        self,
        sequences: Any,
        initial_state: Any = None,
        mask: Any = None,
        training: bool = False,
        start: Any = None,
    ) -> Any:
        if start is not None:
            check_flags("sequences", sequences, start=start)
        shapes = self.compute_output_shape(sequences.shape)
        if not self.return_state:
            return keras.KerasTensor(shapes, dtype=self.compute_dtype)
        output, *state = shapes
        return (
            keras.KerasTensor(output, dtype=self.compute_dtype),
            *(self._state_spec(s) for s in state),
        )

    def _state_spec(self, shape: Any) -> Any:
        if isinstance(shape, list):
            return [self._state_spec(s) for s in shape]
        return keras.KerasTensor(shape, dtype=self.state_dtype)

    def _check_shapes(self, sequences: Any, state: Any, start: Any, mask: Any) -> None:
        check_flags("sequences", sequences, start=start, mask=mask)
        if sequences.shape[1] == 0:
            raise ValueError(
                "`sequences` must have at least one time step. Received: "
                f"sequences.shape={tuple(sequences.shape)}"
            )
        if self.stateful:
            try:
                check_batches(sequences=sequences, kept_state=self.states)
            except ValueError as error:
                raise ValueError(
                    "A stateful memory takes batches of one size, that of the state "
                    f"it keeps. {error}"
                ) from error
        check_batches(sequences=sequences, initial_state=state)

    def _match_state(self, state: Any, empty: list[Any]) -> Any:
        state = list(state) if isinstance(state, list | tuple) else [state]
        flat, sizes = tree.flatten(state), [s.shape[-1] for s in tree.flatten(empty)]
        received = [tuple(s.shape) for s in flat]
        if [shape[-1:] for shape in received] != [(size,) for size in sizes]:
            raise ValueError(
                "`initial_state` must hold one tensor of shape (batch, size) for "
                f"each of the sizes {sizes}. Received: shapes {received}"
            )
        return tree.pack_sequence_as(
            empty, [ops.cast(s, self.state_dtype) for s in flat]
        )


def _nest(sizes: Any, tensors: Iterator[Any]) -> list[Any]:
    """Plain lists of tensors, nested as `sizes` are."""
    return [
        next(tensors) if isinstance(size, int) else _nest(size, tensors)
        for size in sizes
    ]


class _StartCell:
    """A cell that empties its state where the last input channel is not zero.

    A cell whose `call` takes `start` empties its state itself, and gets it in
    `state_dtype`.
    """

    def __init__(self, cell: Any, training: bool, state_dtype: str) -> None:
        self.cell = cell
        self.state_size = cell.state_size
        self.output_size = getattr(cell, "output_size", None)
        self.state_dtype = state_dtype
        takes_training = isinstance(cell, keras.layers.Layer) and (
            cell._call_has_training_arg
        )
        self.arguments = {"training": training} if takes_training else {}
        self.takes_start = "start" in inspect.signature(cell.call).parameters

    def __call__(self, inputs: Any, states: Any) -> tuple[Any, Any]:
        return self.call(inputs, states)

    def call(self, inputs: Any, states: Any) -> tuple[Any, Any]:
        start, arguments = inputs[:, -1:] > 0, self.arguments
        if self.takes_start:
            arguments = {**arguments, "start": start[:, 0]}
        else:
            states = tree.map_structure(
                lambda s: ops.cast(
                    ops.where(start, ops.zeros_like(s), s), self.cell.compute_dtype
                ),
                states,
            )
        output, new_states = self.cell(inputs[:, :-1], states, **arguments)
        return output, tree.pack_sequence_as(
            states, [ops.cast(s, self.state_dtype) for s in tree.flatten(new_states)]
        )
