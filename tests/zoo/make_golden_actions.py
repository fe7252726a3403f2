"""Writes `data/golden_actions.json`: what each released policy does, step by step.

Run once, as `python -m tests.zoo.make_golden_actions [NAME ...]`, for the presets
that have no record yet or that are named; the file is committed. A released policy
acts alike for ever: a record changes only with the preset itself.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
from gymnasium import spaces

from keras_agalite import MemoryPolicy, zoo

FILE = Path(__file__).parent / "data" / "golden_actions.json"
BATCH, TIME = 3, 20
RELEASED = [policy.name for policy in zoo.list_policies() if policy.score]


def draw(space, random, categories):
    """Observations of TIME steps of BATCH environments."""
    shape = (TIME, BATCH, *(space.shape or ()))
    if isinstance(space, spaces.Dict):
        return {key: draw(x, random, categories) for key, x in space.items()}
    if isinstance(space, spaces.Discrete):
        return random.integers(space.start, space.start + space.n, shape)
    if isinstance(space, spaces.MultiDiscrete):
        return random.integers(space.start, space.start + space.nvec, shape)
    if space.dtype == np.uint8:  # a grid of categories, or an image
        return random.integers(0, categories, shape, np.uint8)
    low, high = (np.nan_to_num(x, posinf=1, neginf=-1) for x in (space.low, space.high))
    return random.uniform(low, high, shape).round()


def play(name):
    """Acts on observations that only NumPy and the space determine."""
    policy = MemoryPolicy.from_preset(name)
    space, random = policy.observation_space, np.random.default_rng(0)
    categories = getattr(policy.encoder, "categories", 256)
    observations = draw(space, random, categories)
    start = np.zeros((TIME, BATCH), bool)
    start[0] = start[7, 0] = start[12, 1] = start[13, 1] = True
    noise, state = np.random.default_rng(1), policy.initial_state(BATCH)
    greedy, sampled = [], []
    for i, first in enumerate(start):
        observation = keras.tree.map_structure(lambda x, i=i: x[i], observations)
        logits, _, _ = policy.step(observation, state, first)
        action, _ = policy.act(observation, state, first, deterministic=True)
        greedy.append(action)
        action, state = policy.act(observation, state, first, seed=noise)
        sampled.append(action)
    return {
        "greedy": np.stack(greedy, 1).tolist(),
        "sampled": np.stack(sampled, 1).tolist(),
        "logits": logits.astype(float).round(5).tolist(),
    }


def main(names):
    records = json.loads(FILE.read_text()) if FILE.exists() else {}
    names = names or [name for name in RELEASED if name not in records]
    records |= {name: play(name) for name in names}
    lines = [f'"{name}": {json.dumps(records[name])}' for name in sorted(records)]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
