"""Writes `data/preset_small`, which every backend must read alike.

Run once, as `python -m tests.models.make_preset_small`; the files are committed.
"""

from pathlib import Path

import numpy as np
from gymnasium import spaces
from keras import tree

from keras_agalite.models import MemoryPolicy, ResNetEncoder
from tests.helpers import to_numpy
from tests.memories import tiny
from tests.models.conftest import NESTED, randomise

FOLDER = Path(__file__).parent / "data" / "preset_small"
RECORD = FOLDER / "record.npz"


def main():
    policy = MemoryPolicy(
        ResNetEncoder(NESTED, units=6, filters=(2,)),
        tiny("agalite", r=3),
        spaces.MultiDiscrete([2, 4]),
        head_units=8,
    )
    randomise(policy)
    policy.save_to_preset(FOLDER)
    flat = policy.sample_observation(2 * 7, seed=0)
    observations = tree.map_structure(lambda x: x.reshape(2, 7, *x.shape[1:]), flat)
    start = np.zeros((2, 7), bool)
    start[0, 3] = start[1, 0] = start[1, 5] = True
    out, state = policy(observations, None, start)
    actions, carried = [], policy.initial_state(2)
    noise = np.random.default_rng(0)
    for t in range(7):
        observation = tree.map_structure(lambda x, t=t: x[:, t], observations)
        action, carried = policy.act(observation, carried, start[:, t], seed=noise)
        actions.append(action)
    np.savez_compressed(
        RECORD,
        image=observations["view"]["image"],
        compass=observations["view"]["compass"],
        previous_action=observations["previous_action"],
        previous_reward=observations["previous_reward"],
        start=start,
        logits=to_numpy(out.logits),
        value=to_numpy(out.value),
        actions=np.stack(actions, 1),
        **{f"state_{i}": to_numpy(x) for i, x in enumerate(state)},
    )


if __name__ == "__main__":
    main()
