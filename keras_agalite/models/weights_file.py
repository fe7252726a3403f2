"""What a weights file holds, read before any of it is used."""

from pathlib import Path
from typing import Any

import h5py


def count_numbers(path: Path) -> int:
    """Counts the numbers in a weights file, without reading them.

    Raises:
        ValueError: If the file is no whole HDF5 file, holds anything but numbers, a
            link to elsewhere, or a dataset that declares more than it stores.
    """
    try:
        with h5py.File(path) as file:
            return _count(file, path)
    except (OSError, RuntimeError, KeyError) as error:
        raise ValueError(
            f"Expected a whole HDF5 file of weights. Received: {path}: {error}"
        ) from error


def _count(group: Any, path: Path) -> int:
    total = 0
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(
                f"Expected weights in the file itself. Received: {path}, in which "
                f"{group.name}/{name} is a link"
            )
        item = group[name]
        if isinstance(item, h5py.Group):
            total += _count(item, path)
            continue
        if item.dtype.kind not in "fiu" and item.dtype.name != "bfloat16":
            raise ValueError(
                f"Expected numbers. Received: {path}, in which {item.name} holds "
                f"{item.dtype}"
            )
        if item.id.get_storage_size() != item.size * item.dtype.itemsize:
            raise ValueError(
                f"Expected weights that are stored whole. Received: {path}, in which "
                f"{item.name} declares {item.size:,} numbers and stores "
                f"{item.id.get_storage_size():,} bytes"
            )
        total += item.size
    return total
