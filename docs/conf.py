"""How the documentation is built: `sphinx-build -W docs docs/_build`."""

import hashlib
import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]  # our extensions, and the experiments
# Pages run in processes of their own, some of them on several devices of the CPU.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")])
)

from jupyter_cache import get_cache

import jaxnorm


def _sources():
    """Returns a name for the library as it is, so that no output is one of an earlier library."""
    digest = hashlib.sha256()
    for path in sorted(Path(jaxnorm.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


project = "jaxnorm"
author = "The jaxnorm authors"
copyright = author
release = jaxnorm.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "findings",
    "mathml",
    "members",
    "notebooks",
]
html_theme = "furo"
html_title = "jaxnorm"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
exclude_patterns = ["_build", "jupyter_execute", "normalizers/_*.md", "notebooks/*.ipynb"]
nb_execution_mode = "cache"
nb_execution_cache_path = str(HERE / "_build" / f"cells-{_sources()}")
nb_execution_raise_on_error = True
nb_execution_timeout = 600
autodoc_typehints = "description"
autodoc_member_order = "bysource"
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
default_role = "code"
napoleon_use_ivar = True


def _escape(app, what, name, obj, options, lines):
    """Escapes what docstrings mean literally: shapes such as [*batch, C], and bars of |mean|."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            starred = re.sub(r"(?<=[\[ ])\*(?=[\w(,\]])", r"\\*", line)
            starred = re.sub(r"(?<=, )\*\*(?=\w)", r"\\*\\*", starred)
            lines[i] = starred.replace("|", r"\|")


def _make_cache(app):
    """Makes the cache of outputs before several processes (`-j 2`) do so at once."""
    get_cache(app.config.nb_execution_cache_path).list_cache_records()


def setup(app):
    """Connects what docstrings and the cache need."""
    app.connect("autodoc-process-docstring", _escape)
    app.connect("builder-inited", _make_cache)
