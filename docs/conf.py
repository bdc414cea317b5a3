"""Sphinx: `make docs`.

The source folder is the repository's root, so that relative links between README.md, docs/ and
notebooks/ are the same on a code host and in the site.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

import numcodecs_crackle

ROOT = Path(__file__).resolve().parents[1]

project = "numcodecs-crackle"
author = "The numcodecs-crackle authors"
copyright = author
release = version = numcodecs_crackle.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]

root_doc = "docs/index"
include_patterns = [
    "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**", "notebooks/*.ipynb",
]  # fmt: skip
# Folders that are not walked through at all: environments, builds, the corpus of the fuzzers.
exclude_patterns = [
    path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in ("docs", "notebooks")
]

# ---- pages ----

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are committed with their outputs
highlight_language = "text"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# ---- the reference ----

# Types are in the docstrings, where they say shapes, too.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_param = False  # types are words: "array of shape (n, 3)", no names to look up
napoleon_custom_sections = [("Attributes", "params_style")]
add_module_names = False
python_maximum_signature_line_length = 88
default_role = "py:obj"
# A `name` in a docstring must be one that the reference has. Exceptions of Python have no page:
# a build needs no network, and so no inventories of other projects.
nitpicky = True
nitpick_ignore_regex = [("py:exc", r"\w*(Error|Warning|Interrupt)")]

# ---- how it looks ----

html_theme = "furo"
html_title = "numcodecs-crackle"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_extra"]  # index.html, which leads to docs/index.html
html_show_sourcelink = False
html_copy_source = False


def _elsewhere(app: Sphinx, env: Any, node: Any, text: nodes.Element) -> nodes.Element | None:
    """A name as docstrings write it, `decompress` or `LabelVolume.remap`, from any module."""
    if node.get("refdomain") != "py" or node.get("reftype") not in ("obj", "exc"):
        return None
    python = env.get_domain("py")
    target = node["reftarget"]
    objects = python.objects.items()  # some twice: where they are told, and where defined
    found = [name for name, o in objects if name.endswith(f".{target}") and not o.aliased]
    first = (f"numcodecs_crackle.{target}", f"numcodecs_crackle.LabelVolume.{target}")
    wanted = [name for name in first if name in found] or found
    if not wanted or (len(wanted) > 1 and wanted is found):
        return None  # and Sphinx warns
    return python.resolve_xref(env, node["refdoc"], app.builder, "obj", wanted[0], node, text)


def setup(app: Sphinx) -> None:
    app.connect("missing-reference", _elsewhere)
