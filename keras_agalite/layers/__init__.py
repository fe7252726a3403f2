"""Memory layers: cells that take one step and layers that take whole sequences."""

from keras_agalite.layers.agalite import AGaLiTe as AGaLiTe
from keras_agalite.layers.agalite import AGaLiTeBlock as AGaLiTeBlock
from keras_agalite.layers.agalite import AGaLiTeCell as AGaLiTeCell
from keras_agalite.layers.fast_forgetful_memory import (
    FastForgetfulMemory as FastForgetfulMemory,
)
from keras_agalite.layers.fast_forgetful_memory import (
    FastForgetfulMemoryBlock as FastForgetfulMemoryBlock,
)
from keras_agalite.layers.fast_forgetful_memory import (
    FastForgetfulMemoryCell as FastForgetfulMemoryCell,
)
from keras_agalite.layers.galite import GaLiTe as GaLiTe
from keras_agalite.layers.galite import GaLiTeBlock as GaLiTeBlock
from keras_agalite.layers.galite import GaLiTeCell as GaLiTeCell
from keras_agalite.layers.gated_delta_net import (
    GatedDeltaNet as GatedDeltaNet,
)
from keras_agalite.layers.gated_delta_net import (
    GatedDeltaNetBlock as GatedDeltaNetBlock,
)
from keras_agalite.layers.gated_delta_net import (
    GatedDeltaNetCell as GatedDeltaNetCell,
)
from keras_agalite.layers.gru_gate import GRUGate as GRUGate
from keras_agalite.layers.gtrxl import GTrXL as GTrXL
from keras_agalite.layers.gtrxl import GTrXLBlock as GTrXLBlock
from keras_agalite.layers.gtrxl import GTrXLCell as GTrXLCell
from keras_agalite.layers.lru import LRU as LRU
from keras_agalite.layers.lru import LRUBlock as LRUBlock
from keras_agalite.layers.lru import LRUCell as LRUCell
from keras_agalite.layers.memory_rnn import MemoryRNN as MemoryRNN
from keras_agalite.layers.memoryless import Memoryless as Memoryless
from keras_agalite.layers.memoryless import MemorylessCell as MemorylessCell
from keras_agalite.layers.mingru import MinGRU as MinGRU
from keras_agalite.layers.mingru import MinGRUBlock as MinGRUBlock
from keras_agalite.layers.mingru import MinGRUCell as MinGRUCell
from keras_agalite.layers.recurrent import GRU as GRU
from keras_agalite.layers.recurrent import LSTM as LSTM
from keras_agalite.layers.stable_hadamard_memory import (
    StableHadamardMemory as StableHadamardMemory,
)
from keras_agalite.layers.stable_hadamard_memory import (
    StableHadamardMemoryBlock as StableHadamardMemoryBlock,
)
from keras_agalite.layers.stable_hadamard_memory import (
    StableHadamardMemoryCell as StableHadamardMemoryCell,
)
