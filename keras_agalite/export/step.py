"""One step of a policy with its state as inputs and outputs, all by name."""

import importlib
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops, tree

from keras_agalite._version import __version__
from keras_agalite.export.formats import DESCRIPTION, FORMATS
from keras_agalite.models.base import Policy
from keras_agalite.models.spaces import leaves, space_to_config


class Tensor(NamedTuple):
    """A named input or output; its shape is that of one environment."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class Step:
    """One step of a policy, from a dict of tensors to a dict of tensors.

    Args:
        policy: A float32 policy.

    Call arguments:
        inputs: Dict of tensors `(batch, ...)`, as `inputs` describes them:
            `observation`, or `observation_KEY` for each part of a Dict; `start`, the
            booleans of the first observations of an episode; and `state_0`, ...,
            which begin as zeros.

    Returns:
        Dict of `action` (the most likely one, as the environment takes it),
        `logits` (the parameters of the action distribution), `value` (of a policy with
        a critic) and `next_state_0`, .... A target return is the policy's own.

    Raises:
        ValueError: If the policy is not float32, or two parts of the observation
            would have one name.
    """

    def __init__(self, policy: Policy) -> None:
        parts: list[Any] = [policy.encoder, getattr(policy, "memory", policy)]
        for part in parts:
            if part.dtype_policy.name != "float32":
                raise ValueError(
                    "Expected a policy of dtype float32, which every format holds. "
                    f"Received: {type(part).__name__} of {part.dtype_policy.name}"
                )
        self.policy = policy
        self.example = policy.sample_observation(1, seed=0)
        self.observations = [
            Tensor(_name(path), tuple(space.shape), np.dtype(space.dtype).name)
            for path, space in leaves(policy.observation_space)
        ]
        names = [x.name for x in self.observations]
        if len(set(names)) < len(names):
            raise ValueError(
                "Expected an observation space whose keys stay different in names of "
                f"letters, digits and underscores. Received: {names}"
            )
        self.states = [
            Tensor(f"state_{i}", (size,), "float32")
            for i, size in enumerate(tree.flatten(policy.state_size))
        ]
        self.inputs = [*self.observations, Tensor("start", (), "bool"), *self.states]

    def __call__(self, inputs: dict[str, Any]) -> dict[str, Any]:
        now = {name: ops.expand_dims(x, 1) for name, x in inputs.items()}
        observation = tree.pack_sequence_as(
            self.example, [now[x.name] for x in self.observations]
        )
        state = tree.pack_sequence_as(
            self.policy.state_size, [inputs[x.name] for x in self.states]
        )
        out, state = self.policy(observation, state, now["start"])
        logits = out.logits[:, 0]
        action = self.policy.actor.mode(logits)
        new = {
            f"next_{x.name}": y
            for x, y in zip(self.states, tree.flatten(state), strict=True)
        }
        value = {} if out.value is None else {"value": out.value[:, 0]}
        return {"action": action, "logits": logits, **value, **new}

    def sample(self, batch_size: int) -> dict[str, np.ndarray]:
        """Inputs of the right shapes: random observations, empty memories."""
        observation = self.policy.sample_observation(batch_size, seed=0)
        arrays = {
            x.name: np.zeros((batch_size, *x.shape), x.dtype) for x in self.inputs
        }
        names = [x.name for x in self.observations]
        return {**arrays, **dict(zip(names, tree.flatten(observation), strict=True))}


def _name(path: tuple[Any, ...]) -> str:
    return "_".join(["observation", *(re.sub(r"\W", "_", str(key)) for key in path)])


def write(policy: Policy, folder: Path, format: str) -> None:
    """Writes the program and `export.json` into a new folder.

    This runs on the backend that owns the format.

    Raises:
        ValueError: If the policy cannot be exported.
    """
    step = Step(policy)
    owner = importlib.import_module(f"keras_agalite.export._{keras.backend.backend()}")
    folder.mkdir(parents=True)
    file = FORMATS[format].file
    outputs = owner.WRITERS[format](step, folder / file)
    description = {
        "format": format,
        "file": file,
        "keras_agalite": __version__,
        "inputs": [_describe(x) for x in step.inputs],
        "outputs": [_describe(x) for x in outputs],
        "next_state": {x.name: f"next_{x.name}" for x in step.states},
        "empty_state": "zeros",
        "observation_space": space_to_config(policy.observation_space),
        "action_space": space_to_config(policy.action_space),
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")


def _describe(x: Tensor) -> dict[str, Any]:
    return {"name": x.name, "shape": ["batch", *x.shape], "dtype": x.dtype}
