"""Recording episodes while they are played."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from keras import tree

from keras_agalite import rollout
from keras_agalite.environments import functional, make_vec
from keras_agalite.environments.functional import FunctionalVectorEnv
from training.envs.checks import CheckedVectorEnv
from training.recordings.players import make_player
from training.recordings.writer import RecordingWriter


class EpisodeRecorder(gymnasium.vector.VectorWrapper):
    """Writes the first episode of each environment after each reset.

    What plays the episodes need not know of it; `keras_agalite.rollout` plays one
    episode in each row.

    Args:
        env: A vector of environments that resets itself in the step after an
            episode's last, gymnasium's NEXT_STEP.
        writer: Gets the episodes, in the order in which they end.
        player: Who plays, if that may have `advice`, which is then recorded in place
            of the actions.

    Attributes:
        rows: How many of the environments are recorded; all of them at first.

    Raises:
        ValueError: If the vector resets itself otherwise.

    Example:
        >>> recorder = EpisodeRecorder(make_vec("tmaze_10", 4), writer)
        >>> keras_agalite.rollout(policy, recorder, episodes=100)
    """

    def __init__(
        self,
        env: gymnasium.vector.VectorEnv[Any, Any, Any],
        writer: RecordingWriter,
        player: Any = None,
    ) -> None:
        super().__init__(env)
        mode = getattr(env, "autoreset_mode", env.metadata.get("autoreset_mode"))
        if mode not in (AutoresetMode.NEXT_STEP, "NextStep"):
            raise ValueError(
                "`env` must reset itself as NEXT_STEP does. Received: "
                f"autoreset_mode={mode}"
            )
        self.writer, self.player = writer, player
        self.rows = env.num_envs

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        observation, info = self.env.reset(seed=seed, options=options)
        number = self.env.num_envs
        if seed is None or isinstance(seed, int | np.integer):
            seed = [None if seed is None else int(seed) + i for i in range(number)]
        self.seeds = seed
        self.running = np.arange(number) < self.rows
        first = [_row(observation, i) for i in range(number)]
        self.observations = [[row] for row in first]
        self.actions: list[list[Any]] = [[] for _ in first]
        self.rewards: list[list[float]] = [[] for _ in first]
        return observation, info

    def step(self, actions: Any) -> Any:
        result = self.env.step(actions)
        observation, reward, terminated, truncated, info = result
        advice = getattr(self.player, "advice", None)
        actions = actions if advice is None else advice
        for i in np.flatnonzero(self.running):
            self.observations[i].append(_row(observation, i))
            self.actions[i].append(np.array(actions[i]))
            self.rewards[i].append(float(reward[i]))
            if terminated[i] or truncated[i]:
                known = "success" in info and info.get("_success", self.running)[i]
                self._write(
                    int(i),
                    terminated=bool(terminated[i]),
                    truncated=bool(truncated[i]),
                    success=bool(info["success"][i]) if known else None,
                )
        return result

    def _write(self, row: int, **outcome: Any) -> None:
        self.running[row] = False
        observations = tree.map_structure(
            lambda *parts: np.stack(parts), *self.observations[row]
        )
        self.writer.add(
            observations,
            np.stack(self.actions[row]),
            np.array(self.rewards[row]),
            seed=self.seeds[row],
            **outcome,
        )
        self.observations[row].clear()


def record(
    environment: str,
    folder: str | Path,
    player: str,
    episodes: int,
    seed: int = 0,
    environment_arguments: dict[str, Any] | None = None,
    num_envs: int = 16,
    sampled: bool = False,
) -> dict[str, Any]:
    """Plays episodes and records them; episode `i` has the seed `seed + i`.

    Args:
        environment: What `keras_agalite.environments.make` takes.
        folder: Where to write; it must be empty, or not be there.
        player: As for `make_player`.
        episodes: Number of episodes.
        seed: Seed of the first.
        environment_arguments: Arguments of the environment.
        num_envs: Episodes that are played at a time.
        sampled: Whether a preset draws its actions instead of taking the most
            likely ones.

    Returns:
        A dict with the number of `episodes` and `steps`, `mean_return`, `mean_length`
        and, if the environment reports it, `success_rate`.

    Raises:
        ValueError: If the environment or the player cannot be made, the player cannot
            play there, or the folder is not empty.
        EnvironmentFault: If an environment gives what its spaces do not allow.
        OSError: If the folder cannot be written.

    Example:
        >>> record("passive_tmaze_28", "recordings", "teacher", episodes=1000)
    """
    for name, value in {"episodes": episodes, "num_envs": num_envs}.items():
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1. Received: {name}={value!r}")
    number = min(episodes, num_envs)
    arguments = environment_arguments or {}
    vector = CheckedVectorEnv(_make(environment, number, arguments, player))
    provenance = {
        "player": player,
        "actions": "sampled" if sampled else "greedy",
        "seed": seed,
    }
    try:
        played = make_player(player, vector)
        with RecordingWriter(
            folder,
            vector.single_observation_space,
            vector.single_action_space,
            environment,
            arguments,
            provenance,
        ) as writer:
            recorder = EpisodeRecorder(vector, writer, played)
            rng = np.random.default_rng(seed)
            for begun in range(0, episodes, number):
                recorder.rows = min(number, episodes - begun)
                rollout(
                    played,
                    recorder,
                    number,
                    seed + begun,
                    deterministic=not sampled,
                    rng=rng,
                )
    finally:
        vector.close()
    return _summarize(writer.episodes)


def _make(
    environment: str, number: int, arguments: dict[str, Any], player: str
) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    """A vector that takes a seed for each environment.

    Functional environments are stepped by one program where they have no other form,
    or their teacher, who sees their states, plays.
    """
    is_functional = functional.has_functional(environment)
    try:
        if is_functional and player == "teacher":
            env = functional.make_functional(environment, **arguments)
            return FunctionalVectorEnv(env, number)
        mode = None if is_functional else "sync"
        return make_vec(environment, number, vectorization_mode=mode, **arguments)
    except (gymnasium.error.Error, TypeError, ValueError) as error:
        raise ValueError(
            f"`environment` cannot be made. Received: environment={environment!r}, "
            f"environment_arguments={arguments}: {error}"
        ) from error


def _row(tree_of_arrays: Any, row: int) -> Any:
    return tree.map_structure(lambda x: np.array(x[row]), tree_of_arrays)


def _summarize(episodes: list[dict[str, Any]]) -> dict[str, Any]:
    lengths = [episode["length"] for episode in episodes]
    known = [e["success"] for e in episodes if e["success"] is not None]
    result = {
        "episodes": len(episodes),
        "steps": sum(lengths),
        "mean_return": float(np.mean([episode["return"] for episode in episodes])),
        "mean_length": float(np.mean(lengths)),
    }
    if len(known) == len(episodes):
        result["success_rate"] = float(np.mean(known))
    return result
