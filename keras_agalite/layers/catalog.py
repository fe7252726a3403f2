"""The memories, by the short names that recipes and the zoo call them.

Every other list of memories follows from this one: what the package exports, what
presets may hold, the zoo, the recipes, the test cases.
"""

from keras_agalite.layers.agalite import AGaLiTe as AGaLiTe
from keras_agalite.layers.agalite import AGaLiTeCell as AGaLiTeCell
from keras_agalite.layers.checks import check_names as _check_names
from keras_agalite.layers.fast_forgetful_memory import (
    FastForgetfulMemory as FastForgetfulMemory,
)
from keras_agalite.layers.fast_forgetful_memory import (
    FastForgetfulMemoryCell as FastForgetfulMemoryCell,
)
from keras_agalite.layers.galite import GaLiTe as GaLiTe
from keras_agalite.layers.galite import GaLiTeCell as GaLiTeCell
from keras_agalite.layers.gated_delta_net import GatedDeltaNet as GatedDeltaNet
from keras_agalite.layers.gated_delta_net import GatedDeltaNetCell as GatedDeltaNetCell
from keras_agalite.layers.grc_memory import GRCMemory as GRCMemory
from keras_agalite.layers.grc_memory import GRCMemoryCell as GRCMemoryCell
from keras_agalite.layers.gtrxl import GTrXL as GTrXL
from keras_agalite.layers.gtrxl import GTrXLCell as GTrXLCell
from keras_agalite.layers.lru import LRU as LRU
from keras_agalite.layers.lru import LRUCell as LRUCell
from keras_agalite.layers.memformer import Memformer as Memformer
from keras_agalite.layers.memformer import MemformerCell as MemformerCell
from keras_agalite.layers.memory_rnn import MemoryRNN as MemoryRNN
from keras_agalite.layers.memoryless import Memoryless as Memoryless
from keras_agalite.layers.memoryless import MemorylessCell as MemorylessCell
from keras_agalite.layers.mingru import MinGRU as MinGRU
from keras_agalite.layers.mingru import MinGRUCell as MinGRUCell
from keras_agalite.layers.recurrent import GRU as GRU
from keras_agalite.layers.recurrent import LSTM as LSTM
from keras_agalite.layers.spatial_memory import SpatialMemory as SpatialMemory
from keras_agalite.layers.spatial_memory import SpatialMemoryCell as SpatialMemoryCell
from keras_agalite.layers.stable_hadamard_memory import (
    StableHadamardMemory as StableHadamardMemory,
)
from keras_agalite.layers.stable_hadamard_memory import (
    StableHadamardMemoryCell as StableHadamardMemoryCell,
)
from keras_agalite.layers.trmrl import TrMRL as TrMRL
from keras_agalite.layers.trmrl import TrMRLCell as TrMRLCell

MEMORIES: dict[str, type[MemoryRNN]] = {
    memory.short_name: memory
    for memory in (
        AGaLiTe,
        GaLiTe,
        GTrXL,
        StableHadamardMemory,
        FastForgetfulMemory,
        GatedDeltaNet,
        Memformer,
        GRCMemory,
        TrMRL,
        SpatialMemory,
        LRU,
        MinGRU,
        GRU,
        LSTM,
        Memoryless,
    )
}


def register_memory(cls: type[MemoryRNN]) -> type[MemoryRNN]:
    """Adds a memory to the catalog.

    A subclass of `keras_agalite.layers.ConfiguredMemory` has all that is asked for,
    once it implements what that class leaves open.

    Args:
        cls: Subclass of `MemoryRNN` with the attribute `short_name` and the class
            methods `count_weights` and `zoo_config`, as in `ConfiguredMemory`.

    Returns:
        The class, so that this may be used as a decorator.

    Raises:
        ValueError: If it is not such a class, or one of its names is taken.

    Example:

    >>> @register_memory
    ... @keras.saving.register_keras_serializable(package="my_package")
    ... class MyMemory(ConfiguredMemory):
    ...     short_name = "my_memory"
    """
    if not isinstance(cls, type) or not issubclass(cls, MemoryRNN):
        raise ValueError(f"Expected a subclass of MemoryRNN. Received: cls={cls!r}")
    needed = ("short_name", "count_weights", "zoo_config")
    missing = [name for name in needed if not hasattr(cls, name)]
    missing += sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise ValueError(
            "Expected a memory with short_name, count_weights and zoo_config. "
            f"Received: {cls.__name__} without {' and '.join(missing)}"
        )
    _check_names(cls, MEMORIES)
    MEMORIES[cls.short_name] = cls
    return cls


def memory_class(short_name: str) -> type[MemoryRNN]:
    """The class of a memory.

    Args:
        short_name: Its name in the catalog, such as `"gated_delta_net"`.

    Raises:
        ValueError: If there is none of that name.
    """
    if short_name not in MEMORIES:
        raise ValueError(
            f"Expected a memory: {', '.join(MEMORIES)}. Received: memory={short_name!r}"
        )
    return MEMORIES[short_name]
