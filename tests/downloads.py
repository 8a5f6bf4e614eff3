"""What the tests need of other packages beyond an installation: fetched once, kept between runs."""

import os
import subprocess
import sys
from pathlib import Path


class UnavailableError(Exception):
    """A distribution could not be had; the message says why."""


def cache_folder(name: str) -> Path:
    """Returns the folder in which something is kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "jaxnorm" / name


def download(requirement: str, folder: Path, *options: str) -> Path:
    """Downloads the distribution of a requirement into an empty folder and returns its path."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *options]
    command += ["--dest", str(folder), requirement]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"downloading {requirement} took over 300 s") from error
    if done.returncode:
        raise UnavailableError(
            f"pip could not download {requirement}: {done.stderr.strip()[-300:]}"
        )
    return next(path for path in folder.iterdir() if path.is_file())
