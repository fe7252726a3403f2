"""Presets: a folder with `config.json` and `model.weights.h5`.

Both are data. Classes are looked up in the tables below, never imported by a name
that a file gives.
"""

import inspect
import json
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints

import keras

from keras_agalite import layers
from keras_agalite._version import __version__
from keras_agalite.models import encoders
from keras_agalite.models.downloads import FORMS, download
from keras_agalite.models.policy import MemoryPolicy
from keras_agalite.models.sizes import count_parameters
from keras_agalite.models.spaces import space_from_config, space_to_config
from keras_agalite.models.weights_file import count_numbers

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "model.weights.h5"
OPTIONAL = ("README.md", "recipe.toml", "evaluation.json")
MAX_CONFIG_BYTES = 2**20
MAX_SIZE = 2**20
MAX_STATE = 2**24
ENCODERS = {
    c.__name__: c
    for c in (
        encoders.MLPEncoder,
        encoders.GridEncoder,
        encoders.ConvEncoder,
        encoders.ResNetEncoder,
    )
}
MEMORIES = {
    c.__name__: c
    for c in (
        layers.AGaLiTe,
        layers.GaLiTe,
        layers.GTrXL,
        layers.StableHadamardMemory,
        layers.FastForgetfulMemory,
        layers.GatedDeltaNet,
        layers.LRU,
        layers.MinGRU,
        layers.GRU,
        layers.LSTM,
        layers.Memoryless,
    )
}
# Those that keep the shape and need no argument.
ACTIVATIONS = (
    "elu",
    "gelu",
    "hard_sigmoid",
    "hard_tanh",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "softsign",
    "swish",
    "tanh",
)
DTYPES = ("float32", "float64", "mixed_bfloat16", "mixed_float16")


def released_folder() -> Path:
    """Where the released policies are: in the wheel, or in a checkout beside it."""
    package = Path(__file__).parent.parent
    in_wheel = package / "zoo" / "data"
    return in_wheel if in_wheel.is_dir() else package.parent / "zoo"


def released_presets() -> list[str]:
    """Names of the released policies."""
    return sorted(path.parent.name for path in released_folder().glob(f"*/{CONFIG}"))


def save_preset(policy: MemoryPolicy, folder: Path) -> None:
    """See `MemoryPolicy.save_to_preset`."""
    config = {
        "format": FORMAT,
        "keras_agalite": __version__,
        "encoder": _part_config(policy.encoder, ENCODERS, "encoder"),
        "memory": _part_config(policy.memory, MEMORIES, "memory"),
        "action_space": space_to_config(policy.action_space),
        "head_units": policy.head_units,
        "head_activation": policy.head_activation,
    }
    text = json.dumps(config, indent=2) + "\n"
    check_config(json.loads(text))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(text)
    policy.save_weights(folder / WEIGHTS)


def load_preset(preset: str | Path) -> MemoryPolicy:
    """See `MemoryPolicy.from_preset`."""
    folder = find_preset(preset)
    return load_weights(read_config(folder / CONFIG), folder / WEIGHTS)


def load_weights(config: dict[str, Any], weights: Path) -> MemoryPolicy:
    """Builds the policy of a configuration that was checked, with these weights.

    Raises:
        ValueError: If the file does not hold the weights of such a policy.
    """
    expected, received = count_parameters(config), count_numbers(weights)
    if expected != received:
        raise ValueError(
            f"Expected the {expected:,} weights that the configuration asks for. "
            f"Received: {weights} with {received:,}"
        )
    try:
        policy = policy_from_config(config)
        policy.load_weights(weights)
    except Exception as error:  # Keras and each backend raise their own
        raise ValueError(
            "Expected a policy that can be built, and its weights. Received: "
            f"{weights}: {error}"
        ) from error
    return policy


def read_config(path: Path) -> dict[str, Any]:
    """Reads and checks the configuration of a preset, and builds nothing.

    Raises:
        ValueError: If it is not one that `save_preset` writes.
    """
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise ValueError(
            f"Expected at most {MAX_CONFIG_BYTES:,} bytes in {path}. Received: "
            f"{path.stat().st_size:,}"
        )
    try:
        config = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Expected JSON in {path}. Received: {error}") from error
    try:
        check_config(config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return dict(config)


def check_config(config: Any) -> None:
    """Raises a ValueError if `config` is not the configuration of a preset."""
    version = config.get("format") if isinstance(config, dict) else config
    if type(version) is not int or version != FORMAT:
        raise ValueError(
            f"Expected a preset of format {FORMAT}, which version {__version__} "
            f"reads. Received: format={reprlib.repr(version)}"
        )
    expected = {"encoder", "memory", "action_space", "head_units", "head_activation"}
    missing = sorted(expected - set(config))
    if missing:
        raise ValueError(
            f"Expected {sorted(expected)} in the configuration of a preset. Received: "
            f"none of {missing}"
        )
    _check_part(config["encoder"], ENCODERS, "encoder")
    _check_part(config["memory"], MEMORIES, "memory")
    hints = get_type_hints(MemoryPolicy.__init__)
    for key in ("head_units", "head_activation"):
        _check_argument(key, config[key], hints[key])
    for space in (
        config["encoder"]["config"]["observation_space"],
        config["action_space"],
    ):
        space_from_config(space)
    try:
        count_parameters(config)
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        raise ValueError(
            f"Expected a policy that can be built. Received: {error}"
        ) from error


def policy_from_config(config: dict[str, Any]) -> MemoryPolicy:
    """Builds a policy with fresh weights from a configuration that was checked."""

    def part(what: str, table: dict[str, Any]) -> Any:
        cls, arguments = table[config[what]["class"]], config[what]["config"]
        return cls(**arguments, dtype=config[what]["dtype"])

    memory = part("memory", MEMORIES)
    size = sum(keras.tree.flatten(memory.state_size))
    if size > MAX_STATE:
        raise ValueError(
            f"Expected a state of at most {MAX_STATE:,} numbers. Received: {size:,}"
        )
    return MemoryPolicy(
        part("encoder", ENCODERS),
        memory,
        space_from_config(config["action_space"]),
        head_units=config["head_units"],
        head_activation=config["head_activation"],
    )


def find_preset(preset: str | Path) -> Path:
    """The folder of a preset, from its name, path or address.

    Raises:
        ValueError: If there is none; the message lists the legal forms.
    """
    if "://" in str(preset):
        return download(str(preset), (CONFIG, WEIGHTS), OPTIONAL)
    folder = Path(preset)
    if str(preset) in released_presets():
        folder = released_folder() / str(preset)
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"Expected the name of a released policy ({', '.join(released_presets())}"
            f"), a folder with {CONFIG} and {WEIGHTS}, or an address {FORMS}. "
            f"Received: preset={str(preset)!r}, in which {' and '.join(missing)} "
            "cannot be found"
        )
    return folder


def _part_config(part: Any, table: dict[str, Any], what: str) -> dict[str, Any]:
    name = type(part).__name__
    if table.get(name) is not type(part):
        raise ValueError(
            f"A preset holds an {what} of {', '.join(table)}. Received: {name}"
        )
    config = part.get_config()
    return {
        "class": name,
        "dtype": part.dtype_policy.name,
        "config": {k: config[k] for k in _arguments(type(part))},
    }


def _check_part(config: Any, table: dict[str, Any], what: str) -> None:
    name = config.get("class") if isinstance(config, dict) else None
    if not isinstance(name, str) or name not in table:
        raise ValueError(
            f"Expected the {what} to be one of {', '.join(table)}. Received: "
            f"{reprlib.repr(config)}"
        )
    dtype, arguments = config.get("dtype"), config.get("config")
    if dtype not in DTYPES:
        raise ValueError(
            f"Expected a dtype of {DTYPES}. Received: dtype={reprlib.repr(dtype)}"
        )
    if not isinstance(arguments, dict) or set(arguments) != set(
        _arguments(table[name])
    ):
        raise ValueError(
            f"Expected the arguments {_arguments(table[name])} for {name}. "
            f"Received: {reprlib.repr(arguments)}"
        )
    hints = get_type_hints(table[name].__init__)
    for key, value in arguments.items():
        _check_argument(key, value, hints[key])


def _check_argument(key: str, value: Any, hint: Any) -> None:
    """Checks a value of JSON against the type that the argument has in Python."""
    if hint is str:  # Keras would look up a class, by any module's name, for a dict
        legal, fits = f"one of {', '.join(ACTIVATIONS)}", value in ACTIVATIONS
    elif hint is bool:
        legal, fits = "true or false", isinstance(value, bool)
    elif hint is float:
        legal = "a finite number"
        fits = type(value) in (int, float) and abs(value) < float("inf")
    elif key == "seed":
        legal, fits = "a seed below 2**63", type(value) is int and 0 <= value < 2**63
    elif hint is int or hint == Sequence[int]:
        sizes = [value] if hint is int else value
        legal = (
            f"{'sizes' if hint is int else 'a list of sizes'} from 0 to {MAX_SIZE:,}"
        )
        fits = isinstance(sizes, list) and all(
            type(n) is int and 0 <= n <= MAX_SIZE for n in sizes
        )
    else:
        return  # a space, which is checked as a whole
    if not fits:
        raise ValueError(f"Expected {legal}. Received: {key}={reprlib.repr(value)}")


def _arguments(cls: Any) -> list[str]:
    signature = inspect.signature(cls.__init__).parameters.values()
    skipped = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [p.name for p in signature if p.name != "self" and p.kind not in skipped]
