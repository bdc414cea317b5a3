"""Bloscpack files, beside bloscpack."""

from __future__ import annotations

import collections
import collections.abc
import os
import tempfile
from typing import Any

import numpy as np
from numcodecs import blosc as our_blosc

from benchmarks import OURS
from benchmarks.cases import Volume
from benchmarks.extras import Row, row
from numcodecs_crackle import bloscpack as ours

_MEMORY = "/dev/shm"  # where there is one, disks don't blur the times


def _reference() -> tuple[Any, Any]:
    """bloscpack, which needs a name that Python has dropped; and its Blosc."""
    collections.MutableMapping = collections.abc.MutableMapping  # type: ignore[attr-defined]
    import blosc
    import bloscpack

    return bloscpack, blosc


def measure(real: Volume, quick: bool) -> list[Row]:
    """Pack and unpack, on one thread and two: megabytes a second."""
    theirs, their_blosc = _reference()
    data = np.resize(real.ravel(order="K"), (1 << 25) if quick else (1 << 28))
    rounds, rows = (2, []) if quick else (5, [])
    before = our_blosc.get_nthreads()
    folder = _MEMORY if os.path.isdir(_MEMORY) else None
    with tempfile.TemporaryDirectory(dir=folder) as name:
        plain, other = os.path.join(name, "plain"), os.path.join(name, "other")
        data.tofile(plain)
        packed = {package: os.path.join(name, f"{i}.blp") for i, package in enumerate((OURS, "b"))}
        for threads in (1, 2):
            our_blosc.set_nthreads(threads)
            their_blosc.set_nthreads(threads)
            for what, run in {
                "pack an array": lambda p, to: p.pack_ndarray_to_file(data, to),
                "unpack an array": lambda p, to: p.unpack_ndarray_from_file(to),
                "pack a file": lambda p, to: p.pack_file_to_file(plain, to),
                "unpack a file": lambda p, to: p.unpack_file_from_file(to, other),
            }.items():
                runs = {
                    OURS: lambda run=run: run(ours, packed[OURS]),
                    "bloscpack": lambda run=run: run(theirs, packed["b"]),
                }
                line = row(f"{what}, threads {threads}", runs, data.nbytes, 0, rounds)
                sizes = {k: os.path.getsize(path) for k, path in packed.items()}
                line["bytes"] = {OURS: sizes[OURS], "bloscpack": sizes["b"]}
                rows.append(line)
            for package, path in packed.items():
                if ours.unpack_bytes_from_file(path)[0] != data.tobytes():
                    raise SystemExit(f"{package}: came back different")
    our_blosc.set_nthreads(before)
    return rows
