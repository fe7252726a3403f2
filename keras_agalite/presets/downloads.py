"""Presets from an https address or from the Hugging Face hub, into a local folder."""

import errno
import re
import shutil
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path

import keras

MAX_BYTES = 2**28
FORMS = "https://HOST/PATH/NAME.zip#sha256=HASH, hf://OWNER/NAME or hf://OWNER/NAME@REVISION"


def download(address: str, files: tuple[str, ...], optional: tuple[str, ...]) -> Path:
    """Fetches a preset and returns the folder that holds its files.

    A zip file holds the files of one preset, without folders. It is kept in Keras's
    cache (`~/.keras` or KERAS_HOME) under its hash.

    Args:
        address: One of the forms in `FORMS`.
        files: Names that must be there.
        optional: Names that may be there.

    Raises:
        ValueError: If the address has another form, the hash is wrong, or the zip
            file holds anything else.
        ImportError: If `huggingface_hub` is needed and missing.
    """
    hub = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", address)
    if hub:
        return _from_hub(hub.group(1), hub.group(2), [*files, *optional])
    web = re.fullmatch(r"(https://[^#]+\.zip)#sha256=([0-9a-fA-F]{64})", address)
    if not web:
        raise ValueError(f"Expected an address {FORMS}. Received: {address!r}")
    url, digest = web.group(1), web.group(2).lower()
    try:
        archive = keras.utils.get_file(
            f"{digest}.zip",
            url,
            cache_subdir="keras_agalite",
            file_hash=digest,
            hash_algorithm="sha256",
        )
    except ValueError as error:
        raise ValueError(
            f"Expected a file with the SHA-256 hash {digest}. Received: {url}, which "
            "has another one"
        ) from error
    folder = Path(archive).with_suffix("")
    if not all((folder / name).is_file() for name in files):
        unpack(Path(archive), folder, files, optional)
    return folder


def unpack(
    archive: Path, folder: Path, files: tuple[str, ...], optional: tuple[str, ...]
) -> None:
    """Unpacks a zip file of these files, into a folder that is there whole or not.

    Raises:
        ValueError: If the file is damaged, or holds anything else.
    """
    part = Path(tempfile.mkdtemp(dir=archive.parent))
    try:
        with zipfile.ZipFile(archive) as zipped:
            _check(zipped.infolist(), files, optional)
            zipped.extractall(part)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    except (
        EOFError,
        NotImplementedError,
        OSError,
        OverflowError,
        RuntimeError,
        ValueError,
        struct.error,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        # A damaged file leads to places before its start.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise ValueError(
            f"Expected a zip file with {', '.join(files)} (and at most "
            f"{', '.join(optional)}), without folders. Received: {archive}: {error}"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _check(
    members: list[zipfile.ZipInfo], files: tuple[str, ...], optional: tuple[str, ...]
) -> None:
    names = [member.filename for member in members]
    if not set(files) <= set(names) <= {*files, *optional}:
        raise ValueError(f"it holds {names}")
    size = sum(member.file_size for member in members)
    if size > MAX_BYTES:
        raise ValueError(f"it unpacks to {size:,} bytes, more than {MAX_BYTES:,}")
    # The others unpack without a limit.
    if {m.compress_type for m in members} - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise ValueError("it is compressed in another way than stored or deflated")


def _from_hub(repository: str, revision: str | None, files: list[str]) -> Path:
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            "Presets at hf:// need huggingface_hub. Install it with: "
            "pip install huggingface_hub"
        ) from error
    return Path(
        huggingface_hub.snapshot_download(
            repository, revision=revision, allow_patterns=files
        )
    )
