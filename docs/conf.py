"""How the documentation is built: `sphinx-build docs docs/_build`."""

import re

import jaxnorm

project = "jaxnorm"
author = "The jaxnorm authors"
release = jaxnorm.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
html_theme = "furo"
exclude_patterns = ["_build"]
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
autodoc_typehints = "description"
autodoc_member_order = "bysource"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 2
default_role = "code"
napoleon_use_ivar = True


def _escape(app, what, name, obj, options, lines):
    """Escapes what docstrings mean literally: shapes such as [*batch, C], and bars of |mean|."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            starred = re.sub(r"(?<=[\[ ])\*(?=[\w(,\]])", r"\\*", line)
            starred = re.sub(r"(?<=, )\*\*(?=\w)", r"\\*\\*", starred)
            lines[i] = starred.replace("|", r"\|")


def setup(app):
    """Connects what docstrings need."""
    app.connect("autodoc-process-docstring", _escape)
