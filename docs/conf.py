"""How Sphinx builds the site: `make docs`. Nothing is fetched, neither now nor by who reads it."""

import sys
from pathlib import Path

import anysock

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "Anysock"
author = "The Anysock authors"
copyright = "2026, The Anysock authors"
release = version = anysock.__version__

extensions = [
    "myst_parser", "sphinx.ext.autodoc", "sphinx_click", "bars", "claims", "house_map", "models",
    "rung", "timeline", "trace",
]  # fmt: skip
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "_ext"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"

html_theme = "furo"
html_title = "Anysock"
html_copy_source = False
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"navigation_with_keys": True}

# Docstrings name code with single backticks; Markdown would, too.
default_role = "code"
nitpicky = False
# They would turn the quotes of b'' in prose into typographic ones.
smartquotes = False
