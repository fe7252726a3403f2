"""Loads the presets whose folders it reads from its input, one line each.

A line says that the load is over, in which way, how much time of the processor it
took, and how much memory; another one, for a policy, what is wrong with it ("" if
nothing is).
"""

import encodings.ascii
import encodings.cp437  # noqa: F401 (lazily imported, by files)
import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np

from keras_agalite.models import MemoryPolicy
from keras_agalite.presets import downloads
from keras_agalite.presets import preset as presets
from tests.models.make_preset_small import FOLDER
from tests.models.mutants import ARCHIVE, SECRET

MEMORY = 2**30
WATCHED = ("exec", "compile", "import", "os.", "subprocess.", "socket.", "pickle.")
WATCHED += ("marshal.", "ctypes.", "shutil.", "urllib.", "webbrowser.", "code.")
# In the preset's own folder, where a zip file is unpacked.
OWN = ("open", "os.listdir", "os.scandir", "os.mkdir", "os.rename", "os.remove")
OWN += ("os.rmdir", "os.chmod", "shutil.rmtree", "tempfile.mkdtemp")

folder: Path | None = None
events: list[str] = []


def watch(event, arguments):
    if folder is None:
        return
    path = str(arguments[0]) if arguments else ""
    # A name without a folder belongs to a folder that is open.
    if event in OWN and (path.startswith(str(folder)) or "/" not in path):
        return
    if event == "os.scandir" and path == str(presets.released_folder()):
        return
    if event == "open" or event.startswith(WATCHED):
        events.append(f"{event} {arguments!r}"[:200])


def load(path):
    if (path / ARCHIVE).exists():
        unpacked = path / "unpacked"
        downloads.unpack(
            path / ARCHIVE,
            unpacked,
            (presets.CONFIG, presets.WEIGHTS),
            presets.OPTIONAL,
        )
        path = unpacked
    return path, MemoryPolicy.from_preset(path)


def flaw(policy, path, scratch):
    """What a policy does that its files do not say."""
    policy.save_to_preset(scratch)
    declared = json.loads((path / presets.CONFIG).read_text())
    loaded = json.loads((scratch / presets.CONFIG).read_text())
    for key in set(loaded) - {"keras_agalite"}:
        if key in ("encoder", "memory"):
            declared[key] = {k: declared[key].get(k) for k in loaded[key]}
        if json.dumps(loaded[key], sort_keys=1) != json.dumps(
            declared[key], sort_keys=1
        ):
            return f"{key} is {loaded[key]}, not {declared[key]}"
    message = compare(path / presets.WEIGHTS, scratch / presets.WEIGHTS)
    if message:
        return message
    observation = policy.sample_observation(1, seed=0)
    action, _ = policy.act(observation, policy.initial_state(1), start=[True], seed=0)
    if not policy.action_space.contains(action[0]):
        return f"the action {action[0]} is not in {policy.action_space}"
    return ""


def compare(declared, loaded):
    import h5py

    with h5py.File(declared) as a, h5py.File(loaded) as b:
        names: list[str] = []
        b.visit(names.append)
        for name in names:
            if not isinstance(b[name], h5py.Dataset):
                continue
            x, y = np.asarray(a[name]), np.asarray(b[name])
            if x.shape != y.shape:
                return f"{name} has the shape {y.shape}, not {x.shape}"
            if not np.isfinite(y).all() or (y == np.float32(SECRET)).any():
                return f"{name} holds {y}"
            if not np.array_equal(x.astype(y.dtype), y):
                return f"{name} is not what the file holds"
    return ""


def memory(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise ValueError(f"Expected a field of /proc/self/status. Received: {field}")


def main():
    global folder
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    # Normal loads and refused ones import, and compile, what they need.
    for good in (FOLDER, "tmaze_10"):
        policy = MemoryPolicy.from_preset(good)
        policy.act(policy.sample_observation(1), policy.initial_state(1), seed=0)
    for bad in (FOLDER.parent, FOLDER.parent / "none"):
        try:
            MemoryPolicy.from_preset(bad)
        except ValueError as error:
            str(error)
    # More than that is an error at once, and the machine lives on.
    limit = memory("VmSize") + 2 * MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.addaudithook(watch)
    print(json.dumps("ready"), file=out)
    for line in sys.stdin:
        path = Path(line.strip())
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
        before, began, policy = memory("VmRSS"), time.process_time(), None
        events.clear()
        try:
            folder = path
            where, policy = load(path)
            error = None
        except BaseException as caught:
            error = [type(caught).__name__, str(caught)[:2000]]
            names = [c.__name__ for c in type(caught).__mro__]
            error.append("ValueError" in names or "OSError" in names)
        finally:
            folder = None
        result = {
            "error": error,
            "seconds": time.process_time() - began,
            "bytes": memory("VmHWM") - before,
            "events": events[:5],
        }
        print(json.dumps(result), file=out)
        if policy is not None:
            try:
                wrong = flaw(policy, where, path / "saved")
            except Exception as caught:
                wrong = repr(caught)
            print(json.dumps(wrong), file=out)


if __name__ == "__main__":
    main()
