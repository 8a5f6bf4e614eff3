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
from sphinx.util.typing import stringify_annotation

import jaxnorm
from jaxnorm import typing


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
autodoc_preserve_defaults = True  # `ema(0.99)`, rather than what it returns
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


# The unions behind names of JAX, which a reader knows, take a line each where they are written out.
_UNIONS = {
    stringify_annotation(getattr(typing, name), "smart"): name
    for name in ("ArrayLike", "DTypeLike")
}


def _name_unions(app, domain, objtype, content):
    """Says ArrayLike and DTypeLike in the types of arguments, before they are put into the page."""
    for types in app.env.current_document.autodoc_annotations.values():
        for argument, said in types.items():
            for union, name in _UNIONS.items():
                said = said.replace(union, f"~jax.typing.{name}")
            types[argument] = said


def _skip_fields(app, what, name, obj, skip, options):
    """Leaves out fields of a NamedTuple, of which Python says no more than their number."""
    return True if (getattr(obj, "__doc__", "") or "").startswith("Alias for field") else None


def _make_cache(app):
    """Makes the cache of outputs before several processes (`-j 2`) do so at once."""
    get_cache(app.config.nb_execution_cache_path).list_cache_records()


def setup(app):
    """Connects what docstrings and the cache need."""
    app.connect("autodoc-process-docstring", _escape)
    app.connect("autodoc-skip-member", _skip_fields)
    app.connect("object-description-transform", _name_unions, priority=400)  # before autodoc's own
    app.connect("builder-inited", _make_cache)
