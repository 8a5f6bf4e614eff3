"""Flax's own tests, from the source distribution of the installed version."""

import os
import subprocess
import sys
import tarfile
import tempfile
from importlib import metadata
from pathlib import Path


class SourcesUnavailableError(Exception):
    """The source distribution could not be had; the message says why."""


def cache_folder() -> Path:
    """Returns the folder in which sources are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "jaxnorm" / "flax-sources"


def flax_tests() -> Path:
    """Returns the folder with the tests of the installed Flax, downloading them on first use."""
    version = metadata.version("flax")
    tests = cache_folder() / f"flax-{version}" / "tests"
    if not tests.is_dir():
        tests.parent.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=tests.parent.parent) as scratch:
            archive = download(f"flax=={version}", Path(scratch))
            unpacked = unpack_tests(archive, Path(scratch) / "unpacked")
            try:
                unpacked.rename(tests.parent)
            except OSError:
                # Another process was faster; its copy is as good.
                if not tests.is_dir():
                    raise
    return tests


def download(requirement: str, folder: Path) -> Path:
    """Downloads the source distribution of a requirement into a folder and returns its path."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--no-binary", "flax", "--dest", str(folder), requirement]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300
        )
    except subprocess.TimeoutExpired as error:
        raise SourcesUnavailableError(f"downloading {requirement} took over 300 s") from error
    if done.returncode:
        raise SourcesUnavailableError(
            f"pip could not download {requirement}: {done.stderr.strip()[-300:]}"
        )
    return next(folder.glob("*.tar.gz"))


def unpack_tests(archive: Path, folder: Path) -> Path:
    """Unpacks the `tests` folder of a source distribution and returns the folder that holds it."""
    with tarfile.open(archive) as tar:
        members = [member for member in tar if member.name.split("/")[1:2] == ["tests"]]
        if not members:
            raise SourcesUnavailableError(f"{archive.name} holds no tests")
        tar.extractall(folder, members, filter="data")
    return folder / members[0].name.split("/")[0]
