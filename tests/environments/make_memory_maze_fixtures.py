"""Records the real Memory Maze for the tests of the fast one.

`python -m tests.environments.make_memory_maze_fixtures FOLDER [PART ...]` needs
memory-maze and something to draw with. The parts: layouts, images, floor, flat, walls,
roam; a file each.
"""

import argparse
import itertools
import pathlib
from typing import Any

import numpy as np

from keras_agalite.environments._maze import import_tasks, make_maze
from keras_agalite.environments.functional.memory_maze.layouts import SIZES
from keras_agalite.environments.functional.memory_maze.textures import wall_names

COMMANDS = ((0, 0), (-1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1))
# A policy's habits: forward more often than not, each action for one to five steps.
WALK = (0.05, 0.4, 0.1, 0.1, 0.175, 0.175)
REST = -0.0004  # height of the resting ball, m


class Real:
    """memory-maze's environment, its joints and its camera."""

    def __init__(self, size: str, seed: int, camera: bool = False) -> None:
        self.size = size
        self.env = make_maze(import_tasks(), size, seed)
        while hasattr(self.env, "env"):
            self.env = self.env.env
        self.task = self.env.task
        for observable in self.task.observables.values():
            observable.enabled = False
        self.task._task_observables["target_index"].enabled = True
        self.camera = camera

    def reset(self) -> None:
        self.env.reset()
        self.physics = self.env.physics
        self.model, self.data = self.physics.model.ptr, self.physics.data.ptr
        assert self.model.nv == 5

    def step(self, action: int) -> float:
        return float(self.env.step(np.array(COMMANDS[action], float)).reward)

    def state(self) -> np.ndarray:
        return np.concatenate([self.data.qpos, self.data.qvel])

    def pose(self, x: float, y: float, heading: float) -> None:
        with self.physics.reset_context():
            self.data.qpos[:] = (x, y, REST, -heading, 0)
            self.data.qvel[:] = 0

    def draw(self) -> np.ndarray:
        return self.physics.render(64, 64, camera_id="walker/egocentric")

    def target_pixels(self, image: np.ndarray) -> int:
        """How many pixels the targets change by more than 16."""
        bound = [self.physics.bind(t._material) for t in self.task._targets]
        for material in bound:
            material.rgba[-1] = 0
        without = self.draw()
        for material in bound:
            material.rgba[-1] = 1
        change = np.abs(image.astype(int) - without)[2:-2, 2:-2].max(-1)
        return int((change > 16).sum())

    def maze(self) -> np.ndarray:
        return np.array(self.task._maze_arena.maze.entity_layer)

    def rooms(self) -> np.ndarray:
        return np.array(self.task._maze_arena.maze.variations_layer)

    def blocks(self) -> list[int]:
        names, chosen = wall_names(), self.task._maze_arena._current_wall_texture
        return [names.index(chosen[str(k)].name) for k in range(9)]

    def targets(self) -> np.ndarray:
        return np.array([self.physics.bind(t.geom).xpos for t in self.task._targets])

    def current(self) -> int:
        return int(self.task._current_target_ix)


def is_free(walls: np.ndarray, x: float, y: float, margin: float) -> bool:
    """Whether a ball of this radius touches no wall."""
    middle = (len(walls) - 1) / 2
    row, column = middle - y / 2, x / 2 + middle
    for i, j in itertools.product(*(range(len(walls)),) * 2):
        if walls[i, j]:
            dx, dy = max(abs(column - j) - 0.5, 0), max(abs(row - i) - 0.5, 0)
            if np.hypot(dx, dy) * 2 < margin:
                return False
    return True


def random_pose(random: Any, walls: np.ndarray, near: bool) -> tuple[float, ...]:
    """A free pose; where `near`, within 2 cm of a wall and facing it."""
    limit = len(walls) - 2
    while True:
        x, y = random.uniform(-limit, limit, 2)
        heading = random.uniform(-np.pi, np.pi)
        if not is_free(walls, x, y, 0.2):
            continue
        if not near:
            return x, y, heading
        ahead = np.array([np.cos(heading), np.sin(heading)])
        if not is_free(walls, *(np.array([x, y]) + 0.02 * ahead), 0.2):
            return x, y, heading


def record_layouts(resets: int = 20) -> dict[str, Any]:
    """The first layouts of an environment seeded with 17, for each size."""
    record = {}
    for size in SIZES:
        real, mazes, rooms = Real(size, 17), [], []
        for _ in range(resets):
            real.reset()
            mazes.append(real.maze())
            rooms.append(real.rooms())
        record[f"{size}_maze"], record[f"{size}_rooms"] = mazes, rooms
    return record


def record_images(mazes: int = 5, poses: int = 8, near: int = 2) -> dict[str, Any]:
    """Images at random poses, and with the nose to a wall; states, not velocities."""
    record: dict[str, Any] = {}
    random = np.random.default_rng(1)
    for size in SIZES:
        real = Real(size, 23, camera=True)
        rows: dict[str, list[Any]] = {}
        for k in range(mazes):
            real.reset()
            walls = ~np.isin(real.maze(), list(" PG"))
            shots = []
            for index in range(poses + near):
                real.pose(*random_pose(random, walls, index >= poses))
                eye = real.data.cam("walker/egocentric")
                image = real.draw()
                shots.append(
                    {
                        "image": image,
                        "state": real.state()[:5],
                        "eye": np.array(eye.xpos),
                        "pixels": real.target_pixels(image),
                        "episode": k,
                    }
                )
            for key in shots[0]:
                rows.setdefault(key, []).extend(shot[key] for shot in shots)
            rows.setdefault("maze", []).append(real.maze())
            rows.setdefault("rooms", []).append(real.rooms())
            rows.setdefault("blocks", []).append(real.blocks())
            rows.setdefault("targets", []).append(real.targets())
        record.update({f"{size}_{key}": value for key, value in rows.items()})
    return record


def policy_like(random: Any, steps: int) -> np.ndarray:
    actions: list[int] = []
    while len(actions) < steps:
        actions += [int(random.choice(6, p=WALK))] * int(random.integers(1, 6))
    return np.array(actions[:steps], np.int8)


def replay(real: Real, actions: np.ndarray) -> np.ndarray:
    states = [real.state()]
    for action in actions:
        real.step(action)
        states.append(real.state())
    return np.array(states)


def record_floor(sequences: int = 20, steps: int = 100) -> dict[str, Any]:
    """Walks where no walls are: uniformly random, then policy-like."""
    random, real = np.random.default_rng(2), Real("9x9", 5)
    real.reset()
    wall = [real.model.geom(i).name.startswith("wall") for i in range(real.model.ngeom)]
    real.model.geom_contype[wall] = real.model.geom_conaffinity[wall] = 0
    actions, states = [], []
    for k in range(sequences):
        real.pose(0, 0, random.uniform(-np.pi, np.pi))
        uniform = random.integers(6, size=steps).astype(np.int8)
        actions.append(uniform if k < sequences // 2 else policy_like(random, steps))
        states.append(replay(real, actions[-1]))
    return {"actions": actions, "states": np.array(states, np.float32)}


def record_flat(steps: int = 24) -> dict[str, Any]:
    """Forward against a long wall, 0.45 m from it, at angles to its normal."""
    import mujoco

    real, angles, states = Real("9x9", 5), (0, 10, 30, 45, 60, 80), []
    real.reset()
    model = real.model
    walls = [i for i in range(model.ngeom) if model.geom(i).name.startswith("wall")]
    model.geom_contype[walls] = model.geom_conaffinity[walls] = 0
    # One box instead of all: its north side is at y = -9. Without the tree of boxes,
    # which knows the old ones.
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_MIDPHASE
    box = next(i for i in walls if model.geom_type[i] == 6)
    model.geom_contype[box] = model.geom_conaffinity[box] = 1
    model.geom_pos[box], model.geom_size[box] = (0, -10, 0.75), (30, 1, 0.75)
    model.geom_aabb[box], model.geom_rbound[box] = (0, 0, 0, 30, 1, 0.75), 31
    for angle in angles:
        real.pose(-4, -9 + 0.2 + 0.45, np.radians(angle - 90))
        states.append(replay(real, np.ones(steps, int)))
    return {"angles": angles, "states": np.array(states, np.float32)}


def record_walls(size: str = "9x9", sequences: int = 30, steps: int = 100) -> Any:
    """Walks in mazes from an episode's start: two policy-like, one uniform, ..."""
    random, real = np.random.default_rng(3), Real(size, 7)
    actions, states, mazes = [], [], []
    for k in range(sequences):
        if k % 3 == 0:
            real.reset()
        x, y, heading = random_pose(random, ~np.isin(real.maze(), list(" PG")), False)
        real.pose(x, y, heading)
        uniform = random.integers(6, size=steps).astype(np.int8)
        actions.append(uniform if k % 3 == 2 else policy_like(random, steps))
        states.append(replay(real, actions[-1]))
        mazes.append(real.maze())
    return {
        "maze": mazes,
        "actions": actions,
        "states": np.array(states, np.float32),
    }


def record_roam(sequences: int = 200, steps: int = 500) -> dict[str, Any]:
    """Policy-like walks in many mazes; positions in mm."""
    random, real = np.random.default_rng(4), Real("9x9", 11)
    actions, starts, places, mazes = [], [], [], []
    for k in range(sequences):
        if k % 4 == 0:
            real.reset()
        real.pose(*random_pose(random, ~np.isin(real.maze(), list(" PG")), False))
        starts.append(real.state())
        actions.append(policy_like(random, steps))
        states = replay(real, actions[-1])
        places.append(np.rint(1000 * states[:, :2]).astype(np.int16))
        mazes.append(real.maze())
    return {
        "maze": mazes,
        "actions": actions,
        "starts": np.array(starts, np.float32),
        "places": places,
    }


def main() -> None:
    parts = {
        "layouts": record_layouts,
        "images": record_images,
        "floor": record_floor,
        "flat": record_flat,
        "walls": record_walls,
        "roam": record_roam,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("parts", nargs="*", metavar="PART", help="default: all")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for part in options.parts or parts:
        record = {key: np.array(value) for key, value in parts[part]().items()}
        path = options.folder / f"{part}.npz"
        np.savez_compressed(path, **record)
        print(f"{path}: {path.stat().st_size / 1e3:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
