"""What a weights file holds, checked before any of it is used."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

# A policy has a few hundred.
MAX_OBJECTS = 2**14


def count_numbers(path: Path) -> int:
    """Counts the numbers in a weights file.

    Raises:
        ValueError: If the file is no whole HDF5 file, or holds anything but finite
            numbers that are stored plainly, once and in the file itself.
    """
    try:
        room = path.stat().st_size
        total = 0
        with h5py.File(path) as file:
            for item in _datasets(file):
                room -= _check(item, room)
                total += item.size
        return total
    except (LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected a whole HDF5 file of finite numbers. Received: {path}: {error}"
        ) from error


def _datasets(file: Any) -> Iterator[Any]:
    groups, seen = [file], {_address(file)}
    while groups:
        group = groups.pop()
        for name in group:
            where = f"{group.name.rstrip('/')}/{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError(f"{where!r} is a link")
            item = group[name]
            if _address(item) in seen:
                raise ValueError(f"{where!r} is there twice")
            seen.add(_address(item))
            if len(seen) > MAX_OBJECTS:
                raise ValueError(
                    f"it has more than {MAX_OBJECTS:,} groups and datasets"
                )
            if isinstance(item, h5py.Group):
                groups.append(item)
            elif isinstance(item, h5py.Dataset):
                yield item
            else:
                raise ValueError(f"{where!r} is no dataset")


def _address(item: Any) -> int:
    return int(h5py.h5o.get_info(item.id).addr)


def _check(item: Any, room: int) -> int:
    """Bytes of a dataset, of which there can be no more than `room`."""
    if item.dtype.kind not in "fiu" or item.shape is None:
        raise ValueError(f"{item.name!r} holds {item.dtype}, not numbers")
    declared, stored = item.size * item.dtype.itemsize, item.id.get_storage_size()
    if declared != stored or declared > room:
        raise ValueError(
            f"{item.name!r} declares {item.size:,} numbers and stores {stored:,} bytes"
        )
    plan = item.id.get_create_plist()
    plain = (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT)
    # What a filter unpacks may be of any size, whatever the dataset declares.
    if plan.get_layout() not in plain or plan.get_external_count():
        raise ValueError(f"{item.name!r} is packed, or stored elsewhere")
    # Keras would round the numbers as an attribute says.
    if len(item.attrs):
        raise ValueError(f"{item.name!r} has attributes")
    with np.errstate(all="ignore"):
        fits = np.abs(item[()].astype(np.float64)) <= np.finfo(np.float32).max
    if not fits.all():
        raise ValueError(f"{item.name!r} holds numbers that are not finite")
    return int(declared)
