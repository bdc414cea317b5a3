"""A message about what is missing names an extra that brings it."""

from __future__ import annotations

import ast
import importlib.metadata
import re
from pathlib import Path

import numcodecs_crackle


def distributions(extra: str) -> set[str]:
    """What this extra installs, by normalised name."""
    found = set()
    for line in importlib.metadata.requires("numcodecs-crackle") or []:
        requirement, _, marker = line.partition(";")
        if re.search(rf"extra == ['\"]{extra}['\"]", marker):
            found.add(re.split(r"[\[<>=!~ ]", requirement)[0].lower().replace("_", "-"))
    return found


def named() -> set[tuple[str, str]]:
    """Every (module, extra) that the package asks for."""
    found = set()
    for path in Path(numcodecs_crackle.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "required":
                module, extra = (ast.literal_eval(argument) for argument in node.args)
                found.add((module.partition(".")[0], extra))
    return found


def test_extras_bring_what_is_asked_of_them():
    brings = importlib.metadata.packages_distributions()
    assert len(named()) > 12
    # ipywidgets brings IPython, which a notebook has anyway
    for module, extra in named() - {("IPython", "viewer")}:
        if module not in brings:  # a machine for which it has no wheel
            continue
        assert {name.lower().replace("_", "-") for name in brings[module]} & distributions(extra), (
            module,
            extra,
        )
