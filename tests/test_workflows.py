"""What GitHub runs uses images and actions that there are, and installs what its commands need."""

import re
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml", reason="comes with the extra `docs`")

ROOT = Path(__file__).parents[1]
WORKFLOWS = {path.stem: path for path in sorted((ROOT / ".github/workflows").glob("*.yml"))}
# The first major versions on Node 24; GitHub's runners have no older Node since September 2026.
ON_NODE_24 = {
    "actions/checkout": 5,
    "actions/download-artifact": 7,
    "actions/setup-python": 6,
    "actions/upload-artifact": 6,
    "astral-sh/setup-uv": 7,
}
# https://github.com/actions/runner-images: images that are gone, or whose last day is announced.
RETIRED = {"macos-13", "macos-14", "ubuntu-20.04", "ubuntu-22.04", "windows-2019"}


def over_workflows(test):
    return pytest.mark.parametrize("path", WORKFLOWS.values(), ids=list(WORKFLOWS))(test)


def commands(job):
    return "\n".join(step.get("run", "") for step in job["steps"])


@over_workflows
def test_no_job_asks_for_an_image_that_is_gone(path):
    assert RETIRED & set(re.findall(r"[a-z]+-[\d.]+", path.read_text("utf-8"))) == set()


@over_workflows
def test_actions_run_on_the_node_of_the_runners(path):
    used = re.findall(r"uses: ([\w/-]+)@v(\d+)$", path.read_text("utf-8"), re.MULTILINE)
    assert used and [(name, v) for name, v in used if int(v) < ON_NODE_24[name]] == []


def test_types_are_checked_where_all_that_is_imported_is_installed():
    """Pyright calls an import of a missing package an error."""
    job = commands(yaml.safe_load(WORKFLOWS["ci"].read_text("utf-8"))["jobs"]["style"])
    assert "pyright" in job and "torch" in job and "parity" in job


def test_every_version_of_python_runs_on_the_oldest_and_on_the_newest_jax():
    job = yaml.safe_load(WORKFLOWS["ci"].read_text("utf-8"))["jobs"]["tests"]
    matrix = job["strategy"]["matrix"]
    assert matrix["python"] == ["3.11", "3.12", "3.13"]
    assert matrix["resolution"] == ["lowest-direct", "highest"]
    assert {row["os"].split("-")[0] for row in matrix["include"]} == {"macos"}


def test_only_a_tag_publishes_and_without_a_password():
    job = yaml.safe_load(WORKFLOWS["release"].read_text("utf-8"))["jobs"]["publish"]
    assert job["if"] == "github.ref_type == 'tag'" and job["permissions"] == {"id-token": "write"}
    assert "password" not in str(job)
