"""PPO as pure functions of JAX: advantages, loss, and the epochs over a batch.

Schulman et al., "Proximal Policy Optimization Algorithms", arXiv 1707.06347, with
generalized advantage estimation, arXiv 1506.02438. The numbers are those of TF-Agents'
PPOClipAgent as `MemoryPPOAgent` corrects it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import keras

from keras_agalite import MemoryPolicy
from keras_agalite.models.spaces import leaves
from training.learning.auxiliary import AuxiliaryHead, auxiliary_loss
from training.learning.fine_tuning import frozen_weights
from training.learning.rewards import initial_reward_scale, scale_rewards
from training.recipe import Recipe

GOLDEN_RATIO = (5**0.5 - 1) / 2
OBSERVATIONS, REWARDS = "observations", "rewards"


class Experience(NamedTuple):
    """What was collected: sequences of shape `(batch, time, ...)`.

    Attributes:
        observation: Observations.
        start: The observation is the first of an episode.
        valid: The action had an effect; False where the observation is the last of
            an episode and the next one begins another.
        action: Actions, as drawn.
        log_prob: Their log-probabilities then.
        value: Values then.
        reward: Rewards of the actions.
        terminated: The action ended the episode, and nothing comes after.
        ended: The action ended the episode, or time was over.
        state: The memory before the first step, `(batch, size)` each.
        final_value: The value after the last step, `(batch,)`.
        teacher: The teacher's actions; None without one.
        by_policy: The policy chose the action, not the teacher; None without one.
        targets: What the teacher knew, `TeacherTargets` of shape `(batch, time,
            ...)`; None without an auxiliary loss.
    """

    observation: Any
    start: Any
    valid: Any
    action: Any
    log_prob: Any
    value: Any
    reward: Any
    terminated: Any
    ended: Any
    state: Any
    final_value: Any
    teacher: Any = None
    by_policy: Any = None
    targets: Any = None


class Minibatch(NamedTuple):
    """What the loss reads; as in `Experience`, with advantages and returns."""

    observation: Any
    start: Any
    valid: Any
    action: Any
    log_prob: Any
    advantage: Any
    returns: Any
    state: Any
    teacher: Any = None
    by_policy: Any = None
    targets: Any = None


class LearnerState(NamedTuple):
    """What learning changes.

    Attributes:
        weights: The policy's trainable weights, and after them the auxiliary head's.
        optimizer: The optimizer's variables.
        iteration: Batches learnt from, int32.
        statistics: What no gradient changes, by name, where the recipe asks for it:
            `observations`, the weights of the policy's normaliser, and `rewards`, a
            `RewardScale`.
        frozen: The policy's weights that stay as they are.
    """

    weights: Any
    optimizer: Any
    iteration: Any
    statistics: Any
    frozen: Any = ()

    @property
    def all_weights(self) -> list[Any]:
        """All that the policy acts with, as `PPO.with_weights` takes it."""
        return [*self.weights, *self.given]

    @property
    def given(self) -> list[Any]:
        """Those of them that no gradient changes."""
        return [*self.frozen, *self.statistics.get(OBSERVATIONS, ())]


def advantages(
    reward: Any,
    value: Any,
    final_value: Any,
    terminated: Any,
    ended: Any,
    discount: float,
    gae_lambda: float,
) -> Any:
    """Generalized advantage estimates, of shape `(batch, time)`.

    An episode that is truncated keeps the value of its last observation.

    Args:
        reward, value, terminated, ended: As in `Experience`.
        final_value: The value after the last step, `(batch,)`.
        discount: Gamma.
        gae_lambda: Lambda.
    """
    next_value = jnp.concatenate([value[:, 1:], final_value[:, None]], axis=1)
    error = reward + discount * jnp.where(terminated, 0.0, next_value) - value
    decay = jnp.where(ended, 0.0, discount * gae_lambda)

    def step(carry: Any, x: Any) -> Any:
        carry = x[0] + x[1] * carry
        return carry, carry

    start = jnp.zeros_like(final_value)
    _, result = jax.lax.scan(step, start, (error.T, decay.T), reverse=True)
    return result.T


class PPO:
    """Learning, as pure functions around a policy.

    Args:
        policy: The policy, under KERAS_BACKEND=jax.
        recipe: Its settings.
        head: Asks the policy's memory what the teacher knows; None without an
            auxiliary loss.
    """

    def __init__(
        self,
        policy: MemoryPolicy,
        recipe: Recipe,
        head: AuxiliaryHead | None = None,
    ) -> None:
        self.policy = policy
        self.recipe = recipe
        self.head = head
        self.variables = [*policy.trainable_variables]
        if head is not None:
            self.variables += head.trainable_variables
        normalizer = policy.normalizer
        self.normalized = [] if normalizer is None else [*normalizer.variables]
        self.frozen = frozen_weights(policy)
        self.optimizer = keras.optimizers.Adam(
            AnnealedRate(recipe)
            if recipe.anneal_learning_rate
            else recipe.learning_rate,
            epsilon=recipe.adam_epsilon,
            global_clipnorm=recipe.max_gradient_norm,
        )
        self.optimizer.build(self.variables)
        seen = [space for _, space in leaves(policy.observation_space)]
        sees_images = any(len(space.shape) == 3 for space in seen)
        self.learns_in_steps = sees_images and jax.default_backend() == "cpu"
        self._begin = jax.jit(self.begin)
        self._order = jax.jit(self.order)
        self._update = jax.jit(self.update, donate_argnums=1)

    def initial_state(self) -> LearnerState:
        return LearnerState(
            [v.value for v in self.variables],
            [v.value for v in self.optimizer.variables],
            jnp.int32(0),
            self._initial_statistics(),
            [v.value for v in self.frozen],
        )

    def _initial_statistics(self) -> dict[str, Any]:
        statistics: dict[str, Any] = {}
        if self.normalized:
            statistics[OBSERVATIONS] = [v.value for v in self.normalized]
        if self.recipe.scale_rewards:
            statistics[REWARDS] = initial_reward_scale(self.recipe.num_environments)
        return statistics

    @property
    def all_variables(self) -> list[Any]:
        """What `all_weights` of a `LearnerState` are the values of."""
        return [*self.variables, *self.frozen, *self.normalized]

    def with_weights(self, weights: Any) -> Any:
        """A scope inside which the policy and the head have the weights given."""
        return keras.StatelessScope(list(zip(self.all_variables, weights, strict=True)))

    def run_policy(self, weights: Any, observation: Any, state: Any, start: Any) -> Any:
        """The policy over sequences, with the weights given.

        Args:
            weights: `all_weights` of a `LearnerState`.
            observation, state, start: As in `Experience`.

        Returns:
            `(out, state)`, as `MemoryPolicy` does.
        """
        with self.with_weights(weights):
            return self.policy(observation, state=state, start=start)

    def loss(
        self,
        weights: Any,
        batch: Minibatch,
        teacher_coefficient: Any = 0.0,
        given: Any = (),
    ) -> tuple[Any, dict[str, Any]]:
        """PPO's loss; with a teacher, also the cross-entropy with its actions.

        Schmitt et al., "Kickstarting Deep Reinforcement Learning", arXiv 1803.03835,
        equation 2, for a teacher that is sure of its action. With an auxiliary head
        also `auxiliary_loss`.

        Args:
            weights: As in `LearnerState`.
            batch: What was collected.
            teacher_coefficient: The coefficient of the teacher's term.
            given: As in `LearnerState`.

        Returns:
            `(loss, metrics)`: the sum, its terms (named as TF-Agents' PPOLossInfo
            names them) and diagnostics.
        """
        recipe, actor = self.recipe, self.policy.actor
        with self.with_weights([*weights, *given]):
            features, _ = self.policy.remember(
                batch.observation, batch.state, batch.start
            )
            out = self.policy.decide(features, batch.observation)
            answers = None if self.head is None else self.head(features)
        valid = batch.valid.astype(jnp.float32)

        advantage = batch.advantage - jnp.mean(batch.advantage)
        advantage = advantage / jnp.sqrt(jnp.var(advantage) + 1e-8)
        log_ratio = actor.log_prob(out.logits, batch.action) - batch.log_prob
        counted = valid
        if batch.by_policy is not None:  # the policy did not choose the others
            counted = valid * batch.by_policy
            log_ratio = jnp.where(batch.by_policy, log_ratio, 0.0)
        ratio, epsilon = jnp.exp(log_ratio), recipe.clip_epsilon
        clipped = jnp.clip(ratio, 1.0 - epsilon, 1.0 + epsilon)
        objective = jnp.minimum(ratio * advantage, clipped * advantage)
        error = jnp.square(batch.returns - out.value)
        entropy = actor.entropy(out.logits)
        terms = {
            "policy_gradient_loss": -recipe.policy_coefficient
            * jnp.mean(objective * counted),
            "value_estimation_loss": recipe.value_coefficient * jnp.mean(error * valid),
            "entropy_regularization_loss": -recipe.entropy_coefficient
            * jnp.mean(entropy * valid),
        }
        if batch.teacher is not None:
            cross_entropy = -actor.log_prob(out.logits, batch.teacher)
            imitation = jnp.mean(cross_entropy * valid)
            terms["teacher_loss"] = teacher_coefficient * imitation

        def mean(x: Any) -> Any:
            return jnp.sum(x * valid) / jnp.maximum(jnp.sum(valid), 1.0)

        spread = mean(jnp.square(batch.returns - mean(batch.returns)))
        diagnostics = {
            "clip_fraction": jnp.mean(jnp.abs(ratio - 1.0) > epsilon),
            "entropy": mean(entropy),
            # An estimate that is never negative: http://joschu.net/blog/kl-approx.html
            "kl_divergence": mean(ratio - 1.0 - log_ratio),
            "explained_variance": 1.0 - mean(error) / jnp.maximum(spread, 1e-8),
        }
        if batch.teacher is not None:
            diagnostics["teacher_cross_entropy"] = mean(cross_entropy)
        if answers is not None:
            asked, errors = auxiliary_loss(*answers, batch.targets)
            terms["auxiliary_loss"] = recipe.auxiliary_coefficient * asked
            diagnostics |= errors
        return sum(terms.values()), {**terms, **diagnostics}

    def learn(self, state: LearnerState, experience: Experience) -> Any:
        """The epochs over one batch of experience.

        Returns:
            `(state, metrics)`: the new state, and means over the minibatches.
        """
        batch, statistics = self.begin(state.statistics, experience)
        order = self.order(state.iteration)
        fixed = self.fixed(state)

        def minibatch(carry: Any, rows: Any) -> Any:
            *carry, metrics = self.update(*carry, batch, rows, *fixed)
            return carry, metrics

        carry, metrics = jax.lax.scan(
            minibatch, [state.weights, state.optimizer], order
        )
        state = LearnerState(*carry, state.iteration + 1, statistics, state.frozen)
        return state, jax.tree.map(jnp.mean, metrics)

    def fixed(self, state: LearnerState) -> Any:
        """What stays as it is during an iteration: the last arguments of `update`."""
        return self.teacher_coefficient_at(state.iteration), state.given

    def learn_in_steps(self, state: LearnerState, experience: Experience) -> Any:
        """As `learn`, in one compiled call a minibatch.

        On a CPU XLA runs the gradients of convolutions far slower inside a loop than
        outside.
        """
        batch, statistics = self._begin(state.statistics, experience)
        order = self._order(state.iteration)
        fixed = self.fixed(state)
        weights, optimizer, every = state.weights, state.optimizer, []
        for rows in order:
            weights, optimizer, metrics = self._update(
                weights, optimizer, batch, rows, *fixed
            )
            every.append(metrics)
        state = LearnerState(
            weights, optimizer, state.iteration + 1, statistics, state.frozen
        )
        return state, jax.tree.map(lambda *x: jnp.mean(jnp.stack(x)), *every)

    def update(
        self,
        weights: Any,
        optimizer: Any,
        batch: Minibatch,
        rows: Any,
        teacher_coefficient: Any,
        given: Any,
    ) -> Any:
        """One step of the optimizer on some rows of a batch.

        Returns:
            `(weights, optimizer, metrics)`.
        """
        (loss, metrics), gradients = jax.value_and_grad(self.loss, has_aux=True)(
            weights, take_rows(batch, rows), teacher_coefficient, given
        )
        norm = jnp.sqrt(sum(jnp.sum(jnp.square(g)) for g in gradients))
        changed = self.optimizer.stateless_apply(optimizer, gradients, weights)
        return *changed, {"loss": loss, **metrics, "gradient_norm": norm}

    def teacher_coefficient_at(self, iteration: Any) -> Any:
        """The coefficient of the teacher's term in an iteration."""
        recipe, coefficient = self.recipe, self.recipe.teacher_coefficient
        if recipe.anneal_teacher:
            coefficient *= fraction_left(recipe, iteration)
        return jnp.float32(coefficient)

    def teacher_acts(self, iteration: Any) -> Any:
        """Where the teacher acts: environments spread evenly, fewer and fewer."""
        number = self.recipe.num_environments
        place = jnp.arange(number) * GOLDEN_RATIO % 1.0
        return place < self.recipe.teacher_share * fraction_left(self.recipe, iteration)

    def order(self, iteration: Any) -> Any:
        """The rows of every minibatch of an iteration, as `shuffle` gives them."""
        key = jax.random.fold_in(jax.random.key(self.recipe.seed), iteration)
        epochs = jax.vmap(jax.random.fold_in, (None, 0))(
            key, jnp.arange(self.recipe.num_epochs)
        )
        return jnp.concatenate([shuffle(epoch, self.recipe) for epoch in epochs])

    def begin(self, known: dict[str, Any], experience: Experience) -> Any:
        """What an iteration learns from, and what it counts in.

        The rewards are scaled by what is known with this batch; observations are
        normalised by what was known when it was collected, until it is learnt from.

        Args:
            known: The statistics of a `LearnerState`.
            experience: What was collected.

        Returns:
            `(batch, statistics)`: the whole batch, and the statistics after it.
        """
        x, statistics = experience, {}
        if OBSERVATIONS in known:
            statistics[OBSERVATIONS] = self._count(known[OBSERVATIONS], x)
        if REWARDS in known:
            statistics[REWARDS], reward = scale_rewards(
                known[REWARDS], x.reward, x.start, x.valid, self.recipe.discount
            )
            x = x._replace(reward=reward)
        return self.prepare(x), statistics

    def _count(self, normalized: list[Any], experience: Experience) -> list[Any]:
        """The normaliser's weights with a batch counted in."""
        normalizer: Any = self.policy.normalizer
        rows, valid = jax.tree.map(
            lambda x: x.reshape(-1, *x.shape[2:]),
            (experience.observation, experience.valid),
        )
        mapping = list(zip(self.normalized, normalized, strict=True))
        with keras.StatelessScope(mapping) as scope:
            normalizer.update(rows, valid)
        return [scope.get_current_value(v) for v in self.normalized]

    def prepare(self, experience: Experience) -> Minibatch:
        """The whole batch, with advantages and returns."""
        x, recipe = experience, self.recipe
        advantage = advantages(
            x.reward, x.value, x.final_value, x.terminated, x.ended,
            recipe.discount, recipe.gae_lambda,
        )  # fmt: skip
        return Minibatch(
            x.observation, x.start, x.valid, x.action, x.log_prob,
            advantage, advantage + x.value, x.state, x.teacher, x.by_policy,
            x.targets,
        )  # fmt: skip


def fraction_left(recipe: Recipe, iteration: Any) -> Any:
    """The fraction of a run that is left when an iteration begins."""
    iterations = recipe.total_steps / recipe.steps_per_iteration
    return jnp.maximum(1.0 - iteration / iterations, 0.0)


def shuffle(key: Any, recipe: Recipe) -> Any:
    """Rows of each minibatch of an epoch.

    Of every `num_minibatches` neighbouring rows each minibatch gets one, so that
    rows stay on their device, and the minibatches are the same on any number of them.

    Returns:
        Places inside the groups of neighbours, of shape `(num_minibatches, groups)`.
    """
    size = recipe.num_minibatches
    groups = recipe.num_environments // size
    order = jnp.broadcast_to(jnp.arange(size)[:, None], (size, groups))
    return jax.random.permutation(key, order, axis=0, independent=True)


def take_rows(batch: Any, places: Any) -> Any:
    """One row of each group of neighbours: leaves of shape `(groups, ...)`."""
    groups = len(places)

    def take(x: Any) -> Any:
        x = x.reshape(groups, len(x) // groups, *x.shape[1:])
        return jax.vmap(lambda rows, i: rows[i])(x, places)

    return jax.tree.map(take, batch)


class AnnealedRate(keras.optimizers.schedules.LearningRateSchedule):
    """Linear to zero at the end of the run, constant during an iteration."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe

    def __call__(self, step: Any) -> Any:
        recipe = self.recipe
        iteration = jnp.asarray(step) // (recipe.num_epochs * recipe.num_minibatches)
        return recipe.learning_rate * fraction_left(recipe, iteration)
