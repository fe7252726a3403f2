"""Presets: a folder with `config.json` and `model.weights.h5`, as one parsed object."""

import dataclasses
import functools
import json
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import gymnasium
import keras

from keras_agalite._version import __version__
from keras_agalite.layers.catalog import MEMORIES
from keras_agalite.layers.initializers import MAX_NUMBERS, without_draws
from keras_agalite.layers.memory_rnn import MemoryRNN
from keras_agalite.layers.sequence_memory import count_merge
from keras_agalite.models.action_heads import ActionHead, head_class
from keras_agalite.models.catalog import ACTION_HEADS, ENCODERS
from keras_agalite.models.dense import count_mlp
from keras_agalite.models.encoders import Encoder
from keras_agalite.models.normalization import ObservationNormalizer
from keras_agalite.models.policy import MemoryPolicy
from keras_agalite.models.spaces import space_from_config, space_to_config
from keras_agalite.presets.config import (
    ACTIVATION,
    FLAG,
    FORMAT,
    SIZE,
    Part,
    check_dtype,
    read_json,
)
from keras_agalite.presets.downloads import FORMS, download
from keras_agalite.presets.weights_file import count_numbers

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
OPTIONAL = ("README.md", "recipe.toml", "evaluation.json")
MAX_STATE = 2**24
NORMALIZE = "normalize_observations"
MERGE = "merge_units"

Policy = TypeVar("Policy", bound=MemoryPolicy)


@dataclasses.dataclass(frozen=True)
class Preset:
    """A policy that was read and checked, of which nothing is built.

    Attributes:
        encoder: Its encoder.
        memory: Its memory.
        action_space: Its action space.
        head_units: Width of the hidden layers of actor and critic.
        head_activation: Their activation.
        actor: Its action head, if that is not the one that `MemoryPolicy` makes.
        weights: File with its weights, if there is one.
        normalize_observations: Whether the policy normalises what it sees.
        merge_units: Width of the merge in front of the memory's last block; 0: none.
    """

    encoder: Part
    memory: Part
    action_space: gymnasium.Space[Any]
    head_units: int
    head_activation: str
    actor: Part | None = None
    weights: Path | None = None
    normalize_observations: bool = False
    merge_units: int = 0

    @classmethod
    def find(cls, preset: str | Path) -> "Preset":
        """Reads a preset.

        Args:
            preset: Name of a released policy, a folder, or an address.

        Raises:
            ValueError: If there is none, with the legal forms, or if its
                configuration is not one that `to_config` gives.
        """
        return read(preset, cls.from_config)

    @classmethod
    def from_config(cls, config: Any, weights: Path | None = None) -> "Preset":
        """Checks a configuration.

        Args:
            config: What `to_config` gives.
            weights: File with the weights, if there is one.

        Raises:
            ValueError: If the configuration is anything else.
        """
        expected = {
            "encoder",
            "memory",
            "action_space",
            "head_units",
            "head_activation",
        }
        check_keys(config, expected)
        encoder = Part.from_config(config["encoder"], ENCODERS.values(), "encoder")
        memory = Part.from_config(config["memory"], MEMORIES.values(), "memory")
        SIZE.check("head_units", config["head_units"])
        ACTIVATION.check("head_activation", config["head_activation"])
        actor = None
        if "actor" in config:
            actor = Part.from_config(config["actor"], ACTION_HEADS, "action head")
        normalizes = config.get(NORMALIZE, False)
        FLAG.check(NORMALIZE, normalizes)
        merge_units = config.get(MERGE, 0)
        SIZE.check(MERGE, merge_units)
        preset = cls(
            encoder,
            memory,
            space_from_config(config["action_space"]),
            config["head_units"],
            config["head_activation"],
            actor,
            weights,
            normalizes,
            merge_units,
        )
        check_buildable(preset)
        return preset

    @classmethod
    def of(cls, policy: MemoryPolicy) -> "Preset":
        """The preset of a policy, without its weights.

        Raises:
            ValueError: If a part is of a class that is not of this library and was not
                given to `keras_agalite.register`.
        """
        return cls.of_parts(
            policy.encoder,
            policy.memory,
            policy.action_space,
            policy.head_units,
            policy.head_activation,
            policy.actor if policy.has_own_actor else None,
            policy.normalizer is not None,
            policy.merge_units,
        )

    @classmethod
    def of_parts(
        cls,
        encoder: Encoder,
        memory: MemoryRNN,
        action_space: gymnasium.Space[Any],
        head_units: int,
        head_activation: str,
        actor: ActionHead | None = None,
        normalize_observations: bool = False,
        merge_units: int = 0,
    ) -> "Preset":
        """The preset of a policy of these parts, which need not be built.

        Args:
            encoder, memory, action_space, head_units, head_activation, actor,
                normalize_observations, merge_units: As `MemoryPolicy` takes them.

        Raises:
            ValueError: As `of`, or if a value is one that no preset holds.
        """
        check_state(memory.state_size)
        preset = cls(
            Part.of(encoder, ENCODERS.values(), "encoder"),
            Part.of(memory, MEMORIES.values(), "memory"),
            action_space,
            head_units,
            head_activation,
            actor and Part.of(actor, ACTION_HEADS, "action head"),
            normalize_observations=normalize_observations,
            merge_units=merge_units,
        )
        read = cls.from_config(as_read(preset.to_config()))
        return dataclasses.replace(
            read,
            encoder=read.encoder.trained_as(encoder),
            memory=read.memory.trained_as(memory),
            actor=read.actor and read.actor.trained_as(actor),
        )

    @property
    def observation_space(self) -> gymnasium.Space[Any]:
        """What the policy sees."""
        space: gymnasium.Space[Any] = self.encoder.arguments["observation_space"]
        return space

    @functools.cached_property
    def num_weights(self) -> int:
        """Number of weights of the policy, which is not built for it."""
        encoder = self.encoder
        features = encoder.cls.count_features(**encoder.arguments)
        number = encoder.count_weights() + count_recurrent(
            features,
            self.memory,
            self.action_space,
            self.head_units,
            self.head_activation,
            self.actor,
        )
        if self.normalize_observations:
            number += ObservationNormalizer.count_weights(self.observation_space)
        if self.merge_units:
            memory = self.memory
            number += count_merge(
                memory.cls, features, self.merge_units, memory.arguments
            )
        return number

    def to_config(self) -> dict[str, Any]:
        """The configuration in JSON's types."""
        config: dict[str, Any] = {
            "format": FORMAT,
            "keras_agalite": __version__,
            "encoder": self.encoder.to_config(),
            "memory": self.memory.to_config(),
            "action_space": space_to_config(self.action_space),
            "head_units": self.head_units,
            "head_activation": self.head_activation,
        }
        # What most have not, and older versions do not know.
        if self.actor is not None:
            config["actor"] = self.actor.to_config()
        if self.normalize_observations:
            config[NORMALIZE] = True
        if self.merge_units:
            config[MERGE] = self.merge_units
        return config

    def policy(
        self,
        cls: type[Policy] = MemoryPolicy,
        load_weights: bool = True,
        dtype: str | None = None,
    ) -> Policy:
        """Builds the policy.

        Args:
            cls: Class of the policy.
            load_weights: Whether to load the weights; they are fresh otherwise.
            dtype: Dtype policy of all parts, such as `"mixed_bfloat16"`; each part's
                own if None.

        Raises:
            ValueError: If the dtype is not one of those of presets, there are no
                weights to load, or the file does not hold those of this policy.
        """
        return load_policy(self, cls, load_weights, dtype)

    def build(self, cls: type[Policy], dtype: str | None) -> Policy:
        """The policy with fresh weights."""
        memory = self.memory.make(dtype)
        check_state(memory.state_size)
        return cls(
            self.encoder.make(dtype),
            memory,
            self.action_space,
            head_units=self.head_units,
            head_activation=self.head_activation,
            actor=None if self.actor is None else self.actor.make(dtype, name="actor"),
            normalize_observations=self.normalize_observations,
            merge_units=self.merge_units,
        )


def read(preset: str | Path, from_config: Callable[[Any, Path], Any]) -> Any:
    """What a function makes of a preset's configuration and file of weights.

    Raises:
        ValueError: If there is no such preset, or the function refuses it.
    """
    folder = find_preset(preset)
    path = folder / CONFIG
    config = read_json(path)
    try:
        return from_config(config, folder / WEIGHTS)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def as_read(config: dict[str, Any]) -> Any:
    """A configuration as it is read after it was written.

    Raises:
        ValueError: If JSON cannot hold it.
    """
    try:
        return json.loads(json.dumps(config))
    except TypeError as error:
        raise ValueError(
            f"Expected arguments that JSON can hold. Received: {error}"
        ) from error


def check_keys(config: Any, expected: set[str]) -> None:
    """Raises a ValueError if a configuration is of another format, or lacks a key."""
    version = config.get("format") if isinstance(config, dict) else config
    if type(version) is not int or version != FORMAT:
        raise ValueError(
            f"Expected a preset of format {FORMAT}, which version {__version__} "
            f"reads. Received: format={reprlib.repr(version)}"
        )
    missing = sorted(expected - set(config))
    if missing:
        raise ValueError(
            f"Expected {sorted(expected)} in the configuration of a preset. "
            f"Received: none of {missing}"
        )


def check_state(state_size: Any) -> None:
    """Raises a ValueError if a state is too large to be one."""
    size = sum(keras.tree.flatten(state_size))
    if size > MAX_STATE:
        raise ValueError(
            f"Expected a state of at most {MAX_STATE:,} numbers. Received: {size:,}"
        )


def check_buildable(preset: Any) -> None:
    """Raises a ValueError if a preset's weights cannot be counted."""
    try:
        number = preset.num_weights
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        raise ValueError(
            f"Expected a policy that can be built. Received: {error}"
        ) from error
    if number > MAX_NUMBERS:
        raise ValueError(
            f"Expected a policy of at most {MAX_NUMBERS:,} weights. "
            f"Received: {number:,}"
        )


def count_recurrent(
    features: int,
    memory: Part,
    action_space: gymnasium.Space[Any],
    head_units: int,
    head_activation: str,
    actor: Part | None = None,
) -> int:
    """Number of weights of a memory on so many features, and of the heads behind it."""
    width = memory.arguments["hidden_dim"]
    if actor:
        head = actor.count_weights(width)
    else:
        head = head_class(action_space).count_weights(
            width, action_space, head_units, head_activation
        )
    return memory.count_weights(features) + head + count_mlp(width, head_units, 1)


def load_policy(preset: Any, cls: Any, load_weights: bool, dtype: str | None) -> Any:
    """A policy of a preset with `weights`, `num_weights` and `build`: see `policy`."""
    if dtype is not None:
        check_dtype(dtype)
    if not load_weights:
        return preset.build(cls, dtype)
    if preset.weights is None:
        raise ValueError("Expected a preset with weights. Received: load_weights=True")
    received = count_numbers(preset.weights)
    if received != preset.num_weights:
        raise ValueError(
            f"Expected the {preset.num_weights:,} weights that the configuration "
            f"asks for. Received: {preset.weights} with {received:,}"
        )
    try:
        with without_draws():
            policy = preset.build(cls, dtype)
        policy.load_weights(preset.weights)
    except Exception as error:  # Keras and each backend raise their own
        raise ValueError(
            "Expected a policy that can be built, and its weights. Received: "
            f"{preset.weights}: {error}"
        ) from error
    return policy


def write(config: dict[str, Any], policy: Any, folder: Path) -> None:
    """Writes a configuration and the weights of its policy."""
    text = json.dumps(config, indent=2) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(text)
    policy.save_weights(folder / WEIGHTS)


def released_folder() -> Path:
    """Where the released policies are: in the wheel, or in a checkout beside it."""
    package = Path(__file__).parent.parent
    in_wheel = package / "zoo" / "data"
    return in_wheel if in_wheel.is_dir() else package.parent / "zoo"


def released_presets() -> list[str]:
    """Names of the released policies."""
    return sorted(path.parent.name for path in released_folder().glob(f"*/{CONFIG}"))


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
