"""What memories made of blocks share: a base of blocks, a cell that stacks them."""

import abc
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_agalite.layers.initializers import LecunNormal, Ones, Zeros
from keras_agalite.layers.saved_activations import Dense, LayerNormalization
from keras_agalite.layers.sequence_cell import SequenceCell
from keras_agalite.layers.sherl_merge import SHERLMerge
from keras_agalite.ops.episodes import valid_first


class Block(keras.layers.Layer, abc.ABC):
    """Base of the blocks.

    A subclass sets `state_size`, and says in `count_weights` how many weights its
    `build` makes. Its `dense` and `norm` keep activations as `saved_activations` says.

    Args:
        saved_activations: None, or `"int8"`; see `SequenceMemory`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: Tensor of shape `(batch, time, features)`.
        state: Tensor of shape `(batch, state_size)`.
        start: Optional boolean tensor of shape `(batch, time)`.
        mask: Optional boolean tensor of shape `(batch, time)`.

    Returns:
        `(outputs, state)` of shapes `(batch, time, hidden_dim)` and
        `(batch, state_size)`.
    """

    kernel_initializer: Callable[[], Any] = LecunNormal
    state_size: int

    def __init__(self, saved_activations: str | None = None, **kwargs: Any) -> None:
        # The state keeps its own dtype; the parts cast their own inputs.
        kwargs["autocast"] = False
        super().__init__(**kwargs)
        self.supports_masking = True
        self.saved_activations = saved_activations

    @classmethod
    @abc.abstractmethod
    def count_weights(cls, features: int, **config: Any) -> int:
        """Number of weights, in closed form.

        Args:
            features: Width of the input.
            **config: Arguments of the constructor.
        """

    def dense(
        self,
        units: int,
        name: str,
        activation: str | None = None,
        initializer: Any = None,
        use_bias: bool = True,
    ) -> Any:
        return Dense(
            units,
            activation,
            use_bias=use_bias,
            kernel_initializer=initializer or self.kernel_initializer(),
            bias_initializer=Zeros(),
            name=name,
            dtype=self.dtype_policy,
            saved_activations=self.saved_activations,
        )

    def norm(self, name: str) -> Any:
        return LayerNormalization(
            epsilon=1e-6,
            beta_initializer=Zeros(),
            gamma_initializer=Ones(),
            name=name,
            dtype=self.dtype_policy,
            saved_activations=self.saved_activations,
        )

    @classmethod
    def count_norm(cls, width: int) -> int:
        return 2 * width


class BlockCell(SequenceCell):
    """One step of a stack of blocks, as a Keras RNN cell.

    Its arguments are `num_layers`, the number of blocks, and those of `block_class`.
    Where all layers share one state, a subclass makes one block of them.

    Attributes:
        merge: The `SHERLMerge` in front of the last block, if there is one: it reads
            the inputs and the outputs of all blocks before, and no gradient goes
            through it into them.
    """

    block_class: type[Block]
    # Whether blocks get the valid steps of a masked sequence before the others.
    needs_valid_first = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.blocks = [
            self.block_class(
                **self.block_config(i, **self.cell_config),
                name=f"block_{i}",
                dtype=self.dtype_policy,
                saved_activations=self.saved_activations,
            )
            for i in range(self.num_blocks(self.cell_config))
        ]
        self.merge: SHERLMerge | None = None

    def add_merge(self, units: int) -> None:
        """Puts a `SHERLMerge` of so many units in front of the last block.

        Raises:
            ValueError: If there is no block before, or the cell is built.
        """
        self.merged_widths(0, **self.cell_config)
        if self.built:
            raise ValueError(
                "A merge must be added before the memory is built. "
                f"Received: {type(self).__name__}"
            )
        self.merge = SHERLMerge(
            units, self.saved_activations, name="merge", dtype=self.dtype_policy
        )

    @classmethod
    def merged_widths(cls, features: int, **config: Any) -> list[int]:
        """Widths of what a merge in front of the last block reads.

        Raises:
            ValueError: If there is no block before it.
        """
        number = cls.num_blocks(config)
        if number < 2:
            raise ValueError(
                "A merge needs a memory of at least two blocks. Received: "
                f"{cls.__name__} with {number}"
            )
        return [features, *[config["hidden_dim"]] * (number - 1)]

    @classmethod
    def num_blocks(cls, config: dict[str, Any]) -> int:
        """Number of blocks of a cell with these arguments."""
        return int(config["num_layers"])

    @classmethod
    def block_config(cls, index: int, num_layers: int, **sizes: Any) -> dict[str, Any]:
        """What the constructor of one block takes."""
        return {**sizes, "embed": index == 0}

    @classmethod
    def count_weights(cls, features: int, **config: Any) -> int:
        first, later = (
            cls.block_class.count_weights(width, **cls.block_config(i, **config))
            for i, width in enumerate((features, config["hidden_dim"]))
        )
        return first + (cls.num_blocks(config) - 1) * later

    @property
    def state_size(self) -> list[int]:
        return [block.state_size for block in self.blocks]

    def build(self, inputs_shape: Any, states_shape: Any = None) -> None:
        shape = (inputs_shape[0], 1, inputs_shape[-1])
        for block in self.blocks:
            block.build(shape)
            block.built = True
            shape = (*shape[:-1], self.output_size)
        if self.merge is not None:
            widths = self.merged_widths(inputs_shape[-1], **self.cell_config)
            self.merge.build([(*shape[:-1], width) for width in widths])

    def run(
        self,
        sequences: Any,
        states: Any,
        start: Any = None,
        mask: Any = None,
        **shared: Any,
    ) -> tuple[Any, list[Any]]:
        """Runs every block over whole sequences; see `SequenceCell.run`.

        A start is a zero in what a block keeps and a mask leaves its state as it was,
        so that sequences step by step, in chunks or whole give the same.

        Args:
            sequences: Tensor of shape `(batch, time, features)`.
            states: List of `num_layers` tensors of shape `(batch, size)`.
            start: Optional boolean tensor of shape `(batch, time)`.
            mask: Optional boolean tensor of shape `(batch, time)`.
            **shared: What all blocks get besides.

        Returns:
            `(outputs, states)`, the outputs of shape `(batch, time, hidden_dim)`.
        """
        back = None
        if self.needs_valid_first and mask is not None:
            sequences, start, mask, back = valid_first(sequences, start, mask)
        new_states: list[Any] = []
        features: list[Any] = []
        for block, state in zip(self.blocks, states, strict=True):
            if self.merge is not None:
                features.append(ops.stop_gradient(sequences))
                if block is self.blocks[-1]:
                    sequences = self.merge(features)
            sequences, state = block(sequences, state, start=start, mask=mask, **shared)
            new_states.append(state)
        if back is not None:
            sequences = ops.take_along_axis(sequences, back, axis=1)
        return sequences, new_states
