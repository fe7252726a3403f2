"""A recipe: all that a training run depends on, read from a TOML file.

Importing this does not import Keras: workers do it, and Keras reads its backend, which
the recipe's engine decides, when it is imported. Reading a recipe that names a policy
of the zoo does import Keras.
"""

import dataclasses
import datetime
import json
import math
import re
import tomllib
from pathlib import Path
from typing import Any

# Name -> the backend it runs on; None for any.
ENGINES = {"tf_agents": "tensorflow", "jax": "jax", "offline": None}
VECTORIZATION_MODES = ("sync", "async")
# Which weights of an initial preset are trained.
FINE_TUNING = ("full", "heads", "sherl", "lora")
# Seeds go to NumPy, to JAX and to environments; counts into arrays' shapes.
MAX_SEED = 2**32 - 1
MAX_COUNT = 2**31 - 1
MAX_STEPS = 2**63 - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """The keys of a recipe; docs/training.md explains each.

    Which encoders and memories there are is asked when the policy is made.

    Raises:
        ValueError: If a value is impossible; the message names the key.
    """

    name: str
    environment: str
    total_steps: int
    environment_arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    previous_action_reward: bool = False
    normalize_observations: bool = False
    scale_rewards: bool = False
    engine: str = "tf_agents"
    jit_compile: bool = True
    seed: int = 0

    encoder: str = "mlp"
    encoder_arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    memory: str = "agalite"
    memory_arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    initial_preset: str = ""
    fine_tune: str = "full"
    fine_tune_units: int = 16
    head_units: int = 128
    head_activation: str = "tanh"

    num_environments: int = 32
    vectorization_mode: str = "sync"
    worker_restarts: int = 3
    worker_timeout: float = 600.0
    stagger_episodes: bool = False
    sequence_length: int = 64
    num_epochs: int = 4
    num_minibatches: int = 4
    learning_rate: float = 1e-3
    anneal_learning_rate: bool = False
    adam_epsilon: float = 1e-5
    discount: float = 0.99
    gae_lambda: float = 0.95
    clip_epsilon: float = 0.2
    entropy_coefficient: float = 0.01
    value_coefficient: float = 0.25
    policy_coefficient: float = 1.0
    teacher_coefficient: float = 0.0
    teacher_share: float = 0.0
    anneal_teacher: bool = False
    auxiliary_coefficient: float = 0.0
    max_gradient_norm: float = 0.5

    recordings: str = ""
    policy_arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    batch_size: int = 32
    batches_per_iteration: int = 50
    warmup_batches: int = 0
    weight_decay: float = 0.0
    cross_heads: float = 0.0
    skip_blocks: float = 0.0
    skip_share: float = 0.5

    checkpoint_interval: int = 50_000
    checkpoints_kept: int = 3
    evaluation_episodes: int = 200
    evaluation_seed: int = 1_000_000
    validation_interval: int = 0
    validation_episodes: int = 50
    validation_seed: int = 2_000_000

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            self._check_type(field.name, field.type)
        # The run's folder is called so.
        is_name = self.name == Path(self.name).name and "\0" not in self.name
        self._check("name", is_name and self.name not in ("", ".."), "no path")
        one_of = {
            "engine": ENGINES,
            "vectorization_mode": VECTORIZATION_MODES,
            "fine_tune": FINE_TUNING,
        }
        for key, allowed in one_of.items():
            self._check(key, getattr(self, key) in allowed, f"one of {list(allowed)}")
        positive = (
            "total_steps head_units num_environments sequence_length num_epochs "
            "num_minibatches learning_rate adam_epsilon clip_epsilon "
            "max_gradient_norm checkpoint_interval checkpoints_kept "
            "evaluation_episodes validation_episodes worker_timeout batch_size "
            "batches_per_iteration fine_tune_units"
        )
        for key in positive.split():
            self._check(key, getattr(self, key) > 0, "greater than 0")
        not_negative = (
            "seed evaluation_seed validation_interval validation_seed "
            "entropy_coefficient value_coefficient policy_coefficient "
            "teacher_coefficient auxiliary_coefficient worker_restarts "
            "warmup_batches weight_decay"
        )
        for key in not_negative.split():
            self._check(key, getattr(self, key) >= 0, "0 or greater")
        self._check(
            "recordings",
            bool(self.recordings) == self.is_offline,
            'a folder with the engine "offline", and empty with another',
        )
        self._check(
            "normalize_observations",
            not (self.normalize_observations and self.is_offline),
            'false with the engine "offline", which counts no observations',
        )
        self._check(
            "scale_rewards",
            not (self.scale_rewards and self.is_offline),
            'false with the engine "offline", which learns from no rewards',
        )
        self._check(
            "fine_tune",
            self.fine_tune == "full" or bool(self.initial_preset),
            '"full" without an initial_preset',
        )
        if not self.environment:
            self._check("engine", self.is_offline, '"offline" without an environment')
            expected = "0 without an environment"
            self._check("validation_interval", self.validation_interval == 0, expected)
        if self.is_taught or self.policy_coefficient != 1.0:
            expected = (
                '"jax" with a teacher, an auxiliary_coefficient or a policy_coefficient'
            )
            self._check("engine", self.engine == "jax", expected)
        self._check(
            "stagger_episodes",
            not self.stagger_episodes or self.engine == "jax",
            'false where `engine` is not "jax"',
        )
        self._check(
            "teacher_share",
            self.teacher_share == 0 or self.teacher_coefficient > 0,
            "0 where teacher_coefficient is 0",
        )
        shares = "discount gae_lambda teacher_share cross_heads skip_blocks skip_share"
        for key in shares.split():
            self._check(key, 0 <= getattr(self, key) <= 1, "between 0 and 1")
        for key in ("cross_heads", "skip_blocks"):
            self._check(
                key,
                self.is_offline or getattr(self, key) == 0,
                '0 where `engine` is not "offline": PPO compares probabilities of its '
                "rollout with those of its update, which must be one network",
            )
        for key, limit in self._limits().items():
            self._check(key, getattr(self, key) <= limit, f"at most {limit}")
        self._check("sequence_length", self.sequence_length > 1, "greater than 1")
        apart = (
            self.validation_seed >= self.evaluation_seed + self.evaluation_episodes
            or self.evaluation_seed >= self.validation_seed + self.validation_episodes
        )
        self._check(
            "validation_seed",
            apart or not self.validation_interval,
            "such that no episode of the evaluation is one of the validation: a seed "
            "that chooses a policy must not score it",
        )
        self._check(
            "num_minibatches",
            self.num_environments % self.num_minibatches == 0,
            "a divisor of num_environments: a minibatch holds whole sequences",
        )

    def _check_type(self, key: str, expected: Any) -> None:
        value = getattr(self, key)
        kind = dict if expected not in (str, int, float, bool) else expected
        if kind is float and type(value) is int and value.bit_length() < 1023:
            value = float(value)
            object.__setattr__(self, key, value)
        fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        self._check(key, fits, {dict: "a table"}.get(kind, f"of type {kind.__name__}"))
        if kind is float and key != "worker_timeout":  # which may wait for ever
            self._check(key, math.isfinite(value), "finite")

    def _limits(self) -> dict[str, int]:
        """The greatest value of each whole number."""
        steps = ("total_steps", "checkpoint_interval", "validation_interval")
        whole = [f.name for f in dataclasses.fields(self) if f.type is int]
        return {
            **{key: MAX_STEPS if key in steps else MAX_COUNT for key in whole},
            "seed": MAX_SEED,
            # Each episode has a seed of its own.
            "evaluation_seed": MAX_SEED + 1 - self.evaluation_episodes,
            "validation_seed": MAX_SEED + 1 - self.validation_episodes,
        }

    def _check(self, key: str, fits: bool, expected: str) -> None:
        if not fits:
            raise ValueError(
                f"`{key}` must be {expected}. Received: {key}={getattr(self, key)!r}"
            )

    @property
    def is_offline(self) -> bool:
        """Whether recordings are learnt from."""
        return self.engine == "offline"

    @property
    def steps_per_iteration(self) -> int:
        if self.is_offline:
            return self.batches_per_iteration * self.batch_size * self.sequence_length
        return self.num_environments * self.sequence_length

    @property
    def is_taught(self) -> bool:
        """Whether a teacher is asked what to do, or what it knows."""
        return self.teacher_coefficient > 0 or self.auxiliary_coefficient > 0

    def to_toml(self) -> str:
        """The recipe as TOML, every key written out."""
        plain, tables = [], []
        for key, value in dataclasses.asdict(self).items():
            if isinstance(value, dict):
                tables.append("\n".join([f"\n[{key}]", *_lines(value)]))
            else:
                plain.append(f"{key} = {to_toml_value(value)}")
        return "\n".join([*plain, *tables]) + "\n"


def to_toml_value(value: Any) -> str:
    """A value as TOML writes it."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            # JSON's escapes are TOML's, which asks for one more.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list() | tuple():
            return "[" + ", ".join(to_toml_value(v) for v in value) + "]"
        case dict():
            return "{" + ", ".join(_lines(value)) + "}"
        case datetime.date() | datetime.time():
            return value.isoformat()
    return repr(value)


def _lines(table: dict[str, Any]) -> list[str]:
    bare = re.compile(r"[A-Za-z0-9_-]+")
    return [
        f"{key if bare.fullmatch(key) else to_toml_value(key)} = {to_toml_value(value)}"
        for key, value in table.items()
    ]


def load_recipe(path: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Reads a recipe.

    The key `policy` names a policy of the zoo, which gives the environment, the
    encoder, the memory, the heads and their arguments. What the recipe says itself
    wins: a table key by key, unless it belongs to another environment, encoder or
    memory than the zoo's.

    Args:
        path: A TOML file. Without the key `name`, the file's name is the recipe's.
        overrides: Texts `key=value`; the value is TOML, or a plain string. A dot
            reaches into a table: `environment_arguments.corridor_length=20`.

    Raises:
        ValueError: If the file is no TOML, a key is unknown or missing, a value
            impossible, or no policy of the zoo has the name.
    """
    values = read_values(path, overrides)
    if (policy := values.pop("policy", None)) is not None:
        values = {**values, **_complete(values, policy)}
    fields = {field.name: field for field in dataclasses.fields(Recipe)}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ValueError(
            f"Unknown key in the recipe {path}. Received: {', '.join(unknown)}; the "
            f"keys are policy, {', '.join(fields)}"
        )
    required = {k for k, f in fields.items() if _has_no_default(f)}
    missing = sorted(required - set(values))
    if missing:
        raise ValueError(f"The recipe {path} must have the keys {', '.join(missing)}")
    return Recipe(**values)


def read_values(path: str | Path, overrides: list[str] | None = None) -> dict[str, Any]:
    """The keys of a recipe as they are written, with `overrides` and its name.

    Raises:
        ValueError: If the file is no TOML, or an override no `key=value`.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"Expected a recipe file. Received: {path}")
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"Expected TOML in {path}. Received: {error}") from error
    for text in overrides or []:
        _override(values, text)
    return {"name": path.stem, **values}


def _complete(values: dict[str, Any], policy: Any) -> dict[str, Any]:
    """What a policy of the zoo gives to a recipe, under what the recipe says."""
    from keras_agalite.zoo.specs import find_spec

    memory = values.get("memory", Recipe.memory)
    for key, name in (("policy", policy), ("memory", memory)):
        if not isinstance(name, str):
            raise ValueError(f"`{key}` must be of type str. Received: {key}={name!r}")
    spec = find_spec(policy)
    keys = (
        "environment",
        "environment_arguments",
        "previous_action_reward",
        "normalize_observations",
        "encoder",
        "encoder_arguments",
        "head_units",
        "head_activation",
    )
    given = {key: getattr(spec, key) for key in keys}
    given |= {"memory": memory, "memory_arguments": spec.memory_arguments(memory)}
    for part in ("environment", "encoder"):
        if values.get(part, given[part]) != given[part]:
            del given[f"{part}_arguments"]
    for key, value in given.items():
        own = values.get(key, {} if isinstance(value, dict) else value)
        both = isinstance(value, dict) and isinstance(own, dict)
        given[key] = {**value, **own} if both else own
    return given


def _has_no_default(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _override(values: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"Expected --set key=value. Received: --set {text}")
    *tables, last = key.strip().split(".")
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise ValueError(f"Expected a table for `{table}`. Received: --set {text}")
    try:
        values[last] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        values[last] = value.strip()
