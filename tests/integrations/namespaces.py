"""Programs in a network of their own, of which nothing is left when they end."""

import functools
import os
import secrets
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Its own processes and network; with the test, or the first process, all others end.
NAMESPACE = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"),
    *("sh", "-c", 'ip link set lo up && exec "$@"', "sh"),
)


@functools.cache
def refusal():
    """Why this machine gives us no namespace; empty if it does."""
    try:
        result = subprocess.run(
            [*NAMESPACE, "true"], capture_output=True, text=True, check=False
        )
    except OSError as error:
        return str(error)
    return result.stderr.strip() if result.returncode else ""


def run_alone(*command, timeout=170, cwd=ROOT):
    """What a program prints that may start Ray, which listens on every address.

    It sees loopback alone, its Ray wants a token, and what it started ends with it.
    """
    if reason := refusal():
        pytest.skip(f"needs a network namespace: {reason}")
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as logs:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_TMPDIR": logs,
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        environment.pop("KERAS_BACKEND", None)  # the integration sets it
        result = subprocess.run(
            [*NAMESPACE, *command],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout
