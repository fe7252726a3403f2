"""Presets: a folder with `config.json` and `model.weights.h5`.

Both are data. Classes are looked up in the tables below, never imported by a name
that a file gives.
"""

import inspect
import json
from pathlib import Path
from typing import Any

import keras

from keras_agalite import layers
from keras_agalite._version import __version__
from keras_agalite.models import encoders
from keras_agalite.models.policy import MemoryPolicy
from keras_agalite.models.spaces import space_from_config, space_to_config

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "model.weights.h5"
ENCODERS = {
    c.__name__: c
    for c in (encoders.MLPEncoder, encoders.ConvEncoder, encoders.ResNetEncoder)
}
MEMORIES = {
    c.__name__: c for c in (layers.AGaLiTe, layers.GRU, layers.LSTM, layers.Memoryless)
}
_DTYPES = ("float32", "float64", "bfloat16", "mixed_bfloat16", "mixed_float16")


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
    try:
        config = json.loads((folder / CONFIG).read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"Expected JSON in {folder / CONFIG}. Received: {error}"
        ) from error
    policy = policy_from_config(config)
    try:
        policy.load_weights(folder / WEIGHTS)
    except (OSError, KeyError) as error:
        raise ValueError(
            f"Expected the weights of this policy in {folder / WEIGHTS}. "
            f"Received: {error}"
        ) from error
    return policy


def policy_from_config(config: Any) -> MemoryPolicy:
    """Builds a policy with fresh weights from the content of `config.json`."""
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ValueError(
            f"Expected a preset of format {FORMAT}. Received: "
            f"{config.get('format') if isinstance(config, dict) else config!r}"
        )
    activation, units = str(config.get("head_activation")), config.get("head_units")
    keras.activations.get(activation)
    if not isinstance(units, int) or units < 1:
        raise ValueError(
            f"Expected `head_units` to be positive. Received: head_units={units!r}"
        )
    return MemoryPolicy(
        _part(config.get("encoder"), ENCODERS, "encoder"),
        _part(config.get("memory"), MEMORIES, "memory"),
        space_from_config(config.get("action_space", {})),
        head_units=units,
        head_activation=activation,
    )


def find_preset(preset: str | Path) -> Path:
    """The folder of a preset, from its name or path.

    Raises:
        ValueError: If there is none; the message lists the released ones.
    """
    folder = Path(preset)
    if str(preset) in released_presets():
        folder = released_folder() / str(preset)
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"Expected the name of a released policy ({', '.join(released_presets())}) "
            f"or a folder with {CONFIG} and {WEIGHTS}. Received: preset={preset!r}, "
            f"in which {' and '.join(missing)} cannot be found"
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


def _part(config: Any, table: dict[str, Any], what: str) -> Any:
    name = config.get("class") if isinstance(config, dict) else None
    if not isinstance(name, str) or name not in table:
        raise ValueError(
            f"Expected the {what} to be one of {', '.join(table)}. Received: {config!r}"
        )
    cls, dtype, arguments = table[name], config.get("dtype"), config.get("config")
    if dtype not in _DTYPES:
        raise ValueError(f"Expected a dtype of {_DTYPES}. Received: dtype={dtype!r}")
    if not isinstance(arguments, dict) or set(arguments) != set(_arguments(cls)):
        raise ValueError(
            f"Expected the arguments {_arguments(cls)} for {name}. "
            f"Received: {arguments!r}"
        )
    # Keras would look up a class, by any module's name, for a dict.
    if not isinstance(arguments.get("activation", ""), str):
        raise ValueError(
            "Expected `activation` to be the name of an activation. Received: "
            f"activation={arguments['activation']!r}"
        )
    try:
        return cls(**arguments, dtype=dtype)
    except TypeError as error:
        raise ValueError(
            f"Expected arguments that fit {name}. Received: {arguments!r}"
        ) from error


def _arguments(cls: Any) -> list[str]:
    signature = inspect.signature(cls.__init__).parameters.values()
    skipped = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [p.name for p in signature if p.name != "self" and p.kind not in skipped]
