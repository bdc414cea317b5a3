"""A message about what is missing names an extra that brings it."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import tomllib
from pathlib import Path

import numcodecs_crackle


def distributions(extra: str) -> set[str]:
    """What this extra installs, by normalised name."""
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    lines = tomllib.loads(text)["project"]["optional-dependencies"][extra]
    return {re.split(r"[\[<>=!~; ]", line)[0].lower().replace("_", "-") for line in lines}


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
