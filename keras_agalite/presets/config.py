"""The configuration of a preset: what JSON says of the parts of a policy.

It is data. Classes are looked up among those of this library and those that were
registered, never imported by a name that a file gives.
"""

import inspect
import json
import reprlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import keras

from keras_agalite.layers.checks import MAX_LAYERS, MAX_SIZE
from keras_agalite.models.spaces import space_from_config, space_to_config

FORMAT = 1
MAX_CONFIG_BYTES = 2**20
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
# Arguments that are gymnasium spaces.
SPACES = ("observation_space", "action_space")
# Arguments that are described apart.
PARTS = ("encoder", "memory")


class Part(NamedTuple):
    """An encoder, a memory, an action head or a policy for recordings, as a preset
    describes it.

    Attributes:
        cls: The class.
        dtype: Name of its dtype policy.
        arguments: All arguments of its constructor, spaces as gymnasium's objects.
        saved_activations: How it keeps activations when it is trained. Files do not
            hold it: it is a matter of training, and changes nothing that is saved.
    """

    cls: type[Any]
    dtype: str
    arguments: dict[str, Any]
    saved_activations: str | None = None

    @classmethod
    def of(cls, layer: Any, classes: Iterable[type[Any]], what: str) -> "Part":
        """The description of a layer.

        Raises:
            ValueError: If its class is not one of these, or its configuration lacks an
                argument of its constructor.
        """
        if type(layer) not in classes:
            names = ", ".join(map(class_name, classes))
            raise ValueError(
                f"Expected the {what} to be one of {names}, or of a class given to "
                f"keras_agalite.register. Received: {type(layer).__name__}"
            )
        config, required = layer.get_config(), argument_names(type(layer))
        missing = [name for name in required if name not in config]
        if missing:
            raise ValueError(
                f"Expected all arguments of {type(layer).__name__} in what its "
                f"`get_config` returns. Received: none of {missing}"
            )
        arguments = {name: config[name] for name in required}
        arguments = _with_spaces(_without_added(type(layer), arguments))
        return cls(type(layer), layer.dtype_policy.name, arguments)

    @classmethod
    def from_config(
        cls, config: Any, classes: Iterable[type[Any]], what: str
    ) -> "Part":
        """Reads what `to_config` gives.

        Raises:
            ValueError: If it is anything else.
        """
        table = {class_name(c): c for c in classes}
        name = config.get("class") if isinstance(config, dict) else None
        if not isinstance(name, str) or name not in table:
            raise ValueError(
                f"Expected the {what} to be one of {', '.join(table)}, or of a class "
                f"given to keras_agalite.register. Received: {reprlib.repr(config)}"
            )
        check_dtype(config.get("dtype"))
        arguments, names = config.get("config"), argument_names(table[name])
        added = _added_arguments(table[name])
        if not isinstance(arguments, dict) or set(added | arguments) != set(names):
            raise ValueError(
                f"Expected the arguments {names} for {name}. "
                f"Received: {reprlib.repr(arguments)}"
            )
        for key, form in argument_forms(table[name]).items():
            form.check(key, (added | arguments)[key])
        arguments = _with_spaces(_without_added(table[name], arguments))
        return cls(table[name], config["dtype"], arguments)

    def trained_as(self, layer: Any) -> "Part":
        """The same, keeping activations as this layer does."""
        return self._replace(
            saved_activations=getattr(layer, "saved_activations", None)
        )

    def to_config(self) -> dict[str, Any]:
        """The description in JSON's types."""
        arguments = {
            key: space_to_config(value) if key in SPACES else value
            for key, value in self.arguments.items()
        }
        return {
            "class": class_name(self.cls),
            "dtype": self.dtype,
            "config": arguments,
        }

    def make(self, dtype: str | None = None, **kwargs: Any) -> Any:
        """The layer, in its own dtype or in this one."""
        if self.saved_activations is not None:
            kwargs["saved_activations"] = self.saved_activations
        return self.cls(**self.arguments, dtype=dtype or self.dtype, **kwargs)

    def count_weights(self, *features: int) -> int:
        """Number of weights of the layer, on so many features."""
        return int(self.cls.count_weights(*features, **self.arguments))


def _with_spaces(arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        key: space_from_config(value) if key in SPACES else value
        for key, value in arguments.items()
    }


def class_name(cls: type[Any]) -> str:
    """The name of a class in a preset: Keras's registered name, ours without a prefix.

    `"AGaLiTe"`, `"my_package>MyMemory"`.
    """
    return str(keras.saving.get_registered_name(cls)).removeprefix("keras_agalite>")


def check_dtype(dtype: Any) -> None:
    """Raises a ValueError if `dtype` is not the name of one that a preset may have."""
    if dtype not in DTYPES:
        raise ValueError(
            f"Expected a dtype of {DTYPES}. Received: dtype={reprlib.repr(dtype)}"
        )


def read_json(path: Path) -> Any:
    """Reads a JSON file of a limited size.

    Raises:
        ValueError: If it is larger, or no JSON.
    """
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise ValueError(
            f"Expected at most {MAX_CONFIG_BYTES:,} bytes in {path}. Received: "
            f"{path.stat().st_size:,}"
        )
    try:
        return json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Expected JSON in {path}. Received: {error}") from error


class Form(NamedTuple):
    """What a value of JSON may be, from the type that the argument has in Python.

    Attributes:
        legal: The values in words.
        fits: Whether a value is one of them.
    """

    legal: str
    fits: Callable[[Any], bool]

    def check(self, key: str, value: Any) -> None:
        """Raises a ValueError if the value is not legal."""
        if not self.fits(value):
            raise ValueError(
                f"Expected {self.legal}. Received: {key}={reprlib.repr(value)}"
            )


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_SIZE


SIZE = Form(f"sizes from 0 to {MAX_SIZE:,}", _is_size)
_LAYERS = Form(
    f"from 1 to {MAX_LAYERS:,} layers",
    lambda value: type(value) is int and 1 <= value <= MAX_LAYERS,
)
# Keras would look up a class, by any module's name, for a dict.
ACTIVATION = Form(
    f"one of {', '.join(ACTIVATIONS)}",
    lambda value: isinstance(value, str) and value in ACTIVATIONS,
)
FLAG = Form("true or false", lambda value: isinstance(value, bool))
_SEED = Form(
    "a seed below 2**63", lambda value: type(value) is int and 0 <= value < 2**63
)


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < float("inf")


_FORMS: dict[Any, Form] = {
    str: ACTIVATION,
    bool: FLAG,
    float: Form("a finite number", _is_finite),
    float | None: Form(
        "a finite number or null", lambda value: value is None or _is_finite(value)
    ),
    int: SIZE,
    Sequence[int]: Form(
        f"a list of at most {MAX_LAYERS:,} sizes from 0 to {MAX_SIZE:,}",
        lambda value: (
            isinstance(value, list)
            and len(value) <= MAX_LAYERS
            and all(map(_is_size, value))
        ),
    ),
}
# Integers that are no plain sizes, by name.
_INTEGERS = {"seed": _SEED, "num_layers": _LAYERS}
EXPECTED_TYPES = (
    "bool, int, float, float | None, str (an activation), Literal or Sequence[int]"
)


def _form(key: str, hint: Any) -> Form:
    if hint is int and key in _INTEGERS:
        return _INTEGERS[key]
    if hint in _FORMS:
        return _FORMS[hint]
    if get_origin(hint) is Literal:
        values = get_args(hint)
        return Form(
            f"one of {', '.join(map(repr, values))}",
            lambda value: any(type(value) is type(v) and value == v for v in values),
        )
    raise ValueError(
        f"Expected a constructor whose arguments have the types {EXPECTED_TYPES}. "
        f"Received: {key}: {hint}"
    )


def argument_forms(cls: type[Any]) -> dict[str, Form]:
    """What each argument of a constructor, spaces aside, may be in a preset.

    Raises:
        ValueError: If an argument has another type than presets hold.
    """
    hints = get_type_hints(cls.__init__)
    names = [name for name in argument_names(cls) if name not in SPACES]
    return {name: _form(name, hints.get(name)) for name in names}


def argument_names(cls: type[Any]) -> list[str]:
    """The named arguments of a constructor, but for parts that are described apart."""
    signature = inspect.signature(cls.__init__).parameters.values()
    skipped = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    names = [p.name for p in signature if p.kind not in skipped]
    return [name for name in names if name not in ("self", *PARTS)]


def _added_arguments(cls: type[Any]) -> dict[str, Any]:
    """What a memory's arguments are that its presets may leave out."""
    added: dict[str, Any] = getattr(cls, "added_arguments", {})
    return added


def _without_added(cls: type[Any], arguments: dict[str, Any]) -> dict[str, Any]:
    added = _added_arguments(cls)
    return {k: v for k, v in arguments.items() if k not in added or v != added[k]}
