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
from typing import Any, NamedTuple

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


def estimate_mean(scores: Scores, resamples: int = RESAMPLES) -> Estimate:
    """The interquartile mean with its interval."""
    return _estimate(lambda drawn: interquartile_mean(drawn[0]), [scores], resamples)


def estimate_improvement(
    ours: Scores, theirs: Scores, resamples: int = RESAMPLES
) -> Estimate:
    """The probability of improvement with its interval."""
    groups = [ours, theirs]
    return _estimate(lambda x: probability_of_improvement(*x), groups, resamples)


def interval(
    draw: Callable[[np.random.Generator], Any], resamples: int = RESAMPLES
) -> tuple[Any, Any]:
    """The bootstrap interval of a statistic: percentiles of it over resamples.

    Args:
        draw: Resamples with a generator, and gives the statistic: a number or an array.
        resamples: How often.

    Returns:
        `(low, high)`, of the statistic's shape.
    """
    rng = np.random.default_rng(0)
    values = [draw(rng) for _ in range(resamples)]
    outside = 100.0 * (1.0 - LEVEL) / 2.0
    low, high = np.percentile(values, [outside, 100.0 - outside], axis=0)
    return low, high


def mean_interval(table: np.ndarray) -> list[float]:
    """The interval of a mean over episodes, or over seeds and episodes of each.

    Args:
        table: Scores of shape `(episodes,)` or `(seeds, episodes)`.
    """
    table = np.atleast_2d(table)
    seeds, episodes = table.shape

    def draw(rng: np.random.Generator) -> Any:
        rows = rng.integers(seeds, size=(seeds, 1))
        columns = rng.integers(episodes, size=(seeds, episodes))
        return table[rows, columns].mean()

    return [round(float(limit), 4) for limit in interval(draw)]


def band(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The interval of the mean over rows, at each column."""
    number = len(rows)
    return interval(
        lambda rng: rows[rng.integers(number, size=number)].mean(axis=0), 1000
    )


def _estimate(
    function: Callable[[list[Scores]], float], groups: list[Scores], resamples: int
) -> Estimate:
    """A function of groups of scores, with its interval.

    Seeds are drawn with replacement within each task: the strata.
    """

    def draw(rng: np.random.Generator) -> float:
        return function([[rng.choice(x, len(x)) for x in scores] for scores in groups])

    low, high = interval(draw, resamples)
    return Estimate(function(groups), float(low), float(high))
