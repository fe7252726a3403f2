import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from packaging.version import Version

import keras_agalite
from tests.helpers import BACKEND

PACKAGE = Path(keras_agalite.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))

# The public API. A name that goes or comes is a decision: change it here as well.
PUBLIC = {
    "keras_agalite": """AGaLiTe AGaLiTeCell ConfiguredMemory ConvEncoder
        DTMem DecisionTransformer ELMUR FastForgetfulMemory FastForgetfulMemoryCell
        GRCMemory GRCMemoryCell GRU GRUGate
        GTrXL GTrXLCell GaLiTe GaLiTeCell GatedDeltaNet GatedDeltaNetCell GridEncoder
        LRU LRUCell LSTM MLPEncoder Memformer MemformerCell MemoryPolicy MemoryRNN
        Memoryless MemorylessCell MinGRU MinGRUCell RATE ResNetEncoder
        ReturnConditionedPolicy SpatialMemory SpatialMemoryCell StableHadamardMemory
        StableHadamardMemoryCell TrMRL TrMRLCell __version__ convert environments
        evaluate export layers models ops presets register rollout zoo""",
    "keras_agalite.ops": """agalite_attention agalite_state_size galite_attention
        galite_state_size gated_delta_rule hadamard_memory linear_recurrence
        relative_attention""",
    "keras_agalite.layers": """AGaLiTe AGaLiTeCell ConfiguredMemory FastForgetfulMemory
        FastForgetfulMemoryCell GRCMemory GRCMemoryCell GRU GRUGate GTrXL GTrXLCell
        GaLiTe GaLiTeCell GatedDeltaNet GatedDeltaNetCell LRU LRUCell LSTM MEMORIES
        Memformer MemformerCell MemoryRNN Memoryless MemorylessCell MinGRU MinGRUCell
        SpatialMemory SpatialMemoryCell StableHadamardMemory StableHadamardMemoryCell
        TrMRL TrMRLCell memory_class register_memory""",
    "keras_agalite.models": """ActionHead AdaptiveMemoryAllocator BoxHead
        ConvEncoder DTMem DecisionTransformer DiscreteHead ELMUR Encoder
        GridEncoder MLPEncoder MemoryPolicy MultiBinaryHead MultiDiscreteHead
        Policy PolicyOutput RATE ResNetEncoder ReturnConditionedPolicy
        with_strategy""",
    "keras_agalite.presets": """Preset find_preset register released_folder
        released_presets""",
    "keras_agalite.export": "export_policy",
    "keras_agalite.zoo": """PolicyInfo PolicySpec craftax_policy find_spec list_policies
        memory_chain_policy memory_maze_policy minigrid_memory_policy
        mortar_mayhem_policy mujoco_positions_policy mystery_path_policy
        offline_policy popgym_policy searing_spotlights_policy tmaze_policy
        trials_policy vizdoom_two_colors_policy""",
    "keras_agalite.environments": """EnvironmentInfo PassiveTMaze
        PreviousActionReward TMaze Trial list_environments make make_vec""",
}


def run(code, **environ):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environ},
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.mark.once
@pytest.mark.parametrize("name", PUBLIC)
def test_the_public_names(name):
    module = importlib.import_module(name)
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    ]

    assert sorted(names) == PUBLIC[name].split()


@pytest.mark.once
@pytest.mark.parametrize("name", PUBLIC["keras_agalite"].split())
def test_a_public_name_is_there_and_listed(name):
    assert getattr(keras_agalite, name) is not None
    assert name in dir(keras_agalite)


@pytest.mark.once
def test_lazy_names_are_those_of_their_modules():
    for module in ("layers", "models"):
        module = importlib.import_module(f"keras_agalite.{module}")
        for name in vars(module).keys() & set(keras_agalite.__all__):
            assert getattr(keras_agalite, name) is getattr(module, name)


@pytest.mark.once
def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'keras_agalite' has no attribute 'nope'"):
        _ = keras_agalite.nope


@pytest.mark.once
def test_the_version_is_one():
    assert str(Version(keras_agalite.__version__)) == keras_agalite.__version__


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.once
@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_what_a_module_may_import(path):
    where = path.relative_to(PACKAGE)
    forbidden = {"tf_keras", "tf_agents", "tensorflow_probability", "training", "tests"}
    backends = {"tensorflow", "jax", "jaxlib", "torch"}
    if where.parts[0] == "integrations":
        forbidden = {"training", "tests"}
    elif where.as_posix() == "models/acting.py":
        pass
    elif where.parts[:2] == ("environments", "functional"):  # programs in JAX
        forbidden |= backends - {"jax"}
    elif where.parts[0] in ("export", "ops") and where.stem.startswith("_"):
        forbidden |= backends - {where.stem.split("_")[1]}  # _torch_attention
    else:
        forbidden |= backends
    tree = ast.parse(path.read_text())

    names = set(imported(tree))

    assert not {name.split(".")[0] for name in names} & forbidden
    assert not [name for name in names if name.startswith("keras.src")]
    assert not [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) == ("keras", "src")
    ]


EVERYWHERE = {"_version", "action_masks", "previous"}  # they import nothing of ours
LAYERS_BELOW = {
    "ops": (),
    "layers": ("ops",),
    # The way up is inside of methods: `from_preset`, `save_to_preset`, `export`.
    "models": ("ops", "layers", "presets", "export"),
    "presets": ("ops", "layers", "models"),
    "zoo": ("ops", "layers", "models", "presets", "environments"),
    "export": ("models",),
    "environments": (),
}


@pytest.mark.once
@pytest.mark.parametrize("part", LAYERS_BELOW)
def test_arrows_point_down(part):
    allowed = {part, *EVERYWHERE, *LAYERS_BELOW[part]}
    for path in (PACKAGE / part).rglob("*.py"):
        for name in imported(ast.parse(path.read_text())):
            top, *rest = name.split(".")
            assert top != "keras_agalite" or rest[0] in allowed, (path, name)


@pytest.mark.process
def test_one_backend_is_enough(tmp_path):
    others = {"tensorflow", "jax", "jaxlib", "torch"} - {BACKEND, f"{BACKEND}lib"}
    absent = sorted(others | {"tf_keras", "tf_agents"})
    code = f"""
import sys
sys.modules.update(dict.fromkeys({absent}))  # as if they were not installed
import numpy as np
from gymnasium.spaces import Box, Discrete
from keras_agalite import AGaLiTe, MemoryPolicy, MLPEncoder

policy = MemoryPolicy(
    MLPEncoder(Box(-1.0, 1.0, (3,))), AGaLiTe(1, hidden_dim=4), Discrete(2),
    head_units=4,
)
observation, state = policy.sample_observation(2, seed=0), policy.initial_state(2)
action, _ = policy.act(observation, state, seed=0)
policy.save_to_preset({str(tmp_path)!r})
copy = MemoryPolicy.from_preset({str(tmp_path)!r})
np.testing.assert_array_equal(copy.act(observation, state, seed=0)[0], action)
"""

    result = run(code)

    assert result.returncode == 0, result.stderr


@pytest.mark.process
@pytest.mark.once
def test_another_backend_is_refused():
    pytest.importorskip("scipy", reason="Keras's NumPy backend needs it")
    code = """
import keras_agalite
try:
    keras_agalite.layers
except ValueError as error:
    print(error)
"""

    result = run(code, KERAS_BACKEND="numpy")

    assert result.returncode == 0, result.stderr
    assert "runs on the Keras backends jax, tensorflow, torch" in result.stdout
    assert "Received: KERAS_BACKEND='numpy'" in result.stdout
