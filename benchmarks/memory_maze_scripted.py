"""Scores of the scripted player in the real Memory Maze and in the fast one.

`python -m benchmarks.memory_maze_scripted [--size 9x9] [--real 30] [--fast 300]`.
`--real 0` leaves the real one out, which needs memory-maze.
"""

import argparse
import functools
from typing import Any

import jax
import numpy as np

from keras_agalite.environments.functional import reset_envs, step_envs
from keras_agalite.environments.functional.memory_maze import MemoryMaze
from keras_agalite.environments.functional.memory_maze.layouts import SIZES
from keras_agalite.environments.functional.memory_maze.motion import CELL
from keras_agalite.environments.functional.memory_maze.scripted import scripted_action


def real_returns(size: str, episodes: int, seed: int) -> list[float]:
    """Returns in memory-maze's environment, without its camera."""
    from tests.environments.make_memory_maze_fixtures import Real

    real, act, returns = Real(size, seed), jax.jit(scripted_action), []
    middle = (SIZES[size].cells - 2) / 2
    for _ in range(episodes):
        real.reset()
        layout = np.isin(real.maze(), list(" PG"))[-2:0:-1, 1:-1]
        targets = real.targets()[:, :2] / CELL + middle
        total = 0.0
        for _ in range(SIZES[size].steps):
            x, y, _, steer, _ = real.data.qpos
            here, ahead = np.array([x, y]), np.array([np.cos(steer), -np.sin(steer)])
            target = targets[real.current()]
            total += real.step(int(act(here / CELL + middle, ahead, layout, target)))
        returns.append(total)
    return returns


def fast_returns(
    size: str, episodes: int, seed: int, looks_ahead: bool = False
) -> list[float]:
    """Returns in the fast one, all episodes at once."""
    env = MemoryMaze(size, 2000, seed, image=False, global_observables=True)

    play = env.teacher_action if looks_ahead else env.scripted_action

    def step(states: Any, key: Any) -> Any:
        actions = jax.vmap(play)(states.state)
        return step_envs(env, jax.random.split(key, episodes), states, actions)

    @jax.jit
    def run(key: Any) -> Any:
        keys = jax.random.split(key, env.max_episode_steps + 1)
        states = reset_envs(env, jax.random.split(keys[0], episodes))
        return jax.lax.scan(step, states, keys[1:])[0].total

    return np.asarray(run(jax.random.key(seed))).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="9x9", choices=SIZES)
    parser.add_argument("--real", type=int, default=30, help="episodes")
    parser.add_argument("--fast", type=int, default=300, help="episodes")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print("| environment | episodes | mean return | 95% interval | sd | range |")
    print("|---|---|---|---|---|---|")
    ahead = functools.partial(fast_returns, looks_ahead=True)
    plays = {"fast": fast_returns, "fast, looks ahead": ahead, "real": real_returns}
    for name, play in plays.items():
        if episodes := getattr(options, name.partition(",")[0]):
            returns = np.array(play(options.size, episodes, options.seed))
            mean, sd = returns.mean(), returns.std(ddof=1)
            half = 1.96 * sd / np.sqrt(episodes)
            print(
                f"| {name} | {episodes} | {mean:.2f} | {mean - half:.2f} to "
                f"{mean + half:.2f} | {sd:.2f} | {returns.min():.0f} to "
                f"{returns.max():.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
