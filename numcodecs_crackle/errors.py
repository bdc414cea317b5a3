"""Exceptions. All that this package raises of its own derive from `CrackleError`."""

from __future__ import annotations

from typing import Any

__all__ = ["CrackleError", "FormatError", "UnsupportedError"]


class CrackleError(Exception):
    """Base of this package's exceptions."""


class FormatError(CrackleError, ValueError):
    """Bytes that are not a valid Crackle stream.

    Attributes
    ----------
    reason : str
        What is wrong.
    section : str or None
        The section of the stream: "header", "crack index", "labels", "markov model",
        "crack codes", "component checksums" or "shard index"; None if it is the stream as a
        whole. In a Bloscpack file "bloscpack header", "metadata", "offsets" or "chunk N". Of
        OME-Zarr the group, and the place among its attributes.
    slice : int or None
        The z slice, where it is one that is to blame.
    key : str or None
        In a Zarr array, the key of the stored chunk or shard.
    """

    def __init__(
        self,
        reason: str,
        section: str | None = None,
        slice: int | None = None,
        key: str | None = None,
    ) -> None:
        where = section or "stream"
        if slice is not None:
            where += f", slice {slice}"
        if key is not None:
            where = f"chunk {key}, {where}"
        super().__init__(f"{where}: {reason}")
        self.reason = reason
        self.section = section
        self.slice = slice
        self.key = key

    def __reduce__(self) -> tuple[type[FormatError], tuple[Any, ...]]:
        return type(self), (self.reason, self.section, self.slice, self.key)


class UnsupportedError(FormatError):
    """A stream, or an array, that this version can't handle though it may be valid."""
