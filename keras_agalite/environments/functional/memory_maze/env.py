"""Memory Maze as pure functions."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from keras_agalite.environments._checks import check_integer
from keras_agalite.environments.functional.memory_maze import (
    camera,
    explorer,
    images,
    textures,
)
from keras_agalite.environments.functional.memory_maze.layouts import (
    MAX_ROOMS,
    SIZES,
    Layouts,
    make_layouts,
    to_words,
)
from keras_agalite.environments.functional.memory_maze.motion import CELL, Body, move
from keras_agalite.environments.functional.memory_maze.scripted import scripted_action
from keras_agalite.environments.functional.protocol import (
    FunctionalEnv,
    TeacherTargets,
)

TEACHERS = ("explorer", "ahead", "shortest")
# Images drawn at once on a device; on a CPU it is one, which fits its cache.
CHUNK = 1024


class MemoryMazeState(NamedTuple):
    """The state of one maze.

    Attributes:
        body: The walker.
        layout: Number of the layout.
        blocks: Texture of the walls of each block of 3 by 3, int32 of shape `(9,)`.
        targets: x and y of the targets, m, float32 of shape `(targets, 2)`.
        target: Number of the target asked for.
    """

    body: Body
    layout: Any
    blocks: Any
    targets: Any
    target: Any


class MemoryMaze(FunctionalEnv):
    """Memory Maze (Pasukonis et al., ICLR 2023), thousands of mazes at once.

    A re-implementation of memory-maze 1.0.3: the same layouts, MuJoCo's contacts
    for its walker, and its images but for rounding and filtering.
    docs/memory_maze.md has what was measured.

    Observation: uint8 of shape `(64, 64, 3)`, or a dict of it and of positions.
    Actions: the six of memory-maze.

    Args:
        size: "9x9", "11x11", "13x13" or "15x15".
        num_layouts: Number of layouts in the pool; an episode draws one of them.
            labmaze makes two to four thousand a second.
        seed: Seed of the pool. The layouts are the first that memory-maze's
            environment with this seed comes to.
        samples: Rays of a pixel: 1, 2 or 4.
        texture_size: Side of the largest textures: a power of two, at most 1024.
        image: Whether images are observed.
        global_observables: Whether positions are observed too, as those of
            memory-maze's argument of this name, in float32. The observation is then a
            dict; the image has the key `image`.
        teacher: Who the teacher is: "explorer" knows only what has been in view since
            the episode began, and its belief can be asked of a memory; "shortest"
            sees the whole maze and goes the shortest way; "ahead" sees it too, and
            walks on to places in view alone.
        layouts: A pool to use instead of one that is made.
        atlas: Textures to use instead of labmaze's.

    Raises:
        ImportError: If labmaze or Pillow is missing; the message has the pip command.
        ValueError: If an argument is none of those.

    Example:
        >>> envs = keras_agalite.environments.make_vec("fast_memory_maze_9x9", 64)
        >>> observations, _ = envs.reset(seed=0)  # uint8 of shape (64, 64, 64, 3)
    """

    def __init__(
        self,
        size: str = "9x9",
        num_layouts: int = 10_000,
        seed: int = 0,
        samples: int = 2,
        texture_size: int = 512,
        image: bool = True,
        global_observables: bool = False,
        teacher: str = "explorer",
        layouts: Layouts | None = None,
        atlas: textures.Atlas | None = None,
    ) -> None:
        _check(size, num_layouts, seed, samples, texture_size, teacher)
        if not image and not global_observables:
            raise ValueError(
                "`image` must be True where `global_observables` is not. Received: "
                f"image={image!r}"
            )
        self.size = size
        self.cells, self.num_targets, self.max_episode_steps = SIZES[size][:3]
        self.samples = samples
        self.texture_size = texture_size
        self.image = image
        self.global_observables = global_observables
        self.teacher = teacher
        if teacher == "explorer":
            self.teacher_targets = self._belief_targets
        if layouts is None:
            layouts = make_layouts(size, num_layouts, seed)
        self.layouts = layouts
        self.num_layouts = len(layouts.walls)
        self.rows = to_words(layouts.walls)
        self.columns = to_words(layouts.walls.swapaxes(1, 2))
        self.rooms = to_words(layouts.rooms)
        self.atlas = atlas
        self.action_space = spaces.Discrete(6)
        self.observation_space = self._make_space()

    def _make_space(self) -> spaces.Space[Any]:
        picture = spaces.Box(0, 255, (camera.SIZE, camera.SIZE, 3), np.uint8)
        if not self.global_observables:
            return picture

        def box(*shape: int, limit: float = np.inf) -> spaces.Box:
            return spaces.Box(-limit, limit, shape, np.float32)

        inner, number = self.cells - 2, self.num_targets
        parts: dict[str, spaces.Space[Any]] = {"image": picture} if self.image else {}
        return spaces.Dict(
            {
                **parts,
                "agent_pos": box(2),
                "agent_dir": box(2, limit=1.0),
                "targets_pos": box(number, 2),
                "targets_vec": box(number, 2),
                "target_pos": box(2),
                "target_vec": box(2),
                "maze_layout": spaces.Box(0, 1, (inner, inner), np.uint8),
                "target_color": box(3, limit=1.0),
            }
        )

    def reset(self, key: Any) -> MemoryMazeState:
        keys = jax.random.split(key, 6)
        layout = jax.random.randint(keys[0], (), 0, self.num_layouts)
        number = jnp.asarray(self.layouts.num_objects)[layout]
        # The places of the targets are the first of a random order.
        score = jax.random.uniform(keys[1], (MAX_ROOMS,)) + 1.0 * (
            jnp.arange(MAX_ROOMS) >= number
        )
        chosen = jnp.argsort(score)[: self.num_targets]
        targets = self._place(jnp.asarray(self.layouts.objects)[layout][chosen])
        spawn = jax.random.randint(
            keys[2], (), 0, jnp.asarray(self.layouts.num_spawns)[layout]
        )
        x, y = self._place(jnp.asarray(self.layouts.spawns)[layout][spawn])
        heading = jax.random.uniform(keys[3], (), minval=-math.pi, maxval=math.pi)
        zero = jnp.zeros(())
        body = Body(x, y, zero, heading, zero, zero, zero, zero, zero)
        return MemoryMazeState(
            body,
            layout,
            jax.random.randint(keys[4], (9,), 0, textures.NUM_WALLS),
            targets,
            jax.random.randint(keys[5], (), 0, self.num_targets),
        )

    def _place(self, cell: Any) -> Any:
        """x and y in m of the middle of cells, given by row and column."""
        middle = (self.cells - 1) / 2
        x, y = cell[..., 1] - middle, middle - cell[..., 0]
        return CELL * jnp.stack([x, y], -1).astype(jnp.float32)

    def step(self, key: Any, state: MemoryMazeState, action: Any) -> Any:
        words = jnp.asarray(self.rows)[state.layout]
        body, touched = move(state.body, action, words, state.targets)
        found = touched[state.target]
        # Any other: what was just found is still touched.
        more = jax.random.randint(key, (), 1, self.num_targets)
        following = (state.target + more) % self.num_targets
        target = jnp.where(found, following, state.target)
        state = state._replace(body=body, target=target)
        return state, found.astype(jnp.float32), jnp.bool_(False), {}

    def initial_teacher_state(self) -> Any:
        """What the explorer knows at first; the other teachers carry nothing."""
        if self.teacher != "explorer":
            return ()
        return explorer.initial_belief(self.cells - 2, self.num_targets)

    def teacher_action(
        self, state: MemoryMazeState, teacher_state: Any, start: Any
    ) -> tuple[Any, Any]:
        """The action of the player that the argument `teacher` names."""
        seen = self._measure(state)
        pose, maze = (seen["agent_pos"], seen["agent_dir"]), seen["maze_layout"]
        if self.teacher == "explorer":
            belief = explorer.update_belief(
                teacher_state, *pose, maze, seen["targets_pos"], start
            )
            return explorer.explorer_action(belief, *pose, state.target), belief
        looks_ahead = self.teacher == "ahead"
        action = scripted_action(*pose, maze, seen["target_pos"], looks_ahead)
        return action, teacher_state

    def _belief_targets(
        self, state: MemoryMazeState, teacher_state: explorer.Belief
    ) -> TeacherTargets:
        seen = self._measure(state)
        return explorer.belief_targets(
            teacher_state, seen["agent_pos"], seen["agent_dir"]
        )

    def observe(self, state: MemoryMazeState) -> Any:
        return jax.tree.map(
            lambda x: x[0], self.observe_all(jax.tree.map(lambda x: x[None], state))
        )

    def observe_all(self, states: MemoryMazeState) -> Any:
        if not self.global_observables:
            return self._draw_all(states)
        observation = jax.vmap(self._measure)(states)
        if self.image:
            observation["image"] = self._draw_all(states)
        return observation

    def _draw_all(self, states: MemoryMazeState) -> Any:
        atlas = self.atlas or textures.load_atlas(self.texture_size)
        number, samples = len(states.layout), self.samples
        scenes = jax.vmap(self.scene)(states)
        texels = jnp.asarray(atlas.texels)
        # Outside of the loop below, whose body XLA would fuse it into: for each pixel.
        walls = jax.vmap(images.look)(scenes)
        views = camera.make_views(samples)
        total = jax.lax.map(
            lambda x: images.draw(x[0], x[1], atlas, texels, views),
            (scenes, walls),
            batch_size=None if jax.default_backend() == "cpu" else min(CHUNK, number),
        )
        return images.finish(total, samples, states.target)

    def scene(self, state: MemoryMazeState) -> images.Scene:
        """What the camera of a maze sees, in cells."""
        body, middle = state.body, self.cells / 2
        cos, sin = jnp.cos(body.heading), jnp.sin(body.heading)
        x, y = body.x + camera.AHEAD * cos, body.y + camera.AHEAD * sin
        return images.Scene(
            x / CELL + middle,
            middle - y / CELL,
            (camera.HEIGHT + body.height) / CELL,
            cos,
            sin,
            jnp.asarray(self.rows)[state.layout],
            jnp.asarray(self.columns)[state.layout],
            jnp.asarray(self.rooms)[state.layout],
            state.blocks,
            state.targets / CELL * jnp.array([1.0, -1.0]) + middle,
        )

    def _measure(self, state: MemoryMazeState) -> dict[str, Any]:
        """The observables of positions: in cells, the south-west inner corner is 0."""
        body, inner = state.body, self.cells - 2
        cos, sin = jnp.cos(body.heading), jnp.sin(body.heading)
        here = jnp.stack([body.x, body.y])
        away = (state.targets - here) / CELL
        ahead = away @ jnp.stack([cos, sin])
        right = away @ jnp.stack([sin, -cos])
        vectors = jnp.stack([right, ahead], -1)
        places = state.targets / CELL + inner / 2
        walls = jnp.asarray(self.rows)[state.layout][1:-1, None]
        bits = (walls >> jnp.arange(1, inner + 1, dtype=jnp.uint32)) & 1
        return {
            "agent_pos": here / CELL + inner / 2,
            "agent_dir": jnp.stack([cos, sin]),
            "targets_pos": places,
            "targets_vec": vectors,
            "target_pos": places[state.target],
            "target_vec": vectors[state.target],
            "maze_layout": (1 - bits)[::-1].astype(jnp.uint8),
            "target_color": jnp.asarray(images.COLORS / 220)[state.target],
        }


def _check(
    size: str,
    num_layouts: int,
    seed: int,
    samples: int,
    texture_size: int,
    teacher: str,
) -> None:
    if size not in SIZES:
        raise ValueError(
            f"`size` must be one of {', '.join(SIZES)}. Received: size={size!r}"
        )
    check_integer("num_layouts", num_layouts)
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise ValueError(
            f"`seed` must be an integer from 0 to 2**32 - 1. Received: seed={seed!r}"
        )
    if samples not in camera.PLACES:
        raise ValueError(f"`samples` must be 1, 2 or 4. Received: samples={samples!r}")
    if texture_size not in [2**k for k in range(11)]:
        raise ValueError(
            "`texture_size` must be a power of two, at most 1024. Received: "
            f"texture_size={texture_size!r}"
        )
    if teacher not in TEACHERS:
        raise ValueError(
            f"`teacher` must be one of {', '.join(TEACHERS)}. Received: "
            f"teacher={teacher!r}"
        )
