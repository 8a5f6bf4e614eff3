"""Makes the notebooks from their text: `python docs/_ext/notebooks.py`.

The sources are `docs/notebooks/*.py`, in the percent format of jupytext. The notebooks stand beside
them without outputs, so that Colab opens them from the repository; a test holds both in step. As an
extension of Sphinx this has the role `colab`, the link that opens a notebook there.
"""

import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from docutils import nodes

FOLDER = Path(__file__).parents[1] / "notebooks"
REPOSITORY = "jaxnorm/jaxnorm"  # on GitHub, for the links to Colab


def sources() -> list[Path]:
    """Returns the text sources of all notebooks."""
    return sorted(FOLDER.glob("*.py"))


def address(name: str) -> str:
    """Returns the address that opens a notebook in Colab."""
    return f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/docs/notebooks/{name}.ipynb"


def badge(name: str) -> str:
    """Returns the badge that opens a notebook in Colab, as Markdown."""
    picture = "https://colab.research.google.com/assets/colab-badge.svg"
    return f"[![Open in Colab]({picture})]({address(name)})"


def notebook(source: Path) -> nbformat.NotebookNode:
    """Returns the notebook of a text source, its badge below the title."""
    made = jupytext.read(source, fmt="py:percent")
    made.metadata = {"kernelspec": made.metadata["kernelspec"]}
    for i, cell in enumerate(made.cells):
        cell["id"] = f"{source.stem[:40]}-{i}"  # not a random one, so that differences stay small
        cell["metadata"] = {}
    title, _, rest = made.cells[0].source.partition("\n")
    made.cells[0].source = f"{title}\n\n{badge(source.stem)}\n{rest}"
    return made


def text(source: Path) -> str:
    """Returns the notebook of a text source as the file that is committed."""
    return nbformat.writes(nbformat.validator.normalize(notebook(source))[1], indent=1) + "\n"


def main() -> None:
    """Writes all notebooks."""
    for source in sources():
        source.with_suffix(".ipynb").write_text(text(source), "utf-8")
        sys.stdout.write(f"{source.with_suffix('.ipynb')}\n")


def _link(name, rawtext, text, lineno, inliner, options=None, content=None):
    if not (FOLDER / f"{text}.ipynb").exists():
        message = inliner.reporter.error(f"there is no notebook {text}", line=lineno)
        return [inliner.problematic(rawtext, rawtext, message)], [message]
    return [nodes.reference(rawtext, "Open in Colab", refuri=address(text))], []


def setup(app: Any) -> dict[str, bool]:
    """Adds the role."""
    app.add_role("colab", _link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    main()
