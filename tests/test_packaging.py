"""What is built and declared: the wheel, the source distribution and their metadata."""

import importlib.metadata
import os
import re
import subprocess
import tarfile
import tomllib
import zipfile
from pathlib import Path
from unittest import mock

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

import jaxnorm

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """Builds the wheel; compiling the kernels is tested with them."""
    folder = tmp_path_factory.mktemp("wheel")
    with mock.patch.dict(os.environ, JAXNORM_BUILD_NATIVE="0"):
        (path,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> set[str]:
    """Builds the source distribution and returns the files in it."""
    folder = tmp_path_factory.mktemp("sdist")
    (path,) = SdistBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with tarfile.open(path) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def committed(*folders: str) -> set[str]:
    """Returns the files that git holds under some folders."""
    command = ["git", "ls-files", *folders]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return {name for name in done.stdout.split("\n") if name and (ROOT / name).exists()}


def metadata(wheel: zipfile.ZipFile) -> str:
    """Returns the metadata file of a wheel."""
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return wheel.read(name).decode()


def test_the_wheel_holds_the_package_its_metadata_and_nothing_else(wheel):
    assert {name.split("/")[0] for name in wheel.namelist()} == {
        "jaxnorm",
        f"jaxnorm-{jaxnorm.__version__}.dist-info",
    }


def test_the_wheel_holds_every_file_of_the_package_but_the_sources_of_the_kernels(wheel):
    sources = committed("jaxnorm/ops/kernels/native")
    assert committed("jaxnorm") - {*wheel.namelist()} == sources


def test_the_wheel_says_that_the_package_is_typed(wheel):
    assert "jaxnorm/py.typed" in wheel.namelist()


def test_the_wheel_holds_the_licence(wheel):
    (name,) = [name for name in wheel.namelist() if name.endswith("/licenses/LICENSE")]
    assert wheel.read(name) == (ROOT / "LICENSE").read_bytes()


def test_the_source_distribution_holds_every_file_of_the_project(sdist):
    assert committed("jaxnorm", "tests", "experiments", "docs", "*.toml", "*.md") - sdist == set()


def test_the_metadata_has_the_version_of_the_package(wheel):
    assert re.search(r"^Version: (.*)$", metadata(wheel), re.MULTILINE)[1] == jaxnorm.__version__


def test_the_installed_version_is_that_of_the_package():
    assert importlib.metadata.version("jaxnorm") == jaxnorm.__version__


def test_the_metadata_names_the_licence(wheel):
    assert "License-Expression: Apache-2.0\n" in metadata(wheel)


def test_the_metadata_allows_python_311_to_313(wheel):
    assert re.search(r"^Requires-Python: (.*)$", metadata(wheel), re.MULTILINE)[1] in (
        "<3.14,>=3.11",
        ">=3.11,<3.14",
    )


def test_the_core_needs_five_packages():
    names = {re.match(r"[\w-]+", dependency)[0] for dependency in PROJECT["dependencies"]}
    assert names == {"flax", "jax", "jaxtyping", "numpy", "optax"}


def test_every_dependency_has_a_lower_bound():
    extras = [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    lines = [*PROJECT["dependencies"], *extras]
    assert [line for line in lines if not re.match(r"[\w-]+>=\d|jaxnorm\[", line)] == []


def test_wheels_are_tested_with_every_python_that_the_metadata_names():
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
    named = re.findall(r"Python :: 3\.(\d+)", "\n".join(PROJECT["classifiers"]))
    assert tools["cibuildwheel"]["build"].split() == [f"cp3{minor}-*" for minor in named]


def test_the_changelog_tells_of_this_version():
    assert f"## {jaxnorm.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_citation_has_the_version_of_the_package():
    assert f"version: {jaxnorm.__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
