"""Policies at play: `rollout` gives episodes, `evaluate` scores them."""

import contextlib
import json
import operator
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from keras_agalite.action_masks import (
    ACTION_MASK,
    allow_all,
    mask_sizes,
    random_actions,
)
from keras_agalite.environments import functional, make_vec
from keras_agalite.previous import PREVIOUS, add_previous, flatten_actions

# Steps of an episode after which a warning says that it goes on.
LONG = 100_000

Environment = str | gymnasium.Env[Any, Any] | gymnasium.vector.VectorEnv[Any, Any, Any]


class Episode(NamedTuple):
    """A whole episode.

    Attributes:
        seed: The seed that its environment was reset with.
        total_reward: The sum of its rewards: its return, not discounted.
        length: Number of steps.
        success: Whether it succeeded; None if the environment does not report
            `info["success"]`.
    """

    seed: int
    total_reward: float
    length: int
    success: bool | None


class Step(NamedTuple):
    """What `rollout` reports after a reset and after every step, for all rows.

    Attributes:
        observation: The observation that the policy sees next, `(batch, ...)`.
        state: The policy's state before it sees that; None without a policy.
        action: The action that led here, `(batch, ...)`; None after a reset.
        reward: Its rewards, `(batch,)`; None after a reset.
        running: Rows whose episode is not over, `(batch,)` booleans.
    """

    observation: Any
    state: Any
    action: Any
    reward: Any
    running: np.ndarray


def rollout(
    policy: Any,
    env: Environment,
    episodes: int = 1,
    seed: int = 0,
    *,
    deterministic: bool = True,
    rng: np.random.Generator | None = None,
    environment_arguments: dict[str, Any] | None = None,
    num_envs: int = 64,
    max_steps: int | None = None,
    on_step: Callable[[Step], Any] | None = None,
) -> list[Episode]:
    """Plays whole episodes; episode `i` is the environment's with seed `seed + i`.

    A policy that was made for observations with `previous_action` and
    `previous_reward` gets them, also from an environment that does not have them.

    Args:
        policy: A `MemoryPolicy`, or None for actions that are drawn evenly (of those
            that are legal, where observations have an `action_mask`).
        env: A gymnasium environment; a vector of environments that takes a list of
            seeds, plays as many episodes at a time and resets itself; or a name for
            `keras_agalite.environments.make`. An environment that is given stays
            open.
        episodes: Number of episodes.
        seed: Seed of the first.
        deterministic: Take the most likely actions instead of drawing them.
        rng: Source of the noise of drawn actions; `default_rng(seed)` if None.
        environment_arguments: Arguments of the environment, where `env` is a name.
        num_envs: Episodes that are played at a time, where `env` is a name.
        max_steps: Steps after which an episode is left; None plays to its end.
        on_step: Called with a `Step` after every reset and every step, for example to
            keep frames of `env.render()`.

    Returns:
        A list of `Episode`, in the order of the seeds.

    Raises:
        ValueError: If the environment cannot be made or does not take a list of
            seeds, if its actions are not the policy's, a number is no whole one or
            not positive, the policy or `rng` is none, or a return is not finite.
        ImportError: If the environment's package is missing.

    Example:

    >>> policy = keras_agalite.MemoryPolicy.from_preset("tmaze_10")
    >>> keras_agalite.rollout(policy, "tmaze_10", seed=7)
    [Episode(seed=7, total_reward=3.1, length=10, success=True)]
    """
    if policy is not None and not callable(getattr(policy, "act", None)):
        raise ValueError(
            "`policy` must be a policy, as MemoryPolicy.from_preset loads it, or None. "
            f"Received: policy={policy!r}"
        )
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise ValueError(
            f"`rng` must be a numpy.random.Generator or None. Received: rng={rng!r}"
        )
    episodes = _whole("episodes", episodes, 1)
    num_envs = _whole("num_envs", num_envs, 1)
    seed = _whole("seed", seed, 0)
    if max_steps is not None:
        max_steps = _whole("max_steps", max_steps, 1)
    if seed > 2**32 - episodes:
        raise ValueError(
            f"`seed` must be at least 0, and that of the last episode less than 2**32. "
            f"Received: seed={seed!r}, episodes={episodes}"
        )
    if environment_arguments and not isinstance(env, str):
        raise ValueError(
            "`environment_arguments` are those of an environment that is named. "
            f"Received: env={env!r}, environment_arguments={environment_arguments!r}"
        )
    draws = policy is None or not deterministic
    rng = (np.random.default_rng(seed) if rng is None else rng) if draws else None
    played: list[Episode] = []
    while len(played) < episodes:
        left = episodes - len(played)
        with _vector(env, min(left, num_envs), environment_arguments or {}) as vector:
            batch = _play(policy, vector, seed + len(played), rng, max_steps, on_step)
        played += batch[:left]
    return played


def evaluate(
    policy: Any,
    env: Environment,
    episodes: int = 200,
    seed: int = 1_000_000,
    *,
    deterministic: bool = True,
    environment_arguments: dict[str, Any] | None = None,
    num_envs: int = 64,
) -> dict[str, Any]:
    """Scores a policy over whole episodes; episode `i` has the seed `seed + i`.

    Args:
        policy, env, episodes, seed, deterministic, environment_arguments, num_envs:
            As in `rollout`.

    Returns:
        What a preset's `evaluation.json` holds: a dict with `mean_return`,
        `std_return` (over episodes; None of one), `mean_length`, `success_rate` (if
        the environment reports success), the lists `returns` and `successes` in the
        order of the seeds, and `environment`, `environment_arguments`, `episodes`,
        `seed`, `actions` ("greedy", "sampled" or "random") and `backend`.

    Raises:
        ValueError, ImportError: As `rollout`.

    Example:

    >>> policy = keras_agalite.MemoryPolicy.from_preset("tmaze_10")
    >>> keras_agalite.evaluate(policy, "tmaze_10")["success_rate"]
    1.0
    """
    import keras

    played = rollout(
        policy,
        env,
        episodes,
        seed,
        deterministic=deterministic,
        environment_arguments=environment_arguments,
        num_envs=num_envs,
    )
    episodes, seed = len(played), played[0].seed
    returns = np.array([episode.total_reward for episode in played])
    successes = [e.success for e in played if e.success is not None]
    greedy = "greedy" if deterministic else "sampled"
    result = {
        **_describe(env, environment_arguments or {}),
        "episodes": episodes,
        "seed": seed,
        "actions": "random" if policy is None else greedy,
        "backend": keras.backend.backend(),
        "mean_return": float(returns.mean()),
        "std_return": float(returns.std(ddof=1)) if episodes > 1 else None,
        "mean_length": float(np.mean([episode.length for episode in played])),
    }
    if len(successes) == episodes:
        result["success_rate"] = float(np.mean(successes))
        result["successes"] = successes
    return {**result, "returns": returns.tolist()}


def _describe(env: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    name = env
    if not isinstance(env, str):
        name, arguments = type(env).__name__, {}
        if env.spec is not None:
            name, arguments = env.spec.id, dict(env.spec.kwargs)
    # What JSON has no word for, such as a class, is named.
    arguments = json.loads(json.dumps(arguments, default=repr))
    return {"environment": name, "environment_arguments": arguments}


def _whole(name: str, value: Any, low: int) -> int:
    """A whole number from `low` on, also one of NumPy, as Python's."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ValueError(
            f"`{name}` must be a whole number. Received: {name}={value!r}"
        ) from None
    if number < low:
        raise ValueError(f"`{name}` must be at least {low}. Received: {name}={value!r}")
    return number


@contextlib.contextmanager
def _vector(env: Any, number: int, arguments: dict[str, Any]) -> Iterator[Any]:
    """A vector of the environment; what is made here is closed afterwards."""
    if isinstance(env, str):
        vector = _make(env, number, arguments)
        try:
            yield vector
        finally:
            vector.close()
    elif isinstance(env, gymnasium.Env):
        vector = gymnasium.vector.SyncVectorEnv([lambda: env])
        vector.closed = True  # or it would close the environment when it is gone
        yield vector
    elif isinstance(env, gymnasium.vector.VectorEnv):
        # Vectors of one class share their metadata: the last one's mode stands there.
        mode = getattr(env, "autoreset_mode", env.metadata.get("autoreset_mode"))
        if mode == AutoresetMode.DISABLED:
            raise ValueError(
                "`env` must reset itself: NEXT_STEP or SAME_STEP. Received: "
                "autoreset_mode=DISABLED"
            )
        yield env
    else:
        raise ValueError(
            "`env` must be a name, a gymnasium.Env or a gymnasium.vector.VectorEnv. "
            f"Received: env={env!r}"
        )


def _make(
    name: str, number: int, arguments: dict[str, Any]
) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    # Our own vectors take a seed for each row. Others may not, as gymnasium's
    # CartPole: of those the plain form is stepped one after another.
    mode = None if functional.has_functional(name) else "sync"
    try:
        return make_vec(name, number, vectorization_mode=mode, **arguments)
    except (gymnasium.error.Error, TypeError, ValueError) as error:
        raise ValueError(
            f"`env` cannot be made. Received: env={name!r}, environment_arguments="
            f"{arguments}: {error}"
        ) from error


def _play(
    policy: Any,
    vector: Any,
    seed: int,
    rng: np.random.Generator | None,
    max_steps: int | None,
    on_step: Callable[[Step], Any] | None,
) -> list[Episode]:
    """Plays one episode in each row."""
    number = vector.num_envs
    state, lacking = None, False
    if policy is not None:
        _check_actions(policy, vector)
        state = policy.initial_state(number)
        lacking = lacks_previous(policy, vector.single_observation_space)
    elif rng is not None:
        vector.action_space.seed(int(rng.integers(2**31)))
    seeds = [seed + row for row in range(number)]
    try:
        observation, _ = vector.reset(seed=seeds)
    except (gymnasium.error.Error, TypeError) as error:
        raise ValueError(
            "`env` must take a list of seeds, one for each row; its name, or one of "
            f"its environments, can be played instead. Received: env={vector!r}: "
            f"{error}"
        ) from error
    spaces_of_one = vector.single_observation_space, vector.single_action_space
    is_masked = mask_sizes(*spaces_of_one) is not None
    action = reward = None
    totals, lengths = np.zeros(number), np.zeros(number, int)
    successes: dict[int, bool] = {}
    running = np.ones(number, bool)
    while True:
        if lacking:
            previous = _previous(vector, action, reward)
            observation = add_previous(observation, *previous)
        if on_step:
            on_step(Step(observation, state, action, reward, running.copy()))
        if not running.any() or (max_steps and lengths.max() >= max_steps):
            break
        if policy is None:
            action = _draw(vector, observation, rng if is_masked else None)
        else:
            if is_masked:
                observation = allow_all(observation, ~running)
            action, state = policy.act(
                observation, state, deterministic=rng is None, seed=rng
            )
        observation, reward, terminated, truncated, info = vector.step(action)
        # Rows that are done begin another episode, which does not count.
        with np.errstate(over="ignore"):  # told at the end
            totals += np.where(running, reward, 0.0)
        lengths += running
        ended = running & (terminated | truncated)
        final = info.get("final_info", info)  # where the same step begins another
        if "success" in final:
            told = ended & final.get("_success", True)
            successes |= {int(i): bool(final["success"][i]) for i in np.where(told)[0]}
        running &= ~ended
        if lengths.max() == LONG and running.any():
            warnings.warn(
                f"An episode has not ended after {LONG:,} steps. Received: {vector}; "
                "a time limit, such as max_episode_steps, ends it",
                stacklevel=4,
            )
    for row in np.flatnonzero(~np.isfinite(totals)):
        raise ValueError(
            "`env` must give rewards whose sum is finite. Received: the return "
            f"{totals[row]} in the episode with seed {seeds[row]}"
        )
    return [
        Episode(seeds[i], float(totals[i]), int(lengths[i]), successes.get(i))
        for i in range(number)
    ]


def _draw(vector: Any, observation: Any, rng: np.random.Generator | None) -> Any:
    """Actions that are drawn evenly; with `rng` of those that are legal."""
    if rng is None:
        return vector.action_space.sample()
    mask = np.asarray(observation[ACTION_MASK])
    return random_actions(mask, vector.single_action_space, rng)


def _check_actions(policy: Any, vector: Any) -> None:
    ours, theirs = policy.action_space, vector.single_action_space
    both_boxes = isinstance(ours, spaces.Box) and isinstance(theirs, spaces.Box)
    fits = ours.shape == theirs.shape if both_boxes else ours == theirs
    if not fits:
        raise ValueError(
            f"`env` must take the policy's actions, {ours}. Received: an environment "
            f"with the actions {theirs}"
        )


def lacks_previous(policy: Any, observation_space: gymnasium.Space[Any]) -> bool:
    """Whether a policy sees its previous action or reward, and the space has none."""

    def parts(space: Any) -> Any:
        return space.spaces if isinstance(space, spaces.Dict) else {}

    needed = set(PREVIOUS) & set(parts(policy.observation_space))
    return bool(needed - set(parts(observation_space)))


def _previous(vector: Any, action: Any, reward: Any) -> list[Any]:
    """The previous actions and rewards of the rows; zeros before the first step."""
    space, number = vector.single_action_space, vector.num_envs
    if action is None:
        sizes = (spaces.flatdim(space), 1)
        return [np.zeros((number, size), np.float32) for size in sizes]
    flat = flatten_actions(space, np.asarray(action))
    return [flat, np.asarray(reward, np.float32)[:, None]]
