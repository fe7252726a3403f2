"""Damaged and hostile presets, each given by its number."""

import copy
import json
import os
import random
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np

from keras_agalite.presets import released_folder
from tests.models.make_preset_small import FOLDER

CONFIG, WEIGHTS, ARCHIVE = "config.json", "model.weights.h5", "preset.zip"
SECRET = 12345.678  # no preset holds this number; the foreign files do


def write_mutant(number, folder):
    """Writes mutant `number` into a new folder, and says what was done to it."""
    rng = random.Random(number)
    source = FOLDER if rng.random() < 0.7 else released_folder() / "tmaze_10"
    folder.mkdir()
    for name in (CONFIG, WEIGHTS):
        shutil.copy(source / name, folder / name)
    kind = rng.choices(list(KINDS), [k[1] for k in KINDS.values()])[0]
    what = KINDS[kind][0](folder, rng)
    return kind, f"{source.name}: {what}"


def _bytes_of_config(folder, rng):
    return _damage(folder / CONFIG, rng)


def _bytes_of_weights(folder, rng):
    return _damage(folder / WEIGHTS, rng)


def _bytes_of_archive(folder, rng):
    """A zip file as an address gives it, packed in one of the ways there are."""
    method = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
    with zipfile.ZipFile(folder / ARCHIVE, "w", method) as zipped:
        for name in (CONFIG, WEIGHTS):
            zipped.write(folder / name, name)
            (folder / name).unlink()
        if rng.random() < 0.1:
            zipped.writestr(rng.choice(["../out", "/tmp/out", "run.py", "a/b"]), b"x")
        if rng.random() < 0.1:
            zipped.comment = b"PK" * 1000
    return f"method {method}, " + _damage(folder / ARCHIVE, rng)


def _damage(path, rng):
    data = bytearray(path.read_bytes())
    what = rng.choice(["flip", "flip", "flip", "cut", "insert", "overwrite", "repeat"])
    at, n = rng.randrange(len(data)), rng.choice([1, 2, 8, 64, 512])
    # The headers of an HDF5 file are few bytes, and the ones that matter.
    if rng.random() < 0.3:
        at = rng.randrange(min(len(data), 2048))
    match what:
        case "flip":
            for _ in range(n):
                data[rng.randrange(len(data)) if n > 8 else at] ^= 1 << rng.randrange(8)
        case "cut":
            del data[at : at + rng.choice([n, len(data)])]
        case "insert":
            data[at:at] = rng.randbytes(n)
        case "overwrite":
            values = [rng.randbytes(n), b"\x00" * n, b"\xff" * n]
            values.append(struct.pack("<Q", rng.choice([2**63, 2**40, len(data), at])))
            value = rng.choice(values)
            data[at : at + len(value)] = value
        case "repeat":
            data[at:at] = data[max(0, at - 512) : at] * rng.choice([1, 100])
    path.write_bytes(data)
    return f"{what} {n} at {at} of {path.name}"


FOREIGN = (
    "os.system",
    "builtins.eval",
    "antigravity",
    "keras.layers.Lambda",
    "subprocess.Popen",
    "__import__('os').system('id')",
)
PAYLOADS = (
    {"class_name": "__lambda__", "config": {"value": "4wAAAA==", "defaults": None}},
    {
        "module": "keras.layers",
        "class_name": "Lambda",
        "config": {"function": {"class_name": "__lambda__", "config": {"value": "4w"}}},
        "registered_name": None,
    },
    {"module": "builtins", "class_name": "function", "config": "eval"},
    {"module": "os", "class_name": "function", "config": "system"},
    {"module": "antigravity", "class_name": "Plane", "config": {}, "build_config": {}},
    {"class_name": "__tensor__", "config": {"value": [1], "dtype": "float32"}},
    {"class_name": "__numpy__", "config": {"value": [1], "dtype": "object"}},
    {"py/object": "os.system", "py/reduce": [{"py/function": "os.system"}, ["id"]]},
)


def _values_of_config(folder, rng):
    config = json.loads((folder / CONFIG).read_text())
    done = [_change(config, rng) for _ in range(rng.choice([1, 1, 1, 2, 3]))]
    text = json.dumps(config)
    # What JSON can say and Python's writer cannot.
    text = text.replace('"@deep"', "[" * 100_000 + "]" * 100_000)
    text = text.replace('"@digits"', "9" * 5000).replace('"@exponent"', "1e999")
    n = rng.choice([3, 200, 600])
    nested = '{"type": "Dict", "spaces": {"a": ' * n + "{}" + "}}" * n
    (folder / CONFIG).write_text(text.replace('"@nested"', nested))
    return "; ".join(done)


def _places(part, path=()):
    items = part.items() if isinstance(part, dict) else enumerate(part)
    for key, value in items:
        yield part, key, (*path, key)
        if isinstance(value, dict | list):
            yield from _places(value, (*path, key))


def _change(config, rng):
    part, key, path = rng.choice(list(_places(config)))
    where = "/".join(map(str, path))
    match rng.choice(["value", "value", "value", "value", "remove", "add", "swap"]):
        case "remove":
            del part[key]
            return f"remove {where}"
        case "add" if isinstance(part, dict):
            name = rng.choice(["module", "class_name", "registered_name", "", "x" * 99])
            part[name] = copy.deepcopy(rng.choice([*PAYLOADS, *FOREIGN, 1]))
            return f"add {name} beside {where}"
        case "swap":
            other, name, _ = rng.choice(list(_places(config)))
            part[key], other[name] = copy.deepcopy((other[name], part[key]))
            return f"swap {where} with {name}"
    value = _value(part[key], rng)
    part[key] = value
    return f"{where} = {repr(value)[:60]}"


def _value(old, rng):
    near = []
    if isinstance(old, int | float):
        near = [old + 1, -old, old * 2, float(old), old * 10**6, str(old), bool(old)]
    if isinstance(old, str):
        near = [old.upper(), old + "\x00", old + "é", old[:-1], [old]]
        near += ["AGaLiTe", "GTrXL", "Memoryless", "MLPEncoder", "relu", "threshold"]
        near += ["mixed_float16", "mixed_bfloat16", "float64", "glu", "deserialize"]
    if isinstance(old, list):
        near = [old * 2, old[:-1], old * 10**5, [old], [*old, None], [*old, 2**20]]
    box = {"type": "Box", "dtype": "float64", "low": 0.0, "high": 1.0}
    large = {"type": "Dict", "spaces": {}}
    for i in range(100):
        large["spaces"][str(i)] = {**box, "shape": [2**24]}
    other = [None, True, [], {}, "", "x" * 10**6, "\ud800", 0, 1, -1, 2**20, 2**31]
    other += [2**63, 2**64, 10**30, -(10**30), 0.5, 1e308, float("nan"), float("inf")]
    other += ["@deep", "@digits", "@exponent", "f4,(99999,99999)f8", "object", "O"]
    other += [[2**20] * 3, [2**24], [[1, "f4"]], [0] * 10**5, "@nested", large]
    other += [{"type": "Discrete", "n": 2**40, "start": 0}, *FOREIGN, *PAYLOADS]
    return copy.deepcopy(rng.choice(rng.choice([near, other]) or other))


def _structure_of_weights(folder, rng):
    foreign = folder.parent / f"{folder.name}_foreign.h5"
    with h5py.File(foreign, "w") as file:
        file["0"] = np.full((8, 8), SECRET, np.float32)
    raw = folder.parent / f"{folder.name}_foreign.bin"
    raw.write_bytes(np.full(10**5, SECRET, np.float32).tobytes())
    pipe = folder.parent / f"{folder.name}_pipe"
    os.mkfifo(pipe)  # who opens it waits for ever
    with h5py.File(folder / WEIGHTS, "a") as file:
        names: list[str] = []
        file.visititems(
            lambda name, item: (
                names.append(name) if isinstance(item, h5py.Dataset) else None
            )
        )
        name = rng.choice(names)
        old = file[name][()]
        group, leaf = file[name].parent, name.rpartition("/")[2]
        edit = rng.choice(STRUCTURES)
        edit(file, group, leaf, old, rng, foreign, raw, pipe)
    return f"{edit.__name__} {name}"


def _remove(file, group, leaf, old, rng, *paths):
    del group[leaf]


def _remove_group(file, group, leaf, old, rng, *paths):
    del file[group.name.split("/")[1]]


def _rename(file, group, leaf, old, rng, *paths):
    group.move(leaf, rng.choice(["x", "7", "é", "a/b/c", "..", "0" * 1000]))


def _reshape(file, group, leaf, old, rng, *paths):
    del group[leaf]
    group[leaf] = old.reshape(rng.choice([(-1,), (1, -1), (-1, 1), old.shape[::-1]]))


def _other_dtype(file, group, leaf, old, rng, *paths):
    del group[leaf]
    kinds = ["f2", "f8", ">f4", "i4", "u1", "c8", "S8", "?", "i8"]
    group[leaf] = old.astype(rng.choice(kinds))


def _other_kind(file, group, leaf, old, rng, *paths):
    del group[leaf]
    n = old.size
    match rng.choice(["text", "reference", "compound", "opaque", "ragged", "array"]):
        case "text":
            group.create_dataset(
                leaf, data=["x" * 10**5] * n, dtype=h5py.string_dtype()
            )
        case "reference":
            group.create_dataset(leaf, (n,), h5py.ref_dtype)
        case "compound":
            group[leaf] = np.zeros(n, [("a", "f4"), ("b", "S3")])
        case "opaque":
            group[leaf] = np.zeros(n, "V4")
        case "ragged":
            group.create_dataset(leaf, (n,), h5py.vlen_dtype("f4"))
        case "array":
            group.create_dataset(leaf, (1,), np.dtype(("f4", (n,))))


def _not_finite(file, group, leaf, old, rng, *paths):
    array = old.ravel()
    array[rng.randrange(array.size)] = rng.choice([np.nan, np.inf, -np.inf])
    group[leaf][...] = array.reshape(old.shape)


def _external_link(file, group, leaf, old, rng, foreign, raw, pipe):
    del group[leaf]
    targets = [foreign, pipe, "/etc/passwd", "/dev/zero", "model.weights.h5"]
    group[leaf] = h5py.ExternalLink(str(rng.choice(targets)), "/0")


def _external_group(file, group, leaf, old, rng, foreign, raw, pipe):
    del file["actor"]
    file["actor"] = h5py.ExternalLink(str(rng.choice([foreign, pipe])), "/")


def _soft_cycle(file, group, leaf, old, rng, *paths):
    del group[leaf]
    group[leaf] = h5py.SoftLink(rng.choice([f"{group.name}/{leaf}", "/", "/nowhere"]))


def _hard_cycle(file, group, leaf, old, rng, *paths):
    for i in range(rng.choice([1, 2, 20])):
        group[f"again_{i}"] = rng.choice([file["/"], group])


def _twice(file, group, leaf, old, rng, *paths):
    other = rng.choice([x for x in group if x != leaf] or ["more"])
    if other in group:
        del group[other]
    group[other] = group[leaf]


def _external_storage(file, group, leaf, old, rng, foreign, raw, pipe):
    del group[leaf]
    target = rng.choice([str(raw), str(pipe), "/etc/passwd", "/dev/zero"])
    group.create_dataset(
        leaf, old.shape, "f4", external=[(target, 0, max(4, old.nbytes))]
    )


def _virtual(file, group, leaf, old, rng, foreign, raw, pipe):
    del group[leaf]
    layout = h5py.VirtualLayout(old.shape or (1,), "f4")
    source = h5py.VirtualSource(str(rng.choice([foreign, pipe])), "0", layout.shape)
    layout[...] = source
    group.create_virtual_dataset(leaf, layout)


def _bomb(file, group, leaf, old, rng, *paths):
    del group[leaf]
    shape = rng.choice([(2**29,), (2**12, 2**12, 2**8), (2**40,), old.shape or (1,)])
    chunks = tuple(min(n, 2**10 if len(shape) > 1 else 2**20) for n in shape)
    if len(shape) > 2:
        chunks = (64, 64, 64)
    extra = rng.choice([{}, {"maxshape": (None,) * len(shape)}, {"fillvalue": 1.0}])
    filters = rng.choice([{"compression": "gzip"}, {"compression": "lzf"}, {}])
    filters = {**filters, **rng.choice([{"shuffle": True}, {"fletcher32": True}, {}])}
    group.create_dataset(leaf, shape, "f4", chunks=chunks, **filters, **extra)


def _swollen_chunk(file, group, leaf, old, rng, *paths):
    """A chunk that says it is small and unpacks to 2 GiB, as large as was asked."""
    del group[leaf]
    packer = zlib.compressobj(9)
    first, block = (
        packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
        for _ in range(2)
    )
    chunk = first + block * (2**11 - 1)  # its end is not right, but comes too late
    shape, size = old.shape or (1,), max(1, old.size)
    item = group.create_dataset(leaf, shape, "f4", chunks=shape, compression="gzip")
    start, end = (0,) * len(shape), rng.choice([None, 4 * size])
    try:
        item.id.write_direct_chunk(start, chunk[:end])
    except OSError:  # some versions of HDF5 do not write it
        item.id.write_direct_chunk(start, chunk[: 4 * size])


def _packed(file, group, leaf, old, rng, *paths):
    del group[leaf]
    if old.ndim:
        group.create_dataset(leaf, data=old, chunks=old.shape, compression="gzip")


def _attributes(file, group, leaf, old, rng, *paths):
    item = rng.choice([file, group, group[leaf]])
    name = rng.choice(["dtype", "name", "keras_version", "layer_names", "shape"])
    values = [
        "bfloat16",
        "object",
        b"\xff\xfe",
        np.zeros(5000),
        [[1.0]],
        h5py.Empty("f"),
    ]
    item.attrs[name] = rng.choice([*values, FOREIGN[0], "x" * 60_000, np.arange(3)])


def _group_for_dataset(file, group, leaf, old, rng, *paths):
    del group[leaf]
    group.create_group(leaf).attrs["value"] = 1


def _dataset_for_group(file, group, leaf, old, rng, *paths):
    name = group.name
    del file[name]
    file[name] = old


def _null(file, group, leaf, old, rng, *paths):
    del group[leaf]
    group.create_dataset(leaf, data=h5py.Empty("f4"))


def _deep(file, group, leaf, old, rng, *paths):
    for _ in range(rng.choice([10, 3000])):
        group = group.create_group("a")


def _many(file, group, leaf, old, rng, *paths):
    for i in range(20_000):
        group.create_group(f"a{i}")


def _unused(file, group, leaf, old, rng, *paths):
    file.create_dataset("surplus", data=np.zeros(rng.choice([0, 1, 1000]), np.float32))


STRUCTURES = (
    _remove,
    _remove_group,
    _rename,
    _reshape,
    _other_dtype,
    _other_kind,
    _not_finite,
    _external_link,
    _external_group,
    _soft_cycle,
    _hard_cycle,
    _twice,
    _external_storage,
    _virtual,
    _bomb,
    _swollen_chunk,
    _packed,
    _attributes,
    _group_for_dataset,
    _dataset_for_group,
    _null,
    _deep,
    _many,
    _unused,
)


def _no_files(folder, rng):
    name = rng.choice([CONFIG, WEIGHTS])
    (folder / name).unlink()
    other = CONFIG if name == WEIGHTS else WEIGHTS
    what = rng.choice(["missing", "folder", "pipe", "loop", "other", "device"])
    match what:
        case "folder":
            (folder / name).mkdir()
        case "pipe":
            os.mkfifo(folder / name)
        case "loop":
            (folder / name).symlink_to(name)
        case "other":
            shutil.copy(folder / other, folder / name)
        case "device":
            (folder / name).symlink_to(Path("/dev/zero"))
    return f"{what} for {name}"


KINDS = {
    "bytes of config.json": (_bytes_of_config, 15),
    "bytes of model.weights.h5": (_bytes_of_weights, 25),
    "bytes of a zip file": (_bytes_of_archive, 10),
    "values of config.json": (_values_of_config, 25),
    "structure of model.weights.h5": (_structure_of_weights, 22),
    "files": (_no_files, 3),
}
