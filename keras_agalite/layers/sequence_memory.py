"""Bases of the memories that make their own cell from plain arguments."""

import abc
import inspect
from typing import Any, ClassVar

from keras_agalite.layers.block_cell import BlockCell
from keras_agalite.layers.memory_rnn import MemoryRNN
from keras_agalite.layers.sequence_cell import SequenceCell
from keras_agalite.layers.sherl_merge import SHERLMerge


class ConfiguredMemory(MemoryRNN, abc.ABC):
    """Base of the memories that plain arguments describe, as presets need them.

    A subclass makes its cell, gives it to `MemoryRNN` and keeps the arguments that say
    what it is in `cell_config`. With `short_name`, `count_weights` and `zoo_config` it
    can join the catalog: see `keras_agalite.layers.catalog.register_memory`.

    Attributes:
        short_name: What recipes and the zoo call it, such as `"gated_delta_net"`.
        cell_config: The arguments of its constructor, without those of `MemoryRNN`:
            JSON can hold them, and one of them is `hidden_dim`, the width of the
            output.
        added_arguments: Those that came after presets of the class, and their
            defaults: a preset holds one of them where it is another.
    """

    short_name: ClassVar[str]
    cell_config: dict[str, Any]
    added_arguments: ClassVar[dict[str, Any]] = {}

    @classmethod
    @abc.abstractmethod
    def count_weights(cls, features: int, **config: Any) -> int:
        """Number of weights of such a memory, without building it.

        Args:
            features: Width of the input.
            **config: Arguments of the constructor, as in `cell_config`. One that is
                left out has its default; what `get_config` holds besides is passed
                over.

        Returns:
            The number that `count_params()` of the built layer gives.

        Example:

        >>> AGaLiTe.count_weights(16)
        1740608
        """

    @classmethod
    @abc.abstractmethod
    def zoo_config(
        cls,
        hidden_dim: int,
        *,
        num_layers: int,
        num_heads: int,
        head_dim: int,
        eta: int,
    ) -> dict[str, Any]:
        """Arguments of such a memory for a policy of the zoo.

        The zoo looks for the width with which all memories have nearly as many
        weights, so `count_weights` must grow with `hidden_dim`.

        Args:
            hidden_dim: Width of the output.
            num_layers: Blocks of the policy with AGaLiTe.
            num_heads: Heads of one of its blocks.
            head_dim: Width of one head.
            eta: Its feature expansion.

        Returns:
            All that `cell_config` holds, but for `added_arguments`.
        """

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["cell"]
        return {**config, **self.cell_config}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        return cls(**config)


class SequenceMemory(ConfiguredMemory):
    """Base of the memories whose cell runs whole sequences: `cell.run`.

    The constructor of a subclass has all arguments in its signature, with their
    defaults, and hands them to this one by name. Its cell takes the same.

    With `saved_activations="int8"` training takes less memory: the outputs are the
    same, and what the backward pass reads of dense layers, layer normalisations, gates
    and the attention of GTrXL and TrMRL is kept in 8 bits. docs/training.md has the
    error of the gradients. Presets do not hold it.

    Args:
        saved_activations: None, or `"int8"`.
        **kwargs: Arguments of `cell_class`, and those of `MemoryRNN`.

    Attributes:
        cell_class: The class of the cell.

    Raises:
        ValueError: If an argument is not what it must be.
    """

    cell_class: ClassVar[type[SequenceCell]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "cell_class" in vars(cls):
            _, *parameters = inspect.signature(cls.__init__).parameters.values()
            cls.cell_class.__signature__ = inspect.Signature(parameters)

    def __init__(self, saved_activations: str | None = None, **kwargs: Any) -> None:
        config, kwargs = self.cell_class.bind(**kwargs)
        cell = self.cell_class(
            **config,
            name="cell",
            dtype=kwargs.get("dtype"),
            saved_activations=saved_activations,
        )
        super().__init__(cell, **kwargs)

    @property
    def cell_config(self) -> dict[str, Any]:  # type: ignore[override]
        config: dict[str, Any] = self.cell.cell_config
        return config

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "saved_activations": self.saved_activations}

    @classmethod
    def count_weights(cls, features: int, **config: Any) -> int:
        config, _ = cls.cell_class.bind(**config)
        return cls.cell_class.count_weights(features, **config)

    def inner_loop(
        self,
        sequences: Any,
        initial_state: Any,
        mask: Any,
        training: bool = False,
        start: Any = None,
    ) -> tuple[Any, Any, Any]:
        outputs, state = self.cell.run(sequences, initial_state, start, mask)
        if mask is not None:
            outputs = self.repeat_masked_outputs(outputs, mask)
        return outputs[:, -1], outputs, state


def _block_cell_class(memory: type[MemoryRNN]) -> type[BlockCell]:
    """The class of the cell of a memory that is made of blocks.

    Raises:
        ValueError: If it is made otherwise.
    """
    cell = getattr(memory, "cell_class", None)
    if cell is None or not issubclass(cell, BlockCell):
        raise ValueError(
            "A merge needs a memory made of blocks, such as AGaLiTe or GTrXL. "
            f"Received: {memory.__name__}"
        )
    return cell


def add_merge(memory: MemoryRNN, units: int) -> None:
    """Puts a `SHERLMerge` in front of the last block of a memory.

    Raises:
        ValueError: If the memory has no two blocks, or is built.
    """
    _block_cell_class(type(memory))
    memory.cell.add_merge(units)


def count_merge(
    memory: type[MemoryRNN], features: int, units: int, config: dict[str, Any]
) -> int:
    """Number of weights of a merge in a memory with these arguments.

    Raises:
        ValueError: If there can be none.
    """
    widths = _block_cell_class(memory).merged_widths(features, **config)
    return SHERLMerge.count_weights(widths, units)
