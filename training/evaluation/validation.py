"""Choosing among the policies of a run, by episodes that are no policy's score."""

from typing import Any, NamedTuple

import numpy as np

from keras_agalite import MemoryPolicy
from training.evaluation.evaluate import evaluate_recipe, score
from training.recipe import Recipe

SCORES = ("success_rate", "mean_return", "mean_length")
PREFIX = "best/"


class Best(NamedTuple):
    """The best policy of a run so far.

    Attributes:
        step: Environment steps that it was trained for.
        scores: Its means over the episodes of the validation, by name.
        weights: As `MemoryPolicy.get_weights` gives them.
    """

    step: int
    scores: dict[str, float]
    weights: list[np.ndarray]


class Validation:
    """Plays a run's policy now and then, and keeps the best one.

    Episode i has the seed `validation_seed + i` and the most likely actions. A policy
    that is as good as the best one replaces it: it has learnt for longer.

    Args:
        recipe: Says where, how often, how many episodes, and their seeds. With a
            `validation_interval` of 0 nothing is ever due.

    Attributes:
        best: The best policy; None before the first validation.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.best: Best | None = None

    def is_due(self, before: int, step: int) -> bool:
        """Whether an iteration ends an interval, or the run.

        Args:
            before: Environment steps done before the iteration.
            step: Those done with it.
        """
        interval = self.recipe.validation_interval
        if not interval:
            return False
        return step // interval > before // interval or step >= self.recipe.total_steps

    def run(self, policy: MemoryPolicy, step: int) -> dict[str, float]:
        """Plays the policy, and keeps its weights if they are the best so far.

        Args:
            policy: The policy, with the weights of now.
            step: Environment steps done.

        Returns:
            `validation_mean_return`, `validation_mean_length` and, where the
            environment reports success, `validation_success_rate`.
        """
        scores = self.play(policy)
        if self.best is None or score(scores) >= score(self.best.scores):
            self.best = Best(step, scores, policy.get_weights())
        return {f"validation_{name}": value for name, value in scores.items()}

    def play(self, policy: MemoryPolicy, sampled: bool = False) -> dict[str, float]:
        """The means over the episodes of the validation, by name."""
        recipe = self.recipe
        result = evaluate_recipe(
            policy, recipe, recipe.validation_episodes, recipe.validation_seed, sampled
        )
        return {name: result[name] for name in SCORES if name in result}

    def choose(self, policy: MemoryPolicy) -> dict[str, Any]:
        """Gives a policy the best weights, and says how it acts best.

        Args:
            policy: The policy of the run, after its first validation.

        Returns:
            What evaluation.json says of the choice: `step`, the scores, `actions`
            ("greedy", or "sampled" where the same episodes went better so),
            `episodes`, `seed` and `interval`.
        """
        if self.best is None:
            raise RuntimeError("choose() must follow a validation.")
        policy.set_weights(self.best.weights)
        scores, actions = self.best.scores, "greedy"
        sampled = self.play(policy, sampled=True)
        if score(sampled) > score(scores):
            scores, actions = sampled, "sampled"
        return {
            "step": self.best.step,
            **scores,
            "actions": actions,
            "episodes": self.recipe.validation_episodes,
            "seed": self.recipe.validation_seed,
            "interval": self.recipe.validation_interval,
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """The best policy for a checkpoint, by names of their own."""
        if self.best is None:
            return {}
        best = self.best
        named: dict[str, Any] = {
            "step": best.step,
            **best.scores,
            **{f"weights/{i:03}": w for i, w in enumerate(best.weights)},
        }
        return {PREFIX + name: np.asarray(x) for name, x in named.items()}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes over what `arrays` gave, from among all arrays of a checkpoint."""
        found = {
            name.removeprefix(PREFIX): x
            for name, x in arrays.items()
            if name.startswith(PREFIX)
        }
        if found:
            self.best = Best(
                int(found["step"]),
                {name: float(found[name]) for name in SCORES if name in found},
                [found[name] for name in sorted(found) if name.startswith("weights/")],
            )
