"""The site builds without a warning, and nothing in it is broken."""

import subprocess
import sys
from pathlib import Path

import links
import pytest

ROOT = Path(__file__).parents[2]


def test_faults_of_a_site_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<h1 id="top">A</h1><a href="b.html#there">good</a><a href="b.html#gone">bad</a>'
        '<a href="c.html">bad</a><a href="https://example.org/x">other</a>'
        '<img src="a.png" alt="missing"><img src="b.png"><a href="../x.html">out</a>'
    )
    (tmp_path / "b.html").write_text('<p id="there">B</p>')
    (tmp_path / "b.png").write_bytes(b"")
    assert links.broken(tmp_path) == [
        "a.html: the link b.html#gone has no anchor 'gone' there",
        "a.html: the link c.html leads nowhere",
        "a.html: the link ../x.html leads out of the site",
        "a.html: the picture a.png is missing",
        "a.html: the picture b.png has no description",
    ]


def test_a_folder_without_a_page_is_a_fault(tmp_path):
    assert links.broken(tmp_path) == [f"{tmp_path.resolve()} holds no page"]


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_is_whole(tmp_path):
    """No link is broken, and the reference names defaults and types as the source does."""
    for name in ("sphinx", "myst_nb", "furo", "latex2mathml", "jupytext"):
        pytest.importorskip(name, reason="needs the extra `docs`")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "--keep-going", "-j", "2"]
    done = subprocess.run(
        [*command, "docs", str(tmp_path / "site")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert links.broken(tmp_path / "site") == []
    reference = (tmp_path / "site/api/functional.html").read_text("utf-8")
    assert "ema(0.99)" in reference and "ArrayLike" in reference
    assert "_Method(" not in reference and "Alias for field" not in reference
