"""Presets of the policies that learn from recordings, and of any policy at all."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, TypeVar

import gymnasium

from keras_agalite._version import __version__
from keras_agalite.layers.catalog import MEMORIES
from keras_agalite.models.base import Policy
from keras_agalite.models.catalog import ENCODERS, OFFLINE_POLICIES
from keras_agalite.models.normalization import ObservationNormalizer
from keras_agalite.models.offline.recurrent import ReturnConditionedPolicy
from keras_agalite.models.policy import MemoryPolicy
from keras_agalite.presets.config import FORMAT, Part
from keras_agalite.presets.preset import (
    NORMALIZE,
    Preset,
    as_read,
    check_buildable,
    check_keys,
    check_state,
    count_recurrent,
    load_policy,
    read,
    write,
)
from keras_agalite.previous import previous_space

AnyPolicy = TypeVar("AnyPolicy", bound=Policy)


@dataclasses.dataclass(frozen=True)
class OfflinePreset:
    """A policy for recordings that was read and checked, of which nothing is built.

    Attributes:
        part: Its class and the plain arguments.
        encoder: Its encoder.
        memory: Its memory, of a `ReturnConditionedPolicy`.
        weights: File with its weights, if there is one.
    """

    part: Part
    encoder: Part
    memory: Part | None = None
    weights: Path | None = None

    @classmethod
    def from_config(cls, config: Any, weights: Path | None = None) -> "OfflinePreset":
        """Checks a configuration: see `Preset.from_config`."""
        check_keys(config, {"policy", "encoder"})
        part = Part.from_config(config["policy"], OFFLINE_POLICIES.values(), "policy")
        encoder = Part.from_config(config["encoder"], ENCODERS.values(), "encoder")
        memory = None
        if part.cls is ReturnConditionedPolicy:
            check_keys(config, {"memory"})
            memory = Part.from_config(config["memory"], MEMORIES.values(), "memory")
        preset = cls(part, encoder, memory, weights)
        check_buildable(preset)
        return preset

    @classmethod
    def of(cls, policy: Policy) -> "OfflinePreset":
        """The preset of a policy, without its weights: see `Preset.of`."""
        check_state(policy.state_size)
        part = Part.of(policy, OFFLINE_POLICIES.values(), "policy")
        preset = cls(
            part,
            Part.of(policy.encoder, ENCODERS.values(), "encoder"),
            Part.of(policy.memory, MEMORIES.values(), "memory")
            if isinstance(policy, MemoryPolicy)
            else None,
        )
        return cls.from_config(as_read(preset.to_config()))

    @property
    def kind(self) -> str:
        """Short name of its memory, or else of its class."""
        name: str = (self.memory or self.part).cls.short_name
        return name

    @property
    def action_space(self) -> gymnasium.Space[Any]:
        """What the policy does."""
        space: gymnasium.Space[Any] = self.part.arguments["action_space"]
        return space

    @property
    def observation_space(self) -> gymnasium.Space[Any]:
        """What the policy sees."""
        space: gymnasium.Space[Any] = self.encoder.arguments["observation_space"]
        return space if self.memory else previous_space(space, self.action_space)

    @functools.cached_property
    def num_weights(self) -> int:
        """Number of weights of the policy, which is not built for it."""
        features = self.encoder.cls.count_features(**self.encoder.arguments)
        weights = self.encoder.count_weights()
        if self.memory is None:
            return weights + self.part.count_weights(features)
        arguments = self.part.arguments
        if arguments[NORMALIZE]:
            weights += ObservationNormalizer.count_weights(self.observation_space)
        return weights + count_recurrent(
            features + 1,
            self.memory,
            *(arguments[k] for k in ("action_space", "head_units", "head_activation")),
        )

    def to_config(self) -> dict[str, Any]:
        """The configuration in JSON's types."""
        config = {
            "format": FORMAT,
            "keras_agalite": __version__,
            "policy": self.part.to_config(),
            "encoder": self.encoder.to_config(),
        }
        return {**config, "memory": self.memory.to_config()} if self.memory else config

    def policy(
        self,
        cls: type[Policy] | None = None,
        load_weights: bool = True,
        dtype: str | None = None,
    ) -> Policy:
        """Builds the policy: see `Preset.policy`; the preset names its class."""
        policy: Policy = load_policy(self, cls or self.part.cls, load_weights, dtype)
        return policy

    def build(self, cls: type[Any], dtype: str | None) -> Any:
        """The policy with fresh weights."""
        parts = [self.encoder.make(dtype)]
        if self.memory:
            parts.append(self.memory.make(dtype))
            check_state(parts[-1].state_size)
        policy = cls(*parts, **self.part.arguments, dtype=dtype or self.part.dtype)
        check_state(policy.state_size)
        return policy


def find_any(preset: str | Path) -> Preset | OfflinePreset:
    """Reads and checks a preset of any class: see `Preset.find`."""

    def from_config(config: Any, weights: Path) -> Preset | OfflinePreset:
        is_offline = isinstance(config, dict) and "policy" in config
        kind = OfflinePreset if is_offline else Preset
        return kind.from_config(config, weights)

    found: Preset | OfflinePreset = read(preset, from_config)
    return found


def find_policy(
    cls: type[AnyPolicy], preset: str | Path, load_weights: bool, dtype: str | None
) -> AnyPolicy:
    """See `Policy.from_preset`."""
    found = find_any(preset)
    own = found.part.cls if isinstance(found, OfflinePreset) else MemoryPolicy
    is_offline = issubclass(cls, tuple(OFFLINE_POLICIES.values()))
    if issubclass(cls, own) and (own is not MemoryPolicy or not is_offline):
        own = cls
    elif cls not in (Policy, MemoryPolicy):
        raise ValueError(
            f"Expected a preset of {cls.__name__}. Received: {str(preset)!r}, a preset "
            f"of {own.__name__}"
        )
    policy: AnyPolicy = found.policy(own, load_weights, dtype)
    return policy


def save_preset(policy: Policy, folder: Path) -> None:
    """See `Policy.save_to_preset`."""
    offline = tuple(OFFLINE_POLICIES.values())
    kind = OfflinePreset if isinstance(policy, offline) else Preset
    write(kind.of(policy).to_config(), policy, folder)
