"""How the documentation is built: ``python3 bootstrap.py docs``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]
os.environ.setdefault("RECON_EXAMPLE_SIZE", "24")  # pixels along an edge: examples run while the site is built

from recon import __version__  # noqa: E402

project, author, release = "recon", "the recon developers", __version__
copyright = "the recon developers, GPL-3.0-or-later"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_click",
    "sphinx_gallery.gen_gallery",
    "made",
]
root_doc = "index"
exclude_patterns = ["_build", "*.jinja", "how-to/README.md"]
html_theme = "pydata_sphinx_theme"
html_title = f"recon {release}"
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False, "footer_start": ["copyright"]}
html_sidebars = {"index": [], "model": [], "figures": []}
myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3
autodoc_typehints = "none"  # docstrings give types, shapes and units
autodoc_member_order = "bysource"
autosummary_generate = True
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_ivar = True
default_role = "code"
nitpicky = False
sphinx_gallery_conf = {
    "examples_dirs": [str(HERE.parent / "examples")],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"plot_",
    "ignore_pattern": r"(__init__|cluster)",
    "remove_config_comments": True,
    "download_all_examples": False,
    "show_memory": False,
    "plot_gallery": "True",
    "nested_sections": False,
}
suppress_warnings = ["config.cache", "myst.xref_missing"]
