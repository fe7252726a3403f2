"""What a policy's memory is worth: its returns with the memory emptied now and then.

`KERAS_BACKEND=jax python -m benchmarks.memory_maze_forgetting [PRESET]
[--environment fast_memory_maze_9x9] [--every 200 50 1] [--memoryless PRESET]
[--episodes 64] [--json FILE] [--plot FILE]`. Each row plays the same episodes; the
first never empties it, and the last is a policy that was trained without one. Returns
are also given by quarter of the episode: who remembers a maze finds the next target
sooner.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import keras_agalite
from keras_agalite.evaluation import Step, rollout
from training.analysis.estimates import mean_interval

QUARTERS = 4
EMPTIED = {0: "never", 1: "before every step"}


class Forgetful:
    """A policy whose memory is emptied before every step whose number `every` divides.

    Args:
        policy: The policy.
        every: Steps from one emptying to the next; 0: it is never emptied.
    """

    def __init__(self, policy: Any, every: int) -> None:
        self.policy = policy
        self.every = every
        self.step = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.policy, name)

    def initial_state(self, batch_size: int) -> Any:
        self.step = 0
        return self.policy.initial_state(batch_size)

    def act(self, observation: Any, state: Any, **arguments: Any) -> Any:
        start = None
        if self.every and self.step % self.every == 0:
            start = np.ones(len(state[0]), bool)
        self.step += 1
        return self.policy.act(observation, state, start, **arguments)


def play(
    policy: Any, environment: str, arguments: dict[str, Any], episodes: int, seed: int
) -> np.ndarray:
    """The rewards of each episode by quarter, of shape `(episodes, 4)`."""
    batches: list[list[np.ndarray]] = []
    running = np.zeros(0, bool)

    def keep(step: Step) -> None:
        nonlocal running
        if step.reward is None:
            batches.append([])
        else:  # rows that were done before this step play another episode
            batches[-1].append(np.where(running, step.reward, 0.0))
        running = step.running

    rollout(
        policy,
        environment,
        episodes,
        seed,
        environment_arguments=arguments,
        on_step=keep,
    )
    parts = [
        np.stack([q.sum(0) for q in np.array_split(np.stack(batch), QUARTERS)], -1)
        for batch in batches
    ]
    return np.concatenate(parts)[:episodes].astype(float)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("preset", nargs="?", default="memory_maze_9x9")
    parser.add_argument("--environment", default="fast_memory_maze_9x9")
    parser.add_argument("--every", type=int, nargs="+", default=[200, 50, 1])
    parser.add_argument("--memoryless", metavar="PRESET", help="trained without one")
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--seed", type=int, default=4_000_000)
    parser.add_argument("--layouts", type=int, default=20_000)
    parser.add_argument("--json", type=Path, help="write the rows")
    parser.add_argument("--plot", type=Path, help="draw returns by quarter")
    options = parser.parse_args()
    load = keras_agalite.MemoryPolicy.from_preset
    policy = load(options.preset)
    players = {
        EMPTIED.get(every, f"every {every} steps"): Forgetful(policy, every)
        for every in (0, *options.every)
    }
    if options.memoryless:
        players["trained without"] = load(options.memoryless)
    # Layouts of a pool that training does not use.
    arguments = {"num_layouts": options.layouts, "seed": 1}
    rows = []
    print("| emptied | mean return | 95% interval | by quarter of the episode |")
    print("|---|---|---|---|")
    for name, player in players.items():
        rewards = play(
            player,
            options.environment,
            arguments,
            options.episodes,
            options.seed,
        )
        returns, quarters = rewards.sum(1), rewards.mean(0)
        low, high = mean_interval(returns)
        print(
            f"| {name} | {returns.mean():.2f} | {low:.2f} to {high:.2f} | "
            f"{', '.join(f'{x:.2f}' for x in quarters)} |",
            flush=True,
        )
        rows.append(
            {
                "emptied": name,
                "returns": returns.tolist(),
                "quarters": quarters.tolist(),
            }
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    if options.plot:
        plot(rows, options.plot)


def plot(rows: list[dict[str, Any]], file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        axes.plot(range(1, QUARTERS + 1), row["quarters"], "o-", label=row["emptied"])
    axes.set_xticks(range(1, QUARTERS + 1))
    axes.set_xlabel("quarter of the episode")
    axes.set_ylabel("targets found")
    axes.set_ylim(bottom=0)
    axes.legend(title="memory emptied", frameon=False)
    figure.savefig(file, dpi=100)


if __name__ == "__main__":
    main()
