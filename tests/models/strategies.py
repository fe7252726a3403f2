"""Spaces and numbers that hypothesis draws, the same ones in every run."""

import numpy as np
from gymnasium import spaces
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

# No database, and no time limit: the machine may be busy.
few_examples = settings(max_examples=40, derandomize=True, deadline=None, database=None)
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, max_side=3)
STARTS = st.integers(-100, 100) | st.integers(1 - 2**31, 2**31 - 1)
CATEGORIES = st.integers(1, 9)


@st.composite
def boxes(draw):
    """Any Box: of a shape, a dtype, and bounds for each element or for all."""
    dtype = np.dtype(
        draw(
            st.sampled_from(["f2", "f4", "f8", "u1", "i1", "u2", "i2", "i4", "i8", "?"])
        )
    )
    shape = draw(SHAPES)
    if dtype.kind == "b":
        return spaces.Box(0, 1, shape, np.bool_)
    if dtype.kind == "f":
        width = 8 * dtype.itemsize
        low = st.floats(max_value=0.0, width=width)
        high = st.floats(min_value=0.0, width=width)
    else:
        limits = np.iinfo(dtype)
        low, high = st.integers(limits.min, 0), st.integers(1, limits.max)
    low, high = (draw(arrays.arrays(dtype, shape, elements=x)) for x in (low, high))
    return spaces.Box(low, high, shape, dtype.type)


@st.composite
def multi_discretes(draw):
    nvec = draw(
        arrays.arrays(
            np.int64,
            arrays.array_shapes(max_dims=2, max_side=3),
            elements=CATEGORIES,
        )
    )
    start = draw(arrays.arrays(np.int64, nvec.shape, elements=st.integers(-100, 100)))
    return spaces.MultiDiscrete(
        nvec, draw(st.sampled_from([np.int32, np.int64])), start=start
    )


DISCRETES = st.builds(
    lambda n, start: spaces.Discrete(n, start=start), CATEGORIES, STARTS
)
MULTI_BINARIES = st.builds(
    spaces.MultiBinary, CATEGORIES | st.lists(CATEGORIES, min_size=1, max_size=2)
)
# Without parts, and with them.
CATEGORICAL = DISCRETES | multi_discretes() | MULTI_BINARIES
PARTS = CATEGORICAL | boxes()
SPACES = st.recursive(
    PARTS,
    lambda part: (
        st.builds(
            spaces.Dict,
            st.dictionaries(st.text(max_size=5), part, min_size=1, max_size=3),
        )
        | st.builds(spaces.Tuple, st.lists(part, min_size=1, max_size=3))
    ),
    max_leaves=5,
)
