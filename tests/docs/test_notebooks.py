"""The notebooks are what their text says, install first, and run."""

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("jupytext", reason="needs the extra `docs`")
import notebooks

from tests.conftest import IN_HASTE

ROOT = Path(__file__).parents[2]
SOURCES = notebooks.sources()


def over_sources(test):
    return pytest.mark.parametrize("source", SOURCES, ids=[s.stem for s in SOURCES])(test)


@over_sources
def test_the_notebook_is_that_of_its_text(source):
    made = source.with_suffix(".ipynb").read_text("utf-8")
    assert made == notebooks.text(source), "run `python docs/_ext/notebooks.py`"


@over_sources
def test_it_has_a_badge_installs_first_and_holds_no_output(source):
    cells = json.loads(source.with_suffix(".ipynb").read_text("utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert f"docs/notebooks/{source.stem}.ipynb)" in "".join(cells[0]["source"])
    assert "pip" in "".join(code[0]["source"]) and "jaxnorm" in "".join(code[0]["source"])
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"]] == []


def test_each_notebook_has_a_text_and_a_line_on_the_page():
    assert {p.stem for p in notebooks.FOLDER.glob("*.ipynb")} == {s.stem for s in SOURCES}
    page = (notebooks.FOLDER / "index.md").read_text("utf-8")
    assert [s.stem for s in SOURCES if f"{{colab}}`{s.stem}`" not in page] == []


@pytest.mark.slow
@over_sources
def test_it_runs(source, tmp_path):
    nbclient = pytest.importorskip("nbclient", reason="needs the extra `docs`")
    if "import torch" in source.read_text("utf-8"):
        pytest.importorskip("torch", reason="needs the extra `parity`")
    # A reader's process has not the devices of the tests. Compiled like these, a notebook takes a
    # fifth of its time.
    env = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"}
    env |= {"PYTHONPATH": str(ROOT), "XLA_FLAGS": IN_HASTE}
    client = nbclient.NotebookClient(
        notebooks.notebook(source),
        timeout=600,  # seconds for one cell
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute(env=env)
