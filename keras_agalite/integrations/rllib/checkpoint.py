"""Presets from RLlib's checkpoints."""

from pathlib import Path

from ray.rllib.core import (
    COMPONENT_LEARNER,
    COMPONENT_LEARNER_GROUP,
    COMPONENT_RL_MODULE,
    DEFAULT_MODULE_ID,
)
from ray.rllib.core.rl_module.rl_module import RLModule

from keras_agalite.integrations.rllib.module import MemoryRLModule

MODULES = Path(COMPONENT_LEARNER_GROUP, COMPONENT_LEARNER, COMPONENT_RL_MODULE)


def save_checkpoint_as_preset(
    checkpoint: str | Path, folder: str | Path, module_id: str = DEFAULT_MODULE_ID
) -> None:
    """Writes the policy of an algorithm's checkpoint as a preset. Ray need not run.

    Checkpoints of RLlib are pickles, which run code when they are read: read only those
    that you trust.

    Args:
        checkpoint: The folder that `algorithm.save_to_path` wrote.
        folder: Where to write the preset. It is made if it is not there.
        module_id: Which of several modules.

    Raises:
        ValueError: If there is no such module, or it is no `MemoryRLModule`.

    Example:

    >>> path = algorithm.save_to_path()
    >>> save_checkpoint_as_preset(path, "my_policy")
    >>> policy = MemoryPolicy.from_preset("my_policy")
    """
    path = Path(checkpoint).absolute() / MODULES / module_id
    if not path.is_dir():
        raise ValueError(
            "`checkpoint` must be the folder that an algorithm has saved, and hold "
            f"{MODULES / module_id}. Received: checkpoint={str(checkpoint)!r}"
        )
    module = RLModule.from_checkpoint(path)
    if not isinstance(module, MemoryRLModule):
        raise ValueError(
            f"The module {module_id!r} must be a MemoryRLModule. Received: {module!r} "
            f"in checkpoint={str(checkpoint)!r}"
        )
    module.policy.save_to_preset(folder)
