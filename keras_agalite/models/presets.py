"""Presets: a folder with `config.json` and `model.weights.h5`.

Both are data. Classes are looked up in the tables below, never imported by a name
that a file gives.
"""

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
DTYPES = ("float32", "float64", "bfloat16", "mixed_bfloat16", "mixed_float16")


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
    policy = policy_from_config(config)
    policy.load_weights(weights)
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
        config = json.loads(path.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"Expected JSON in {path}. Received: {error}") from error
    check_config(config)
    return dict(config)


def check_config(config: Any) -> None:
    """Raises a ValueError if `config` is not the configuration of a preset."""
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ValueError(
            f"Expected a preset of format {FORMAT}, which version {__version__} "
            "reads. Received: format="
            f"{config.get('format') if isinstance(config, dict) else config!r}"
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
    space_from_config(config["action_space"])
    for key, value in _numbers(config):
        if value < 0 or value > MAX_SIZE:
            raise ValueError(
                f"Expected sizes from 0 to {MAX_SIZE:,}. Received: {key}={value}"
            )
    _check_activation("head_activation", config["head_activation"])
    try:
        count_parameters(config)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise ValueError(
            f"Expected a policy that can be built. Received: config={config!r}"
        ) from error


def _numbers(config: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """The integers among the arguments of the parts: widths, layers, units."""
    parts = (config["encoder"]["config"], config["memory"]["config"])
    for arguments in ({"head_units": config["head_units"]}, *parts):
        for key, value in arguments.items():
            for number in value if isinstance(value, list) else [value]:
                if isinstance(number, int) and key != "seed":
                    yield key, number


def policy_from_config(config: dict[str, Any]) -> MemoryPolicy:
    """Builds a policy with fresh weights from a configuration that was checked."""

    def part(what: str, table: dict[str, Any]) -> Any:
        cls, arguments = table[config[what]["class"]], config[what]["config"]
        return cls(**arguments, dtype=config[what]["dtype"])

    return MemoryPolicy(
        part("encoder", ENCODERS),
        part("memory", MEMORIES),
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
            f"Expected the {what} to be one of {', '.join(table)}. Received: {config!r}"
        )
    dtype, arguments = config.get("dtype"), config.get("config")
    if dtype not in DTYPES:
        raise ValueError(f"Expected a dtype of {DTYPES}. Received: dtype={dtype!r}")
    if not isinstance(arguments, dict) or set(arguments) != set(
        _arguments(table[name])
    ):
        raise ValueError(
            f"Expected the arguments {_arguments(table[name])} for {name}. "
            f"Received: {arguments!r}"
        )
    _check_activation("activation", arguments.get("activation", "relu"))


def _check_activation(key: str, name: Any) -> None:
    # Keras would look up a class, by any module's name, for a dict.
    if not isinstance(name, str) or not callable(getattr(keras.activations, name, 0)):
        raise ValueError(
            f"Expected `{key}` to be the name of an activation of Keras. Received: "
            f"{key}={name!r}"
        )


def _arguments(cls: Any) -> list[str]:
    signature = inspect.signature(cls.__init__).parameters.values()
    skipped = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [p.name for p in signature if p.name != "self" and p.kind not in skipped]
