"""Collecting experience for PPO: from functional or from gymnasium environments."""

import time
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from keras_agalite.action_masks import ACTION_MASK, has_action
from keras_agalite.environments.functional import (
    FunctionalEnv,
    reset_envs,
    step_envs,
)
from training.learning.ppo import PPO, Experience

AXIS = "environments"
# Steps whose mask left no action: not an error inside a compiled program.
STUCK = "steps_without_action"
NOISE, ENVIRONMENT, ELAPSED = range(3)  # what a key is for


class FunctionalCollector:
    """Environments in JAX: collecting and learning are one compiled program.

    The state is `(envs, memory_state, teacher_state)`; without a teacher the last is
    empty. The teacher is asked in every step everywhere, also where it does not act:
    what it has not been shown it does not know.

    Args:
        env: The environment.
        ppo: The learner.
        mesh: Devices; each has its share of the environments.
    """

    def __init__(self, env: FunctionalEnv, ppo: PPO, mesh: Any) -> None:
        self.env = env
        self.ppo = ppo
        self.seconds: dict[str, float] = {}  # its parts are not timed apart
        rows, whole = PartitionSpec(AXIS), PartitionSpec()

        def local(function: Any, arguments: Any) -> Any:
            return jax.shard_map(
                function, mesh=mesh, in_specs=arguments, out_specs=rows, check_vma=False
            )

        # Environments never leave their device, whatever a step of them does.
        self._reset = local(lambda keys: reset_envs(env, keys), (rows,))
        self._step = local(lambda *x: step_envs(env, *x), (rows, rows, rows))
        self._observe = local(env.observe_all, (rows,))
        self._ask_teacher = local(jax.vmap(self._teach), (rows, rows, rows))
        learner, envs = NamedSharding(mesh, whole), NamedSharding(mesh, rows)
        self.reset = jax.jit(self._start, out_shardings=envs)
        if ppo.learns_in_steps:
            self._collect = jax.jit(self.collect, donate_argnums=1, out_shardings=envs)
            self.iterate = self._iterate_in_steps
        else:
            self.iterate = jax.jit(
                self._iterate,
                donate_argnums=(0, 1),
                out_shardings=(learner, envs, learner, envs),
            )

    def _start(self) -> Any:
        recipe = self.ppo.recipe
        number = recipe.num_environments
        envs = self._reset(row_keys(recipe.seed, ENVIRONMENT, 0, number))
        if recipe.stagger_episodes:
            keys = row_keys(recipe.seed, ELAPSED, 0, number)
            draw = jax.vmap(jax.random.randint, (0, None, None, None))
            elapsed = draw(keys, (), 0, self.env.max_episode_steps)
            envs = envs._replace(elapsed=elapsed)
        teacher_state = self.env.initial_teacher_state() if recipe.is_taught else ()
        teacher_state = jax.tree.map(
            lambda x: jnp.broadcast_to(x, (number, *x.shape)), teacher_state
        )
        return envs, self.ppo.policy.initial_state(number), teacher_state

    def _teach(self, state: Any, teacher_state: Any, start: Any) -> Any:
        """The teacher's state, and its action and targets where they are used."""
        env: Any = self.env
        action, teacher_state = env.teacher_action(state, teacher_state, start)
        targets = None
        if self.ppo.head is not None:
            targets = env.teacher_targets(state, teacher_state)
        if not self.ppo.recipe.teacher_coefficient:
            action = None
        return teacher_state, action, targets

    def _iterate(self, learner: Any, state: Any) -> Any:
        """Collects one sequence in each environment and learns from them.

        Returns:
            `(learner, state, metrics, episodes)`.
        """
        state, experience, episodes = self.collect(learner, state)
        learner, metrics = self.ppo.learn(learner, experience)
        return learner, state, metrics | self._stuck(experience), episodes

    def _stuck(self, experience: Experience) -> dict[str, Any]:
        sizes = self.ppo.policy.mask_sizes
        if not sizes:
            return {}
        legal = has_action(experience.observation[ACTION_MASK], sizes)
        return {STUCK: jnp.sum(experience.valid & ~legal)}

    def _iterate_in_steps(self, learner: Any, state: Any) -> Any:
        state, experience, episodes = self._collect(learner, state)
        learner, metrics = self.ppo.learn_in_steps(learner, experience)
        return learner, state, metrics | self._stuck(experience), episodes

    def collect(self, learner: Any, state: Any) -> Any:
        """Plays `sequence_length` steps in each environment."""
        recipe = self.ppo.recipe
        first = learner.iteration * recipe.sequence_length

        def step(carry: Any, time: Any) -> Any:
            envs, memory_state, teacher_state = carry
            observation = self._observe(envs.state)
            action, log_prob, value, memory_state = act(
                self.ppo,
                learner.all_weights,
                observation,
                memory_state,
                envs.start,
                time,
            )
            advice = by_policy = targets = None
            if recipe.is_taught:
                teacher_state, advice, targets = self._ask_teacher(
                    envs.state, teacher_state, envs.start
                )
            if advice is not None:
                by_policy = ~self.ppo.teacher_acts(learner.iteration)
                action = jnp.where(by_policy, action, advice)
            # Step 0 of the noise belongs to the reset.
            keys = row_keys(recipe.seed, ENVIRONMENT, time + 1, recipe.num_environments)
            clipped = self.ppo.policy.actor.clip(action)
            new, transition = self._step(keys, envs, clipped)
            row = (
                observation, envs.start, ~envs.ended, action, log_prob, value,
                transition.reward, transition.terminated, new.ended,
            )  # fmt: skip
            ended = new.ended
            if by_policy is not None:  # whole episodes alone, from their first step
                begun = (time + 1 - new.elapsed) // recipe.sequence_length
                ended = ended & ~self.ppo.teacher_acts(begun)
            episode = {"ended": ended, "return": new.total, "length": new.elapsed}
            if "success" in transition.info:
                episode["success"] = transition.info["success"]
            taught = (advice, by_policy, targets)
            return (new, memory_state, teacher_state), (row, taught, episode)

        times = first + jnp.arange(recipe.sequence_length)
        end, steps = jax.lax.scan(step, state, times)
        rows, teacher, episodes = jax.tree.map(lambda x: x.swapaxes(0, 1), steps)
        envs, memory_state, _ = end
        final = self._observe(envs.state)
        _, _, final_value, _ = act(
            self.ppo, learner.all_weights, final, memory_state, envs.start, 0
        )
        return end, Experience(*rows, state[1], final_value, *teacher), episodes


class GymnasiumCollector:
    """Environments that live in Python: they are stepped between compiled calls.

    Args:
        vector: Environments that reset themselves in the step after their last.
        ppo: The learner.
        mesh: Devices; each has its share of the environments.
    """

    def __init__(
        self,
        vector: gymnasium.vector.VectorEnv[Any, Any, Any],
        ppo: PPO,
        mesh: Any,
    ) -> None:
        self.vector = vector
        self.ppo = ppo
        self.reports_success = False
        self.seconds: dict[str, float] = {}
        self.rows = NamedSharding(mesh, PartitionSpec(AXIS))

        def choose(*arguments: Any) -> Any:
            action, *rest = act(ppo, *arguments)
            return action, ppo.policy.actor.clip(action), *rest

        self._act = jax.jit(choose)
        self._learn = ppo.learn_in_steps
        if not ppo.learns_in_steps:
            self._learn = jax.jit(ppo.learn, donate_argnums=0)

    def reset(self, step: int) -> None:
        """New episodes, seeded by the step, and empty memories."""
        recipe = self.ppo.recipe
        seed = np.random.SeedSequence([recipe.seed, step]).generate_state(1)[0]
        self.observation, _ = self.vector.reset(seed=int(seed))
        number = recipe.num_environments
        self.memory_state = self._put(self.ppo.policy.initial_state(number))
        self.start = np.ones(number, bool)
        self.ended = np.zeros(number, bool)
        self.total = np.zeros(number, np.float32)
        self.elapsed = np.zeros(number, np.int32)

    def iterate(self, learner: Any) -> Any:
        """Collects one sequence in each environment and learns from them.

        Returns:
            `(learner, metrics, episodes)`.
        """
        recipe, before = self.ppo.recipe, self.memory_state
        begin = time.perf_counter()
        first = int(learner.iteration) * recipe.sequence_length
        steps = [
            self._step(learner.all_weights, first + i)
            for i in range(recipe.sequence_length)
        ]
        rows, episodes = jax.tree.map(lambda *x: np.stack(x, axis=1), *steps)
        if not self.reports_success:
            del episodes["success"]
        *_, final_value, _ = self._choose(learner.all_weights, 0)
        experience = Experience(*self._put(rows), before, final_value)
        collected = time.perf_counter()
        learner, metrics = self._learn(learner, experience)
        # The next step needs the weights, so that waiting here loses nothing.
        jax.block_until_ready(metrics)
        self.seconds = {
            "collect_steps_per_second": collected - begin,
            "learn_steps_per_second": time.perf_counter() - collected,
        }
        return learner, metrics, episodes

    def _choose(self, weights: Any, index: int) -> Any:
        observation, start = self._put((self.observation, self.start))
        return self._act(
            weights, observation, self.memory_state, start, np.int32(index)
        )

    def _step(self, weights: Any, index: int) -> Any:
        action, clipped, log_prob, value, self.memory_state = self._choose(
            weights, index
        )
        observation, reward, terminated, truncated, info = self.vector.step(
            np.asarray(clipped)
        )
        ended, reward = terminated | truncated, reward.astype(np.float32)
        row = (
            self.observation, self.start, ~self.ended, *map(np.asarray, (action,
            log_prob, value)), reward, terminated, ended,
        )  # fmt: skip
        self.total = np.where(self.ended, 0, self.total + reward)
        self.elapsed = np.where(self.ended, 0, self.elapsed + 1)
        self.reports_success |= "success" in info
        success = np.asarray(info.get("success", np.zeros_like(ended)), bool)
        episode = {
            "ended": ended,
            "return": self.total,
            "length": self.elapsed,
            "success": success,
        }
        self.observation, self.start, self.ended = observation, self.ended, ended
        return row, episode

    def _put(self, tree: Any) -> Any:
        return jax.device_put(tree, self.rows)


def act(
    ppo: PPO, weights: Any, observation: Any, memory_state: Any, start: Any, time: Any
) -> Any:
    """One step of the policy, with noise keyed by the seed and the step.

    Returns:
        `(action, log_prob, value, memory_state)`.
    """
    head = ppo.policy.actor
    one = jax.tree.map(lambda x: x[:, None], observation)
    out, memory_state = ppo.run_policy(weights, one, memory_state, start[:, None])
    logits, value = out.logits[:, 0], out.value[:, 0]
    keys = row_keys(ppo.recipe.seed, NOISE, time, len(start))
    draw = getattr(jax.random, head.noise)
    noise = jax.vmap(lambda key: draw(key, (head.noise_size,)))(keys)
    action = head.sample(logits, noise)
    return action, head.log_prob(logits, action), value, memory_state


def row_keys(seed: int, purpose: int, time: Any, rows: int) -> Any:
    """A key for each row; no other seed, purpose, time or row has the same."""
    key = jax.random.fold_in(jax.random.key(seed), purpose)
    key = jax.random.fold_in(key, time)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(rows))


def finished(episodes: Any) -> list[dict[str, Any]]:
    """The episodes that ended, as dicts, from arrays of shape `(batch, time)`."""
    which = np.nonzero(episodes["ended"])
    columns = {k: v[which].tolist() for k, v in episodes.items() if k != "ended"}
    names = list(columns)
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows]
