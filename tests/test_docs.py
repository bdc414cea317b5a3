"""The reference has every public name, each once; told from its pages, without building them."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import numcodecs_crackle

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted((DOCS / "reference").glob("*.md"))
MODULES = ("", ".ome", ".bloscpack", ".viewer", ".accessor")
# Values that methods give or take, which have no other place.
OTHERS = {
    "chunk_edit.ChunkEdit", "chunk_edit.Edit", "chunk_stats.Statistics", "file_array.FileArray",
    "index.LabelIndex", "precomputed_serve.PrecomputedServer", "volume_faces.Contacts", "work.How",
}  # fmt: skip
# Of these the whole interface is told, member by member or by `:members:`.
CLASSES = (
    "LabelVolume", "CrackleArray", "CrackleHeader", "LabelFormat", "CrackFormat", "Crackle",
    "accessor.CrackleAccessor", "ome.LabelImage", "bloscpack.BloscpackFile", "viewer.SliceBrowser",
    "precomputed_serve.PrecomputedServer",
)  # fmt: skip
DIRECTIVE = re.compile(
    r"^\.\. (?:auto(\w+)|py:(?:currentmodule|function))::[ ]([\w.]+)(.*(?:\n[ ]+:.*)*)", re.M
)


def found(name: str) -> Any:
    """What a dotted name means: `numcodecs_crackle.labels` is a function, not the module."""
    value: Any = numcodecs_crackle
    for part in name.split(".")[1:]:
        if not hasattr(value, part):
            import_module(f"{value.__name__}.{part}")
        value = getattr(value, part)
    return value


def members(cls: type) -> set[str]:
    """Public methods and properties of a class of this package, inherited ones, too."""
    every = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("numcodecs_crackle"):
            every |= vars(base)
    plain = (property, classmethod, staticmethod)
    return {
        name for name, value in every.items()
        if not name.startswith("_") and (isinstance(value, plain) or inspect.isfunction(value))
    }  # fmt: skip


def told() -> Counter[str]:
    """The names on the pages, with those that `:members:` brings."""
    count: Counter[str] = Counter()
    for page in PAGES:
        module = ""
        for kind, name, options in DIRECTIVE.findall(page.read_text()):
            if not kind and "." in name:  # currentmodule
                module = name
                continue
            name = name if kind else f"{module}.{name}"
            count[name] += 1
            if ":members:" in options:
                count.update(f"{name}.{member}" for member in members(found(name)))
    return count


TOLD = told()


def test_all_that_is_told_is_there():
    for name in TOLD:
        assert inspect.getdoc(found(name)), name


@pytest.mark.parametrize("module", MODULES)
def test_public_names(module):
    where = f"numcodecs_crackle{module}"
    names = import_module(where).__all__
    assert {name: TOLD[f"{where}.{name}"] for name in names} == dict.fromkeys(names, 1)


@pytest.mark.parametrize("name", CLASSES)
def test_members(name):
    name = f"numcodecs_crackle.{name}"
    names = members(found(name))
    assert {member: TOLD[f"{name}.{member}"] for member in names} == dict.fromkeys(names, 1)


def test_nothing_twice():
    assert {f"numcodecs_crackle.{name}" for name in OTHERS} <= set(TOLD)
    assert [name for name, count in TOLD.items() if count > 1] == []


def test_pages_are_in_a_list():
    """Each page of a folder is in the list of its index."""
    for index in (DOCS / "index.md", DOCS / "howto" / "index.md", DOCS / "reference" / "index.md"):
        lists = re.findall(r"^```\{toctree\}\n(.*?)^```$", index.read_text(), re.M | re.S)
        named = {line.strip() for text in lists for line in text.splitlines()}
        pages = {page.stem for page in index.parent.glob("*.md")} - {"index"}
        assert pages - named == set()
