"""A damaged or hostile preset is an error or a policy as its files say, no more.

The short form runs with torch, which starts fastest and compiles nothing when a policy
acts; the long form, on any backend:

    python -m pytest -m slow tests/models/test_loader_fuzz.py -s
"""

import collections
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.helpers import BACKEND
from tests.models.mutants import ARCHIVE, CONFIG, WEIGHTS, write_mutant

pytestmark = pytest.mark.process

SECONDS, BYTES = 5.0, 2**30
SHORT, LONG = range(60), range(1000, 2000)


class Loader:
    """A child process that loads presets, and is replaced when it dies or hangs."""

    def __init__(self):
        self.process = None
        self.seconds = self.bytes = 0  # the most that a load took

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.models.load_mutants"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.lines = queue.Queue()
        threading.Thread(
            target=self._read, args=(self.process.stdout, self.lines), daemon=True
        ).start()
        assert self._line(120) == "ready"
        self.policies = 0

    @staticmethod
    def _read(stream, lines):
        for line in stream:
            lines.put(json.loads(line))
        lines.put(EOFError)

    def _line(self, seconds):
        """The next line, unless the child works for longer, or waits for ever.

        Time of the processor: other processes take none of it.
        """
        begun, clock = self._used(), time.monotonic()
        while True:
            try:
                line = self.lines.get(timeout=1)
            except queue.Empty:
                if self._used() - begun > seconds or time.monotonic() - clock > 600:
                    raise
                continue
            if line is EOFError:
                raise EOFError
            return line

    def _used(self):
        times = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2]
        return sum(map(int, times.split()[11:13])) / os.sysconf("SC_CLK_TCK")

    def load(self, folder):
        """`(outcome, detail)`; the outcomes "policy" and "refused" are good ones."""
        if self.process is None:
            self.start()
        try:
            print(folder, file=self.process.stdin, flush=True)
            result = self._line(2 * SECONDS)  # its own clock is the judge
            self.seconds = max(self.seconds, result["seconds"])
            self.bytes = max(self.bytes, result["bytes"])
            wrong = None if result["error"] else self._line(120)
            if wrong is not None:
                self.policies += 1
            if self.policies == 50:  # each leaves a compiled program behind
                self.stop()
            return self._judge(result, wrong)
        except queue.Empty:
            self.stop()
            return "hang", ""
        except (EOFError, BrokenPipeError):
            code = self.process.wait()
            self.stop()
            return "crash", f"exit code {code}"

    def _judge(self, result, wrong):
        error = result["error"]
        if result["events"]:
            return "executed", str(result["events"])
        if result["seconds"] > SECONDS:
            return "slow", f"{result['seconds']:.1f} s, {error}"
        if result["bytes"] > BYTES:
            return "memory", f"{result['bytes']:,} bytes, {error}"
        if not error:
            return ("wrong policy", wrong) if wrong else ("policy", "")
        clear = "xpected" in error[1] and "Received" in error[1]
        named = any(name in error[1] for name in (CONFIG, WEIGHTS, ARCHIVE))
        if not (error[2] and clear and named):
            return "unclear error", str(error)
        return "refused", error[1]

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None


@pytest.fixture
def loader():
    loader = Loader()
    yield loader
    loader.stop()


def check(loader, numbers, folder):
    counts, bad = collections.Counter(), []
    for number in numbers:
        path = folder / str(number)
        kind, what = write_mutant(number, path)
        outcome, detail = loader.load(path)
        counts[kind, outcome] += 1
        if outcome not in ("policy", "refused"):
            bad.append(f"{outcome}: mutant {number}, {kind}, {what}: {detail[:600]}")
            print(bad[-1], flush=True)
        for each in folder.glob(f"{number}*"):
            shutil.rmtree(each) if each.is_dir() else each.unlink()
    for (kind, outcome), count in sorted(counts.items()):
        print(f"{kind}: {count} {outcome}")
    print(f"at most {loader.seconds:.2f} s and {loader.bytes / 2**20:.0f} MiB a load")
    assert not bad, "\n".join(bad)
    return {outcome: n for (_, outcome), n in counts.items()}


@pytest.mark.skipif(BACKEND != "torch", reason="the short form runs with torch")
def test_sixty_mutants(loader, tmp_path):
    assert check(loader, SHORT, tmp_path).keys() == {"policy", "refused"}


@pytest.mark.slow
def test_a_thousand_mutants(loader, tmp_path):
    assert check(loader, LONG, tmp_path).keys() == {"policy", "refused"}
