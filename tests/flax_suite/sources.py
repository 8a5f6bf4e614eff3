"""Flax's own tests, from the source distribution of the installed version."""

import tarfile
import tempfile
from importlib import metadata
from pathlib import Path

from tests.downloads import UnavailableError, cache_folder, download


def flax_tests() -> Path:
    """Returns the folder with the tests of the installed Flax, downloading them on first use."""
    version = metadata.version("flax")
    tests = cache_folder("flax-sources") / f"flax-{version}" / "tests"
    if not tests.is_dir():
        tests.parent.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=tests.parent.parent) as scratch:
            archive = download(f"flax=={version}", Path(scratch), "--no-binary", "flax")
            unpacked = unpack_tests(archive, Path(scratch) / "unpacked")
            try:
                unpacked.rename(tests.parent)
            except OSError:
                # Another process was faster; its copy is as good.
                if not tests.is_dir():
                    raise
    return tests


def unpack_tests(archive: Path, folder: Path) -> Path:
    """Unpacks the `tests` folder of a source distribution and returns the folder that holds it."""
    with tarfile.open(archive) as tar:
        members = [member for member in tar if member.name.split("/")[1:2] == ["tests"]]
        if not members:
            raise UnavailableError(f"{archive.name} holds no tests")
        tar.extractall(folder, members, filter="data")
    return folder / members[0].name.split("/")[0]
