"""How a run ends that does not end well."""


class TrainingError(RuntimeError):
    """A run cannot go on. The message says why, and what is left of it."""


class EnvironmentFault(TrainingError):  # noqa: N818
    """An environment raised, or gave what its spaces do not allow.

    Args:
        message: Which environment, when, and what.
        wrong_data: It gave something impossible: another try would hide a bug.
    """

    def __init__(self, message: str, wrong_data: bool = False) -> None:
        super().__init__(message, wrong_data)
        self.wrong_data = wrong_data

    def __str__(self) -> str:
        return str(self.args[0])


class Interrupted(Exception):  # noqa: N818
    """A signal asked the run to stop, and it did so after saving.

    Args:
        signal_number: The signal.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.exit_code = 128 + signal_number
