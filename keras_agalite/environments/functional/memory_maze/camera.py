"""The camera: what never changes from one image to the next.

It sits 0.15 m ahead of the ball's axis, 0.9 m high, looks 5.71 degrees down and never
rolls. So where a pixel looks, relative to the walker's heading, is a constant.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

SIZE = 64
BORDER = 2
AHEAD = 0.15
HEIGHT = 0.9
COS, SIN = 10 / math.sqrt(101), 1 / math.sqrt(101)  # pitch: down by atan(1 / 10)
HALF = math.tan(math.radians(40))  # half of the field of view, 80 degrees
SKY = (102, 153, 204)
RAYS_PER_PIXEL = 4


# Where in a pixel its rays are, from its left and its top.
PLACES = {
    1: ((0.5, 0.5),),
    2: ((0.25, 0.25), (0.75, 0.75)),
    4: ((0.375, 0.125), (0.875, 0.375), (0.125, 0.625), (0.625, 0.875)),
}


class View(NamedTuple):
    """One ray for each pixel inside the border, row by row: `(3600,)`, float32.

    A ray is `ahead * heading + right * (heading's right) + up * z`; its length along
    the camera's axis is 1.

    Attributes:
        ahead: See above.
        right: See above.
        up: See above.
        squared: Squared length of the ray.
        length: Its root.
        slant: right / ahead: the azimuth, as rays on the ground are numbered by.
        column: Which of the ground's rays shares this azimuth, int32.
        sky: Brightness of the sky there.
    """

    ahead: np.ndarray
    right: np.ndarray
    up: np.ndarray
    squared: np.ndarray
    length: np.ndarray
    slant: np.ndarray
    column: np.ndarray
    sky: np.ndarray


INNER = SIZE - 2 * BORDER
NUM_RAYS = RAYS_PER_PIXEL * INNER
# The largest slant: a lower corner of the image.
SLANT = HALF * (1 - 2 * BORDER / SIZE) / (COS - HALF * (1 - 2 * BORDER / SIZE) * SIN)
RAYS = (SLANT * (2 * (np.arange(NUM_RAYS) + 0.5) / NUM_RAYS - 1)).astype(np.float32)


@functools.cache
def make_views(samples: int) -> tuple[View, ...]:
    """Views with one ray for each pixel, that together are all its `samples` rays."""
    return tuple(_make_view(*place) for place in PLACES[samples])


def _make_view(to_right: float, down: float) -> View:
    pixel = np.arange(INNER) + BORDER
    right = HALF * (2 * (pixel + to_right) / SIZE - 1)
    b = HALF * (1 - 2 * (pixel[:, None] + down) / SIZE)
    ahead, up, right = np.broadcast_arrays(COS + b * SIN, -SIN + b * COS, right)
    slant = right / ahead
    column = np.floor((slant / SLANT + 1) / 2 * NUM_RAYS).astype(np.int32)
    squared = ahead**2 + right**2 + up**2
    sky = 0.5 + 0.4386 * up / np.sqrt(squared)
    parts = [ahead, right, up, squared, np.sqrt(squared), slant, column, sky]
    flat = [x.ravel() for x in parts]
    return View(*(x if x is flat[6] else x.astype(np.float32) for x in flat))
