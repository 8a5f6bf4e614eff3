"""Finds, checks and downloads files. Every failure is a `DataError` that names the file."""

import gzip
import hashlib
import os
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class DataError(ValueError):
    """A data file is missing, truncated or corrupt. The message says what to do."""


class Remote(NamedTuple):
    """A published file."""

    name: str  # file name on disk
    urls: tuple[str, ...]  # addresses, tried in order
    md5: str  # MD5 of the published file, 32 hexadecimal digits
    megabytes: int


def md5(data: bytes) -> str:
    """Return the MD5 of `data` in hexadecimal. It guards against accidents, not attackers."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes, decompressed when its name ends in `.gz`.

    Raises:
        DataError: the file cannot be read, or its gzip stream is truncated or corrupt.
    """
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path} is not a complete gzip file ({error}); delete it and download it again"
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def first_existing(candidates: Sequence[Path]) -> Path | None:
    """Return the first path that is a file, or None."""
    return next((path for path in candidates if path.is_file()), None)


def missing(dataset: str, wanted: Sequence[Path], urls: Sequence[str], reason: str) -> DataError:
    """Return the error for absent files: their names, their folder and their source."""
    files = "\n".join(f"  {path}" for path in wanted)
    sources = "\n".join(f"  {url}" for url in urls)
    return DataError(
        f"{dataset} is not here and could not be downloaded ({reason}).\n"
        f"Put these files in place, or name another folder with --data-dir:\n{files}\n"
        f"They are published at:\n{sources}"
    )


def download(remote: Remote, folder: Path, *, timeout_s: float = 30.0) -> Path:
    """Download a published file into `folder` and return its path.

    The bytes go to a temporary file beside the target. The file takes the target's name after the
    published MD5 has been checked. So an interrupted download leaves nothing that looks finished.

    Args:
        remote: the file to download.
        folder: the target's folder, created when absent.
        timeout_s: seconds without an answer after which the next address is tried.

    Raises:
        DataError: no address answers, the disk refuses, or the checksum is wrong everywhere.
    """
    reasons = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{remote.name}.", dir=folder)
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror or error}") from error
    os.close(handle)
    partial = Path(name)
    try:
        for url in remote.urls:
            reason = _transfer(url, partial, remote.md5, timeout_s)
            if reason is None:
                os.replace(partial, folder / remote.name)
                return folder / remote.name
            reasons.append(f"{url}: {reason}")
    finally:
        partial.unlink(missing_ok=True)
    raise DataError("; ".join(reasons))


def _transfer(url: str, partial: Path, expected: str, timeout_s: float) -> str | None:
    """Download `url` to `partial`. Return the reason of a failure, or None if the MD5 is right."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as source, partial.open("wb") as target:
            while block := source.read(1 << 20):
                digest.update(block)
                target.write(block)
            target.flush()
            os.fsync(target.fileno())
    except urllib.error.URLError as error:
        return str(error.reason)
    except OSError as error:
        return error.strerror or str(error)
    if digest.hexdigest() != expected:
        return f"MD5 {digest.hexdigest()} where {expected} was published"
    return None
