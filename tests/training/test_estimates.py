"""Interquartile means and intervals, against rliable's own numbers."""

import numpy as np
import pytest

from training.analysis.estimates import (
    band,
    estimate_improvement,
    estimate_mean,
    interquartile_mean,
    probability_of_improvement,
)

# Seeds by tasks, and what rliable 1.2.0 beside pandas 2.3.3 says of them, with 50,000
# resamples of its stratified bootstrap.
X = [[0.09, 0.24], [0.8, 0.58], [0.09, 0.43], [0.48, 0.16], [0.73, 0.11]]
Y = [[0.09, 0.41], [0.34, 0.47], [0.59, 0.77], [0.23, 0.52], [0.56, 0.23], [0.0, 0.78]]
RLIABLE = {
    "x": (0.3333333333, 0.14166667, 0.55666667),
    "y": 0.4216666667,
    "better": (0.4333333333, 0.2, 0.66666667),
}


def tasks(rows):
    return list(np.array(rows).T)


def test_estimates_are_those_of_rliable():
    assert interquartile_mean(tasks(Y)) == pytest.approx(RLIABLE["y"])
    found = estimate_mean(tasks(X))
    assert found.value == pytest.approx(RLIABLE["x"][0])
    # Intervals are random: those of two programs differ a little.
    assert found[1:] == pytest.approx(RLIABLE["x"][1:], abs=0.02)
    found = estimate_improvement(tasks(X), tasks(Y))
    assert found.value == pytest.approx(RLIABLE["better"][0])
    assert found[1:] == pytest.approx(RLIABLE["better"][1:], abs=0.02)


def test_ties_count_half():
    same = [np.array([1.0, 1.0])]
    assert probability_of_improvement(same, same) == 0.5
    assert probability_of_improvement([np.array([2.0])], same) == 1.0


def test_tasks_may_have_different_numbers_of_seeds():
    scores = [np.array([0.0, 1.0, 2.0, 3.0]), np.array([10.0])]
    assert interquartile_mean(scores) == pytest.approx(2.0)
    found = estimate_mean(scores)
    assert found.low < found.value < found.high


def test_a_band_narrows_with_the_number_of_rows():
    random = np.random.default_rng(0)
    few, many = (band(random.normal(size=(n, 50))) for n in (4, 64))
    assert (few[1] - few[0]).mean() > 2 * (many[1] - many[0]).mean()
