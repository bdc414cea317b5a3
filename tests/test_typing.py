"""The types of the public interface, as a strict type checker sees them from outside."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def test_a_consumer():
    pytest.importorskip("mypy")
    root = Path(__file__).parents[1]
    # In the project's folder, so that what it knows of numpy and zarr is kept in its cache. Of
    # errors only the consumer's, as where the package is installed.
    how = ["--strict", "--follow-imports=silent", "tests/typing_consumer.py"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *how],
        cwd=root, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
