"""Environments stepped one after another, which are watched while they work."""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
from gymnasium.vector import SyncVectorEnv

from training.envs.checks import CheckedEnv
from training.runs.tell import tell

MESSAGE = (
    "{where}: it has been at work for {seconds:g} seconds (worker_timeout), and is "
    'waited for. With vectorization_mode = "async" it would be replaced.'
)


class WatchedVectorEnv(SyncVectorEnv):
    """Gymnasium's SyncVectorEnv, which says what it waits for.

    A reset or step that does not end is told on stderr, once: in this process it can
    be stopped only with the run.

    Args:
        makers: One function for each environment, that makes it, as a `CheckedEnv`.
        timeout: Seconds after which it is told.
    """

    def __init__(
        self,
        makers: Sequence[Callable[[], gymnasium.Env[Any, Any]]],
        timeout: float,
    ) -> None:
        super().__init__(makers)
        self.timeout = timeout
        self._over = threading.Event()
        threading.Thread(
            target=_watch, args=(self.envs, timeout, self._over), daemon=True
        ).start()

    def close_extras(self, **kwargs: Any) -> None:
        self._over.set()
        super().close_extras(**kwargs)


def _watch(envs: Sequence[Any], timeout: float, over: threading.Event) -> None:
    told = None
    while not over.wait(min(max(timeout / 4, 0.05), 60.0)):
        for env in envs:
            since = env.busy_since if isinstance(env, CheckedEnv) else None
            if since is None or since == told or time.monotonic() - since < timeout:
                continue
            told = since
            text = MESSAGE.format(where=env.where(), seconds=timeout)
            tell(text, sys.stderr)
