import numpy as np

from keras_agalite.ops.dropout import Dropout
from tests.helpers import to_numpy


def noise(drop, rate=0.25, size=20_000):
    return to_numpy(drop(np.ones((size // 100, 100), "float32"), rate))


def test_numbers_become_zero_at_the_rate():
    drop = Dropout(7)
    first, second = noise(drop), noise(drop)

    for x in (first, second):
        assert set(np.unique(x)) == {np.float32(0.0), np.float32(1.0 / 0.75)}
        # Five standard deviations of the mean of 20,000 draws, 0.003 each.
        assert abs((x == 0.0).mean() - 0.25) < 0.015
    assert abs(((first == 0.0) & (second == 0.0)).mean() - 0.0625) < 0.01


def test_the_noise_follows_from_the_seed():
    same = noise(Dropout(7)), noise(Dropout(np.array(7, "int32")))
    np.testing.assert_array_equal(*same)
    for other in (8, -7, 7 + 2**31):
        assert (noise(Dropout(other)) != same[0]).any()
    np.testing.assert_array_equal(noise(Dropout(7 + 2**32)), same[0])


def test_every_backend_draws_the_same():
    kept = noise(Dropout(1), 0.5, 2_000).ravel() > 0

    plain = [is_kept(number, seed=1, rate=0.5) for number in range(2_000)]

    np.testing.assert_array_equal(kept, plain)


def is_kept(number, seed, rate):
    """The same in Python's integers."""

    def mixed(x):
        for bits, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            x = (x ^ (x >> bits)) * factor % 2**32
        return x ^ (x >> 16)

    key = mixed((seed + 0x9E3779B9) % 2**32)
    return mixed(mixed(number) ^ key) % 2**24 < (1.0 - rate) * 2**24
