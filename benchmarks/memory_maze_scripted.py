"""Scores of the scripted players in the real Memory Maze and in the fast one.

`python -m benchmarks.memory_maze_scripted [--sizes 9x9 15x15] [--real 30] [--fast 300]
[--players explorer ...]`. The players: "shortest" knows the whole maze, "ahead" walks
on to places in view alone (the fast maze only), "explorer" knows only what has been in
view. `--real 0` leaves the real one out, which needs memory-maze.
"""

import argparse
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from keras_agalite.environments.functional import reset_envs, step_envs
from keras_agalite.environments.functional.memory_maze import MemoryMaze, explorer
from keras_agalite.environments.functional.memory_maze.env import TEACHERS
from keras_agalite.environments.functional.memory_maze.layouts import SIZES
from keras_agalite.environments.functional.memory_maze.motion import CELL
from keras_agalite.environments.functional.memory_maze.scripted import scripted_action

BATCH = 500  # episodes at once


def real_returns(size: str, episodes: int, seed: int, player: str) -> list[float]:
    """Returns in memory-maze's environment, without its camera."""
    from tests.environments.make_memory_maze_fixtures import Real

    shape = SIZES[size]
    real, play, returns = Real(size, seed), _real_player(player), []
    middle = (shape.cells - 2) / 2
    for _ in range(episodes):
        real.reset()
        layout = np.isin(real.maze(), list(" PG"))[-2:0:-1, 1:-1]
        targets = real.targets()[:, :2] / CELL + middle
        total, belief = 0.0, explorer.initial_belief(shape.cells - 2, shape.targets)
        for time in range(shape.steps):
            x, y, _, steer, _ = real.data.qpos
            here, ahead = np.array([x, y]), np.array([np.cos(steer), -np.sin(steer)])
            belief, action = play(
                belief, here / CELL + middle, ahead, layout, targets, real.current(),
                time == 0,
            )  # fmt: skip
            total += real.step(int(action))
        returns.append(total)
    return returns


def _real_player(player: str) -> Callable[..., Any]:
    """A function of belief, global observables and start: belief and action."""

    def shortest(
        belief: Any,
        here: Any,
        ahead: Any,
        layout: Any,
        targets: Any,
        target: Any,
        _: Any,
    ) -> Any:
        return belief, scripted_action(here, ahead, layout, targets[target])

    def explore(
        belief: Any, here: Any, ahead: Any, layout: Any, targets: Any, target: Any,
        start: Any,
    ) -> Any:  # fmt: skip
        belief = explorer.update_belief(belief, here, ahead, layout, targets, start)
        return belief, explorer.explorer_action(belief, here, ahead, target)

    return jax.jit({"shortest": shortest, "explorer": explore}[player])


def fast_returns(
    size: str, episodes: int, seed: int, player: str = "shortest"
) -> list[float]:
    """Returns in the fast one, up to `BATCH` episodes at once."""
    env = MemoryMaze(
        size, 2000, seed, image=False, global_observables=True, teacher=player
    )
    keys = jax.random.split(jax.random.key(seed), -(-episodes // BATCH))
    returns: list[float] = []
    for key in keys:
        number = min(BATCH, episodes - len(returns))
        returns += np.asarray(_play(env, number, key)).tolist()
    return returns


def _play(env: MemoryMaze, number: int, key: Any) -> Any:
    def step(carry: Any, key: Any) -> Any:
        states, beliefs = carry
        act = jax.vmap(env.teacher_action)
        actions, beliefs = act(states.state, beliefs, states.start)
        keys = jax.random.split(key, number)
        states, _ = step_envs(env, keys, states, actions)
        return (states, beliefs), None

    @jax.jit
    def run(key: Any) -> Any:
        keys = jax.random.split(key, env.max_episode_steps + 1)
        states = reset_envs(env, jax.random.split(keys[0], number))
        beliefs = jax.tree.map(
            lambda x: jax.numpy.broadcast_to(x, (number, *x.shape)),
            env.initial_teacher_state(),
        )
        return jax.lax.scan(step, (states, beliefs), keys[1:])[0][0].total

    return run(key)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=["9x9"], choices=SIZES)
    parser.add_argument("--players", nargs="+", default=TEACHERS, choices=TEACHERS)
    parser.add_argument("--real", type=int, default=30, help="episodes")
    parser.add_argument("--fast", type=int, default=300, help="episodes")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(
        "| size | player | maze | episodes | mean return | 95% interval | sd | range |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for size in options.sizes:
        for player in options.players:
            for maze, play in {"fast": fast_returns, "real": real_returns}.items():
                episodes = getattr(options, maze)
                if not episodes or (maze, player) == ("real", "ahead"):
                    continue
                returns = np.array(play(size, episodes, options.seed, player))
                mean, sd = returns.mean(), returns.std(ddof=1)
                half = 1.96 * sd / np.sqrt(episodes)
                print(
                    f"| {size} | {player} | {maze} | {episodes} | {mean:.2f} | "
                    f"{mean - half:.2f} to {mean + half:.2f} | {sd:.2f} | "
                    f"{returns.min():.0f} to {returns.max():.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
