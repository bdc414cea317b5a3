"""Every Python block of the README and of these pages runs as written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

NAMES = ("README.md", "docs/damage.md", "docs/neuroglancer.md", "docs/ome.md", "docs/volumes.md")
PAGES = [Path(__file__).parents[1] / name for name in NAMES]
BLOCKS = [b for page in PAGES for b in re.findall(r"```python\n(.*?)```", page.read_text(), re.S)]


@pytest.mark.parametrize("block", BLOCKS)
def test_readme_block(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "a page", "exec"), {})


def test_there_are_blocks():
    assert len(BLOCKS) == 17
