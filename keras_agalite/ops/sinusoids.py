"""The sinusoidal encoding of positions."""

from typing import Any

import numpy as np
from keras import ops


def sinusoids(x: Any, dim: int) -> Any:
    """Sines, then cosines of a number, with `dim / 2` wavelengths.

    Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 3.5.

    Args:
        x: Tensor of floats of any shape.
        dim: Width of the encoding; an odd one has one cosine less.

    Returns:
        Tensor of shape `(*x.shape, dim)`.
    """
    rate = 1.0 / 10000.0 ** (np.arange(0.0, dim, 2.0) / dim)
    angle = x[..., None] * ops.convert_to_tensor(rate, x.dtype)
    return ops.concatenate([ops.sin(angle), ops.cos(angle)], axis=-1)[..., :dim]
