"""What comes with extras: a clear message where it is missing, and progress bars."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any, TypeVar

T = TypeVar("T")


def required(module: str, extra: str) -> Any:
    """Import a module that an extra brings. ImportError says which."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise ImportError(
            f'this needs {name}: pip install "numcodecs-crackle[{extra}]"', name=name
        ) from error


def progress_bar(items: Iterable[T], show: bool, text: str) -> Iterable[T]:
    """The items, with a tqdm bar while they are taken if it is to be shown."""
    if not show:
        return items
    bar: Iterable[T] = required("tqdm", "cli").tqdm(items, desc=text)
    return bar
