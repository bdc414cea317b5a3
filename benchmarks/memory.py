"""Peak memory beyond input and output, each in a process of its own (Linux)."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import numcodecs_crackle as ck
from benchmarks.cases import Volume, voronoi
from numcodecs_crackle import _native

SIDE = 512


def _status(field: str) -> int:
    """A size in bytes from what Linux says of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


def child(what: str, path: str, order: str) -> None:
    """Print the peak growth of this process over input and output, and the scratch held."""
    volume = np.array(np.load(path), order=order)  # type: ignore[call-overload]
    small = np.array(volume[:8, :8, :2], order=order)  # type: ignore[call-overload]
    ck.decompress(ck.compress(small, parallel=1), parallel=1)  # what is loaded once
    out = np.ones_like(volume)
    data = Path(path).with_suffix(f".{order}.ckl").read_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status("VmRSS")
    if what == "decode":
        ck.decompress(data, parallel=1, out=out)
    else:
        data = ck.compress(volume, parallel=1)
    print(_status("VmHWM") - before, _native.idle_bytes(), len(data))


def measure(real: Volume) -> list[dict[str, Any]]:
    """Rows of scratch bytes and process growth beside the limits, for 512x512 slices."""
    rows = []
    rng = np.random.default_rng(0)
    shape = (SIDE, SIDE, 16)
    volumes = {
        "real": np.asfortranarray(real[:, :, :16]),
        "Voronoi": voronoi(shape),
        "noise": np.asfortranarray(rng.integers(0, 2000, shape, dtype=np.uint32)),
        "binary noise": np.asfortranarray(rng.integers(0, 2, shape, dtype=np.uint32)),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, volume in volumes.items():
            path = Path(folder) / f"{name}.npy"
            np.save(path, volume)
            for order in "FC":
                stream = ck.compress(np.array(volume, order=order))  # type: ignore[call-overload]
                path.with_suffix(f".{order}.ckl").write_bytes(stream)
                for what in ("decode", "encode"):
                    code = f"from benchmarks import memory; memory.child({what!r}, "
                    code += f"{str(path)!r}, {order!r})"
                    done = subprocess.run(
                        [sys.executable, "-c", code], capture_output=True, text=True, check=True
                    )
                    grown, scratch, size = map(int, done.stdout.split())
                    limit = 8 << 20 if what == "decode" else (8 << 20) + 2 * size
                    rows.append(
                        {
                            "what": f"{what} {name} {'x'.join(map(str, volume.shape))} {order}",
                            "scratch": scratch, "process": grown, "limit": limit,
                        }
                    )  # fmt: skip
    return rows
