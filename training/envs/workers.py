"""Environments in processes of their own, which are watched and replaced.

Importing this imports no backend: every worker does it.
"""

import contextlib
import math
import multiprocessing
import os
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from multiprocessing import connection
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector.async_vector_env import AsyncState, AsyncVectorEnv
from gymnasium.vector.utils import CloudpickleWrapper, concatenate, iterate

from training.errors import EnvironmentFault

CONTEXT = "forkserver"  # a fork of a process with TensorFlow or JAX may hang
SECONDS_TO_CLOSE = 5.0
LONGEST_WAIT = 1e6  # seconds; the system takes no number that is much greater


class SupervisedVectorEnv(AsyncVectorEnv):
    """Gymnasium's AsyncVectorEnv, in which a worker may fail.

    A worker that raises, dies or does not answer is reported, with its index, seed and
    traceback, and replaced; its episode ends there, truncated, with its last
    observation. Wrong data (`EnvironmentFault.wrong_data`) is not survived. Workers
    ignore Ctrl-C, which is the business of the process that made them, and end when
    that does, however.

    Args:
        makers: One function for each environment, that makes it.
        restarts: How many workers may be replaced, all together.
        timeout: Seconds after which a worker that does not answer counts as dead.

    Raises:
        EnvironmentFault: If an environment cannot be made, gives wrong data, or fails
            when no restart is left.
    """

    def __init__(
        self,
        makers: Sequence[Callable[[], gymnasium.Env[Any, Any]]],
        restarts: int,
        timeout: float = math.inf,
    ) -> None:
        self.allowed = restarts
        self.timeout = timeout
        self.deadlines = [math.inf] * len(makers)
        self.restarts = 0
        self.seeds: list[int | None] = [None] * len(makers)
        context = multiprocessing.get_context(CONTEXT)
        context.set_forkserver_preload([__name__])
        super().__init__(
            makers, shared_memory=False, copy=False, context=CONTEXT, worker=_work
        )

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        self._assert_is_running()
        if seed is None or isinstance(seed, int):
            seed = [None if seed is None else seed + i for i in range(self.num_envs)]
        for i, each in enumerate(seed):
            self.seeds[i] = self.seeds[i] if each is None else each
            self._send(i, "reset", {"seed": each, "options": options})
        results = []
        for i in range(self.num_envs):
            while True:
                try:
                    results.append(self._receive(i))
                    break
                except EnvironmentFault as fault:
                    again = self._replace(i, fault)
                    self._send(i, "reset", {"seed": again, "options": options})
        observations, infos = zip(*results, strict=True)
        return self._batch(observations), self._batch_infos(infos)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self._assert_is_running()
        for i, action in enumerate(iterate(self.action_space, actions)):
            self._send(i, "step", action)
        results = []
        for i in range(self.num_envs):
            try:
                results.append(self._receive(i))
            except EnvironmentFault as fault:
                self._send(i, "begin", self._replace(i, fault))
                last = list(iterate(self.observation_space, self.observations))[i]
                results.append((last, 0.0, False, True, {}))
        observations, rewards, terminated, truncated, infos = zip(*results, strict=True)
        return (
            self._batch(observations),
            np.array(rewards, np.float64),
            np.array(terminated, bool),
            np.array(truncated, bool),
            self._batch_infos(infos),
        )

    def close_extras(
        self, timeout: float | None = None, terminate: bool = False
    ) -> None:
        self._state = AsyncState.DEFAULT
        for i in range(self.num_envs if not terminate else 0):
            self._send(i, "close", None)
        deadline = time.monotonic() + (0.0 if terminate else SECONDS_TO_CLOSE)
        for process in self.processes:
            process.join(max(deadline - time.monotonic(), 0.0))
        for process in self.processes:
            if process.is_alive():
                process.kill()
            process.join()
        for pipe in self.parent_pipes:
            pipe.close()

    def _check_spaces(self) -> None:
        for i in range(self.num_envs):
            self._send(i, "spaces", None)
        mine = self.single_observation_space, self.single_action_space
        for i in range(self.num_envs):
            found = self._receive(i)
            if found != mine:
                raise ValueError(
                    f"All environments must have the same spaces, {mine}. Received: "
                    f"environment {i} with {found}"
                )

    def _send(self, i: int, command: str, data: Any) -> None:
        # A worker that is gone is noticed when its answer is read.
        with contextlib.suppress(OSError):
            self.parent_pipes[i].send((command, data))
        self.deadlines[i] = time.monotonic() + self.timeout

    def _receive(self, i: int) -> Any:
        left = max(self.deadlines[i] - time.monotonic(), 0.0)
        try:
            if not self.parent_pipes[i].poll(left if left < LONGEST_WAIT else None):
                raise EnvironmentFault(
                    f"Environment {i} (last seeded with {self.seeds[i]}): its process "
                    f"{self.processes[i].pid} has not answered for {self.timeout:g} "
                    "seconds (worker_timeout)."
                )
            result, fault = self.parent_pipes[i].recv()
        except (EOFError, OSError):
            process = self.processes[i]
            process.join(SECONDS_TO_CLOSE)
            raise EnvironmentFault(
                f"Environment {i} (last seeded with {self.seeds[i]}): its process "
                f"{process.pid} died with exit code {process.exitcode}."
            ) from None
        if fault is not None:
            raise EnvironmentFault(*fault)
        return result

    def _replace(self, i: int, fault: EnvironmentFault) -> int:
        """Starts another worker; returns the seed it shall begin with."""
        if fault.wrong_data:
            raise fault
        if self.restarts == self.allowed:
            raise EnvironmentFault(
                f"{fault}\nNo restart is left (worker_restarts={self.allowed})."
            ) from fault
        self.restarts += 1
        warnings.warn(
            f"{fault}\nIts worker is replaced and its episode ends here, truncated; "
            f"restarts left: {self.allowed - self.restarts}.",
            RuntimeWarning,
            stacklevel=3,
        )
        if self.processes[i].is_alive():
            self.processes[i].kill()
        self.processes[i].join()
        self.parent_pipes[i].close()
        context = multiprocessing.get_context(CONTEXT)
        self.parent_pipes[i], theirs = context.Pipe()
        self.processes[i] = context.Process(
            target=_work,
            args=(i, CloudpickleWrapper(self.env_fns[i]), theirs, self.parent_pipes[i]),
            daemon=True,
        )
        self.processes[i].start()
        theirs.close()
        entropy = [self.seeds[i] or 0, self.restarts]
        self.seeds[i] = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        return self.seeds[i] or 0

    def _batch(self, observations: Any) -> Any:
        """A new batch: the one before stays what it was."""
        fresh = gymnasium.vector.utils.create_empty_array(
            self.single_observation_space, self.num_envs
        )
        self.observations = concatenate(
            self.single_observation_space, observations, fresh
        )
        return self.observations

    def _batch_infos(self, infos: Any) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for i, info in enumerate(infos):
            result = self._add_info(result, info, i)
        return result


def _work(index: int, make: Any, pipe: Any, parent_pipe: Any, *unused: Any) -> None:
    """The loop of a worker: answers `(result, None)` or `(None, fault)`."""
    parent_pipe.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    worker = _Worker(make)
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        while True:
            command, data = pipe.recv()
            if command == "close":
                break
            try:
                answer = getattr(worker, command)(data), None
            except EnvironmentFault as fault:
                answer = None, fault.args
            except Exception:
                text = f"Environment {index} raised:\n{traceback.format_exc()}"
                answer = None, (text, False)
            if command != "begin":
                pipe.send(answer)
    worker.close()


class _Worker:
    """An environment that is made when it is first needed, and resets itself."""

    def __init__(self, make: Any) -> None:
        self.make = make
        self.env: Any = None
        self.over = False
        self.seed: int | None = None

    def spaces(self, _: Any) -> Any:
        self._open()
        return self.env.observation_space, self.env.action_space

    def begin(self, seed: int) -> None:
        """The next step begins an episode with this seed."""
        self.over, self.seed = True, seed

    def reset(self, arguments: Any) -> Any:
        self._open()
        self.over, self.seed = False, None
        return self.env.reset(**arguments)

    def step(self, action: Any) -> Any:
        self._open()
        if self.over:
            seed, self.over, self.seed = self.seed, False, None
            observation, info = self.env.reset(seed=seed)
            return observation, 0.0, False, False, info
        result = self.env.step(action)
        self.over = bool(result[2] or result[3])
        return result

    def close(self) -> None:
        if self.env is not None:
            self.env.close()

    def _open(self) -> None:
        if self.env is None:
            self.env = self.make()


def _end_with_parent() -> None:
    """Ends this process as soon as its parent is gone, also in the middle of a step."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
