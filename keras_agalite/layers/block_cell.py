"""What memories made of blocks share: a base of blocks, a cell that stacks them."""

from typing import Any

import keras
from keras import ops

from keras_agalite.layers.sequence_memory import check_sizes
from keras_agalite.ops.checks import check_batches
from keras_agalite.ops.episodes import valid_first


class Block(keras.layers.Layer):
    """Base of the blocks: `block(sequences, state, start=None, mask=None)`.

    A subclass sets `state_size` and returns `(outputs, state)`.
    """

    kernel_initializer: Any = keras.initializers.LecunNormal
    state_size: int

    def __init__(self, **kwargs: Any) -> None:
        # The state keeps its own dtype; the parts cast their own inputs.
        kwargs["autocast"] = False
        super().__init__(**kwargs)
        self.supports_masking = True

    def dense(
        self,
        units: int,
        name: str,
        activation: str | None = None,
        initializer: Any = None,
        use_bias: bool = True,
    ) -> Any:
        return keras.layers.Dense(
            units,
            activation,
            use_bias=use_bias,
            kernel_initializer=initializer or self.kernel_initializer(),
            name=name,
            dtype=self.dtype_policy,
        )

    def vector(self, name: str, values: Any) -> Any:
        """A weight that starts with these values."""
        return self.add_weight(
            name=name,
            shape=values.shape,
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(values, dtype),
        )

    def norm(self, name: str) -> Any:
        return keras.layers.LayerNormalization(
            epsilon=1e-6, name=name, dtype=self.dtype_policy
        )


class BlockCell(keras.layers.Layer):
    """One step of a stack of blocks, as a Keras RNN cell.

    Args:
        arguments: What the cell's own constructor took: `num_layers` and the
            arguments of a block. All are positive integers but those in `flags`,
            which are booleans, and in `numbers`, which the subclass checks.
    """

    block_class: type[Block]
    flags: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    # Whether blocks get the valid steps of a masked sequence before the others.
    needs_valid_first = False

    def __init__(self, arguments: dict[str, Any], **kwargs: Any) -> None:
        kwargs["autocast"] = False
        super().__init__(**kwargs)
        self.arguments = arguments
        for name in self.flags:
            if not isinstance(arguments[name], bool):
                raise ValueError(
                    f"`{name}` must be True or False. Received: "
                    f"{name}={arguments[name]!r}"
                )
        others = (*self.flags, *self.numbers)
        check_sizes({k: v for k, v in arguments.items() if k not in others})
        sizes = {k: v for k, v in arguments.items() if k != "num_layers"}
        self.blocks = [
            self.block_class(
                **self.block_arguments(i, sizes),
                name=f"block_{i}",
                dtype=self.dtype_policy,
            )
            for i in range(arguments["num_layers"])
        ]

    def block_arguments(self, index: int, sizes: dict[str, Any]) -> dict[str, Any]:
        """What the constructor of one block takes."""
        return {**sizes, "embed": index == 0}

    @property
    def state_size(self) -> list[int]:
        return [block.state_size for block in self.blocks]

    @property
    def output_size(self) -> int:
        return self.arguments["hidden_dim"]

    def get_initial_state(self, batch_size: Any = None) -> list[Any]:
        return [
            ops.zeros((batch_size, size), dtype=self.compute_dtype)
            for size in self.state_size
        ]

    def build(self, inputs_shape: Any, states_shape: Any = None) -> None:
        shape = (inputs_shape[0], 1, inputs_shape[-1])
        for block in self.blocks:
            block.build(shape)
            block.built = True
            shape = (*shape[:-1], self.output_size)

    def call(
        self, inputs: Any, states: Any, start: Any = None, training: bool = False
    ) -> Any:
        check_batches(inputs=inputs, states=states, start=start)
        start = None if start is None else ops.expand_dims(start, 1)
        x, states = self.run(ops.expand_dims(inputs, 1), states, start)
        return ops.squeeze(x, 1), states

    def run(
        self,
        sequences: Any,
        states: Any,
        start: Any = None,
        mask: Any = None,
        **shared: Any,
    ) -> tuple[Any, list[Any]]:
        """Runs every block over sequences of shape `(batch, time, features)`."""
        back = None
        if self.needs_valid_first and mask is not None:
            sequences, start, mask, back = valid_first(sequences, start, mask)
        new_states = []
        for block, state in zip(self.blocks, states, strict=True):
            sequences, state = block(sequences, state, start=start, mask=mask, **shared)
            new_states.append(state)
        if back is not None:
            sequences = ops.take_along_axis(sequences, back, axis=1)
        return sequences, new_states

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.arguments}
