"""docs/design.md tells of all files, and imports go no higher than it says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import numcodecs_crackle

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "design.md").read_text()
FLOORS = re.findall(r"^- \*\*([\w ]+)\*\*: (.*?)(?=^- \*\*|\n\n)", TEXT, re.S | re.M)
FLOOR = {
    name: floor
    for floor, (_, told) in enumerate(FLOORS)
    for name in re.findall(r"`(\w+)\.py`", told)
}
MODULES = sorted(Path(numcodecs_crackle.__file__).parent.glob("*.py"))


def test_all_modules_are_told_of():
    assert len(FLOORS) == 5
    assert sorted(FLOOR) == [path.stem for path in MODULES]


def test_all_c_files_are_told_of():
    table = TEXT[TEXT.index("## The C library") : TEXT.index("## From C to Python")]
    told = set(re.findall(r"`(\w+\.[ch])`", table))
    assert told == {path.name for path in (ROOT / "csrc").glob("*.[ch]")}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_go_down(path):
    """Those at a module's head; what is imported when it is needed may be anything."""
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        package, _, module = node.module.partition(".")
        if package != "numcodecs_crackle":
            continue
        for name in [module] if module else [alias.name for alias in node.names]:
            assert name not in FLOOR or FLOOR[name] <= FLOOR[path.stem], (path.stem, name)
