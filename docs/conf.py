"""How the documentation is built: `sphinx-build docs docs/_build`."""

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
