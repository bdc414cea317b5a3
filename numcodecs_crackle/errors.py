"""Exceptions. All that this package raises of its own derive from `CrackleError`."""

from __future__ import annotations

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
        "crack codes" or "component checksums"; None if it is the stream as a whole.
    slice : int or None
        The z slice, where it is one that is to blame.
    """

    def __init__(self, reason: str, section: str | None = None, slice: int | None = None) -> None:
        where = section or "stream"
        if slice is not None:
            where += f", slice {slice}"
        super().__init__(f"{where}: {reason}")
        self.reason = reason
        self.section = section
        self.slice = slice

    def __reduce__(self) -> tuple[type[FormatError], tuple[str, str | None, int | None]]:
        return type(self), (self.reason, self.section, self.slice)


class UnsupportedError(FormatError):
    """A stream, or an array, that this version can't handle though it may be valid."""
