"""Presets from an https address or from the Hugging Face hub, into a local folder."""

import errno
import hashlib
import http.client
import os
import re
import shutil
import struct
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_BYTES = 2**28
TIMEOUT = 30.0  # seconds of silence
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
        ValueError: If the address has another form, nothing can be had there, it is
            too large or its hash is wrong, or the zip file holds anything else.
        ImportError: If `huggingface_hub` is needed and missing.
    """
    hub = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", address)
    if hub:
        return _from_hub(hub.group(1), hub.group(2), [*files, *optional])
    web = re.fullmatch(r"(https://[^#\s]+\.zip)#sha256=([0-9a-fA-F]{64})", address)
    if not web:
        raise ValueError(f"Expected an address {FORMS}. Received: {address!r}")
    url, digest = web.group(1), web.group(2).lower()
    archive = _cache() / f"{digest}.zip"
    if not archive.is_file() or _digest(archive) != digest:
        _fetch(url, digest, archive)
    folder = archive.with_suffix("")
    unpack(archive, folder, files, optional)
    return folder


def _cache() -> Path:
    """Keras's cache, which is under the folder of temporary files where the home is
    read-only."""
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    if not os.access(next(p for p in (home, *home.parents) if p.exists()), os.W_OK):
        home = Path(tempfile.gettempdir()) / ".keras"
    cache = home / "keras_agalite"
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    """Follows no redirect that leaves https."""

    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str
    ) -> Any:
        if not newurl.startswith("https://"):
            raise urllib.error.URLError(f"it redirects to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _fetch(url: str, digest: str, archive: Path) -> None:
    """Downloads a file, which is at its place only once it is whole and right.

    Each process writes a file of its own, so that several may load one address.

    Raises:
        ValueError: If it cannot be had, is too large or has another hash; it names
            the address. Nothing stays behind.
    """
    hashed = hashlib.sha256()
    descriptor, part = tempfile.mkstemp(".part", digest, archive.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            for block in _blocks(url):
                hashed.update(block)
                stream.write(block)
        if hashed.hexdigest() != digest:
            raise ValueError(
                f"Expected a file with the SHA-256 hash {digest}. Received: {url}, "
                f"which has another one, {hashed.hexdigest()}"
            )
        os.replace(part, archive)
    finally:
        Path(part).unlink(missing_ok=True)


def _blocks(url: str) -> Iterator[bytes]:
    """The content of an address, block by block."""
    received = 0
    try:
        opener = urllib.request.build_opener(_OnlyHttps)
        with opener.open(url, timeout=TIMEOUT) as response:
            length = response.headers.get("Content-Length")
            expected = None if length is None else int(length)
            while max(expected or 0, received) <= MAX_BYTES:
                block = response.read(2**20)
                if not block:
                    break
                received += len(block)
                yield block
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ValueError(
            f"Expected a file that can be downloaded. Received: {url}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if max(expected or 0, received) > MAX_BYTES:
        raise ValueError(
            f"Expected a file of at most {MAX_BYTES:,} bytes. Received: {url}, which "
            "is larger"
        )
    if expected is not None and received != expected:
        raise ValueError(
            f"Expected a whole file. Received: {url}, which ended after {received:,} "
            f"of {expected:,} bytes"
        )


def unpack(
    archive: Path, folder: Path, files: tuple[str, ...], optional: tuple[str, ...]
) -> None:
    """Unpacks a zip file of these files, into a folder that is there whole or not.

    A folder that holds the same already stays; any other is replaced.

    Raises:
        ValueError: If the file is damaged, or holds anything else.
    """
    part = Path(tempfile.mkdtemp(dir=archive.parent))
    try:
        with zipfile.ZipFile(archive) as zipped:
            _check(zipped.infolist(), files, optional)
            zipped.extractall(part)
        if _same(part, folder):
            return
        shutil.rmtree(folder, ignore_errors=True)
        try:
            part.rename(folder)
        except OSError:  # another process was as far
            if not _same(part, folder):
                raise
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


def _same(folder: Path, other: Path) -> bool:
    """Whether two folders hold the same files."""
    names = sorted(path.name for path in folder.iterdir())
    if not other.is_dir() or sorted(path.name for path in other.iterdir()) != names:
        return False
    return all(
        (other / name).is_file() and _digest(folder / name) == _digest(other / name)
        for name in names
    )


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
    try:
        folder = huggingface_hub.snapshot_download(
            repository, revision=revision, allow_patterns=files
        )
    except (OSError, ValueError) as error:
        at = f"@{revision}" if revision else ""
        raise ValueError(
            f"Expected a preset that can be downloaded. Received: hf://{repository}"
            f"{at}: {type(error).__name__}: {error}"
        ) from error
    return Path(folder)
