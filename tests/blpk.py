"""bloscpack 0.16, which needs a name that Python 3.10 dropped."""

from __future__ import annotations

import collections
import collections.abc
import warnings
from typing import Any

import pytest


def imported() -> Any:
    """The package. Tests that need it are skipped where it is missing."""
    had = hasattr(collections, "MutableMapping")
    if not had:
        collections.MutableMapping = collections.abc.MutableMapping
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own, as of invalid escapes
            package = pytest.importorskip("bloscpack")
            pytest.importorskip("bloscpack.append")
        return package
    finally:
        if not had:
            del collections.MutableMapping
