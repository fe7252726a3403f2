"""The simulator of Memory Maze: memory-maze's own, made faster."""

import ctypes
import ctypes.util
import importlib
import importlib.util
import logging
import os
import sys
import types
from typing import Any


class Maze:
    """The simulator of one maze, in this process."""

    def __init__(self, size: str) -> None:
        self.size = size
        self.tasks = import_tasks()
        self.env: Any = None

    def reset(self, seed: int | None) -> Any:
        if seed is not None:
            self.close()
            self.env = make_maze(self.tasks, self.size, seed % 2**32)
        return self.env.reset().observation

    def step(self, action: int) -> tuple[Any, float, bool, bool]:
        time_step = self.env.step(action)
        terminated = bool(time_step.last() and time_step.discount == 0.0)
        truncated = bool(time_step.last() and not terminated)
        reward = float(time_step.reward)
        return time_step.observation, reward, terminated, truncated

    def close(self) -> None:
        if self.env is not None:
            self.env.close()
            self.env = None


def import_tasks() -> Any:
    """The module `memory_maze.tasks`.

    `import memory_maze` itself needs the old gym, to register there; its tasks need
    the package's folder alone.
    """
    choose_renderer()
    package = sys.modules.get("memory_maze")
    if package is None:
        package = types.ModuleType("memory_maze")
        spec = importlib.util.find_spec("memory_maze")
        package.__path__ = list(spec.submodule_search_locations or ()) if spec else []
        sys.modules["memory_maze"] = package
        try:
            return _import_tasks()
        finally:
            del sys.modules["memory_maze"]
    return _import_tasks()


def _import_tasks() -> Any:
    try:
        importlib.import_module("dm_control._render")
    except Exception as error:
        raise RuntimeError(cannot_draw()) from error
    logging.getLogger("absl").addFilter(
        lambda record: "Entity with no free joint" not in record.getMessage()
    )
    return importlib.import_module("memory_maze.tasks")


def cannot_draw() -> str:
    return (
        "Memory Maze cannot draw: MuJoCo found no working OpenGL. On Debian: "
        "`apt-get install -y libegl1 libosmesa6`, then MUJOCO_GL=egl (with or without "
        "a GPU) or MUJOCO_GL=osmesa (without one). Received: MUJOCO_GL="
        f"{os.environ.get('MUJOCO_GL')!r}"
    )


def choose_renderer() -> None:
    """Sets MUJOCO_GL, where nobody has, to what works without a screen."""
    if os.environ.get("MUJOCO_GL") or sys.platform != "linux":
        return
    if has_egl_device():
        os.environ["MUJOCO_GL"] = "egl"
    elif ctypes.util.find_library("OSMesa"):
        os.environ["MUJOCO_GL"] = "osmesa"
    else:
        raise RuntimeError(cannot_draw())


def has_egl_device() -> bool:
    try:
        egl = ctypes.CDLL("libEGL.so.1")
    except OSError:
        return False
    egl.eglGetProcAddress.argtypes = [ctypes.c_char_p]
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    address = egl.eglGetProcAddress(b"eglQueryDevicesEXT")
    if not address:
        return False
    integer, pointer = ctypes.c_int, ctypes.c_void_p
    query = ctypes.CFUNCTYPE(ctypes.c_uint, integer, pointer, pointer)(address)
    number = integer()
    return bool(query(0, None, ctypes.byref(number)) and number.value)


def make_maze(tasks: Any, size: str, seed: int) -> Any:
    """memory-maze's own dm_env environment, with its slow parts replaced.

    They are replaced in this one maze, before its first model is compiled: the
    classes, and mazes that others make, stay as they are.
    """
    composer = tasks.composer

    def make_environment(task: Any, **arguments: Any) -> Any:
        speed_up(task)
        return composer.Environment(task=task, **arguments)

    tasks.composer = types.SimpleNamespace(Environment=make_environment)
    try:
        make = getattr(tasks, f"memory_maze_{size}")
        return make(seed=seed, image_only_obs=True)
    finally:
        tasks.composer = composer


def speed_up(task: Any) -> None:
    for target in task._targets:
        target._update_activation = types.MethodType(_update_activation, target)
    camera = task._walker.observables.egocentric_camera
    camera._callable = types.MethodType(_make_camera, camera)
    for name, observable in task.observables.items():
        observable.enabled = observable is camera or name == "target_color"
    _share_textures(task._maze_arena)


def _update_activation(target: Any, physics: Any) -> None:
    """`TargetSphere._update_activation` without its loop over contacts."""
    if not target._activated and (physics.data.contact.geom == target._geom_id).any():
        target._activated = True
        physics.bind(target._material).rgba[-1] = 0


def _make_camera(observable: Any, physics: Any) -> Any:
    """`MJCFCamera._callable` with one scene an episode, not one an image."""
    from dm_control.mujoco.engine import Camera

    name = observable._mjcf_element.full_identifier
    camera = Camera(physics, observable.height, observable.width, name)
    return lambda: camera.render().copy()


def _share_textures(arena: Any) -> None:
    """Eight wall textures instead of ten copies of the same eight.

    Every model of an episode loads them all.
    """
    from dm_control.locomotion.arenas.labmaze_textures import WallTextures

    shared = arena._wall_textures["0"]
    for entity in list(arena.iter_entities(exclude_self=True)):
        many = isinstance(entity, WallTextures) and len(entity.textures) > 1
        if many and entity.textures is not shared:
            entity.detach()
    for char, textures in arena._wall_textures.items():
        if len(textures) > 1:
            arena._wall_textures[char] = shared
