"""Bases of the memories that make their own cell from plain arguments."""

from typing import Any

from keras_agalite.layers.memory_rnn import MemoryRNN


class ArgumentsMemory(MemoryRNN):
    """Base of memories that make their own cell: `arguments` says what it is."""

    arguments: dict[str, Any]

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["cell"]
        return {**config, **self.arguments}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        return cls(**config)


class SequenceMemory(ArgumentsMemory):
    """Base of memories whose cell runs whole sequences: `cell.run`."""

    @property
    def arguments(self) -> dict[str, Any]:  # type: ignore[override]
        return self.cell.arguments

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
            outputs = self.hold_outputs(outputs, mask)
        return outputs[:, -1], outputs, state


def check_sizes(sizes: dict[str, Any]) -> None:
    """Raises a ValueError unless all are positive integers."""
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(
                f"`{name}` must be a positive integer. Received: {name}={value!r}"
            )
