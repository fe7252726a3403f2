"""Scores of few training seeds, with their uncertainty.

Interquartile mean, stratified bootstrap and probability of improvement as in Agarwal et
al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS
2021. Their package, rliable 1.2.0, does not import beside the newest pandas (its
dependency arch 5 to 7 breaks with pandas 3), so the few formulas are here; the tests
hold them against what rliable gives beside pandas 2.3.

Scores are a list with one array a task, of one score a training seed: the seed is the
unit, however many episodes its score was measured with.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000
LEVEL = 0.95
Scores = Sequence[np.ndarray]


class Estimate(NamedTuple):
    """A number and its bootstrap interval."""

    value: float
    low: float
    high: float


def interquartile_mean(scores: Scores) -> float:
    """The mean of the middle half of all scores."""
    ordered = np.sort(np.concatenate(scores))
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def probability_of_improvement(ours: Scores, theirs: Scores) -> float:
    """How likely a seed of ours is better than one of theirs; a tie counts half."""
    chances = [
        np.mean((x[:, None] > y) + 0.5 * (x[:, None] == y))
        for x, y in zip(ours, theirs, strict=True)
    ]
    return float(np.mean(chances))


def estimate_mean(scores: Scores) -> Estimate:
    """The interquartile mean with its interval."""
    return _estimate(lambda drawn: interquartile_mean(drawn[0]), [scores])


def estimate_improvement(ours: Scores, theirs: Scores) -> Estimate:
    """The probability of improvement with its interval."""
    return _estimate(lambda drawn: probability_of_improvement(*drawn), [ours, theirs])


def _estimate(
    function: Callable[[list[Scores]], float], groups: list[Scores]
) -> Estimate:
    """A function of groups of scores, and percentiles of it over resamples.

    Seeds are drawn anew with replacement within each task: the strata.
    """
    random = np.random.default_rng(0)
    values = [
        function([[random.choice(x, len(x)) for x in scores] for scores in groups])
        for _ in range(RESAMPLES)
    ]
    outside = 100.0 * (1.0 - LEVEL) / 2.0
    low, high = np.percentile(values, [outside, 100.0 - outside])
    return Estimate(function(groups), float(low), float(high))


def band(rows: np.ndarray, resamples: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap interval of the mean over rows, at each column."""
    random = np.random.default_rng(0)
    drawn = random.integers(len(rows), size=(resamples, len(rows)))
    means = rows[drawn].mean(axis=1)
    outside = 100.0 * (1.0 - LEVEL) / 2.0
    low, high = np.percentile(means, [outside, 100.0 - outside], axis=0)
    return low, high
