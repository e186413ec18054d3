"""Settings of the documentation, built by `make docs`."""

from importlib.metadata import version as version_of

project = "Prognax"
author = "The Prognax authors"
version = release = version_of("prognax")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["deflist", "colon_fence"]
myst_heading_anchors = 3
autodoc_typehints = "none"  # shapes are strings of jaxtyping, which the signature shows
autodoc_member_order = "bysource"
html_theme = "furo"
html_title = "Prognax"
html_static_path: list[str] = []
exclude_patterns = ["_build"]
nitpicky = False
