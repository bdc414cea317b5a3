"""What is measured beside plain coding: options, threads, warm memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import crackle
import numpy as np

import numcodecs_crackle as ck
from benchmarks import OURS, REFERENCE
from benchmarks.cases import CROPS, Volume
from benchmarks.timing import interleaved, ratio, summary

Row = dict[str, Any]


def row(what: str, runs: dict[str, Any], voxels: int, seconds: float, rounds: int = 5) -> Row:
    """One line: the first of two runs beside the second."""
    times = interleaved(runs, seconds, rounds)
    first, second = runs
    return {
        "what": what,
        "first": {"name": first, **summary(times[first], voxels / 1e6)},
        "second": {"name": second, **summary(times[second], voxels / 1e6)},
        "ratio": ratio(times, first, second),
    }


def _equal(a: Any, b: Any, what: str) -> None:
    if not np.array_equal(a, b):
        raise SystemExit(f"{what}: the results differ")


def _crops(real: Volume) -> dict[str, Volume]:
    return {name: np.asfortranarray(real[where]) for name, where in CROPS.items()}


def markov(real: Volume, seconds: float) -> list[Row]:
    """Order 5, both packages; and what choosing the order costs over coding with it."""
    rows = []
    for name, v in _crops(real).items():
        data = ck.compress(v, markov_model_order=5)
        _equal(data, crackle.compress(v, markov_model_order=5), f"Markov 5, {name}")
        rows.append(
            row(
                f"encode {name}, order 5",
                {
                    OURS: lambda v=v: ck.compress(v, 5, parallel=1),
                    REFERENCE: lambda v=v: crackle.compress(v, markov_model_order=5, parallel=1),
                },
                v.size,
                seconds,
            )
        )
        rows.append(
            row(
                f"decode {name}, order 5",
                {
                    OURS: lambda data=data: ck.decompress(data, parallel=1),
                    REFERENCE: lambda data=data: crackle.decompress(data, parallel=1),
                },
                v.size,
                seconds,
            )
        )
        chosen = ck.compress(v, "auto")
        order = ck.header(chosen).markov_model_order
        line = row(
            f"encode {name}, auto (takes order {order})",
            {
                "auto": lambda v=v: ck.compress(v, "auto", parallel=1),
                f"order {order}": lambda v=v, order=order: ck.compress(v, order, parallel=1),
            },
            v.size,
            seconds,
        )
        line["bytes"] = {
            "order 0": len(ck.compress(v)), "order 5": len(data), "auto": len(chosen)
        }  # fmt: skip
        rows.append(line)
    return rows


def masks(real: Volume, seconds: float) -> list[Row]:
    """Where one label is: one of middling size, and one of the largest."""
    rows = []
    for name, v in _crops(real).items():
        data = ck.compress(v)
        labels, counts = np.unique(v, return_counts=True)
        by_size = labels[np.argsort(counts, kind="stable")]
        for which, label in (("middling", by_size[len(labels) // 2]), ("large", by_size[-2])):
            mask = ck.decompress(data, label=int(label))
            _equal(mask, v == label, f"mask, {name}")
            rows.append(
                row(
                    f"{name}, a {which} label",
                    {
                        OURS: lambda data=data, n=int(label): ck.decompress(data, n, 1),
                        REFERENCE: lambda data=data, n=int(label): crackle.decompress(data, n, 1),
                    },
                    v.size,
                    seconds,
                )
            )
    return rows


def memory_kind(real: Volume, seconds: float) -> list[Row]:
    """Decoding into memory that is warm, over the reference, which has fresh memory only."""
    rows = []
    for dtype in ("u4", "u8"):
        v = np.asfortranarray(real[CROPS["512x512x64"]]).astype(dtype)
        data, out = ck.compress(v), np.empty_like(v)
        _equal(ck.decompress(data, out=out), v, "out=")
        reference = lambda data=data: crackle.decompress(data, parallel=1)  # noqa: E731
        for kind, to in (("warm out=", out), ("fresh memory", None)):
            rows.append(
                row(
                    f"decode 512x512x64 {dtype}, {kind}",
                    {
                        OURS: lambda data=data, to=to: ck.decompress(data, parallel=1, out=to),
                        REFERENCE: reference,
                    },
                    v.size,
                    seconds,
                )
            )
    return rows


def threads(real: Volume, seconds: float) -> list[Row]:
    """Two threads over one: inside a call, and two callers with chunks of their own."""
    v = np.asfortranarray(real)
    data, out = ck.compress(v), np.empty_like(v)
    rows = []
    for name, package in ((OURS, ck), (REFERENCE, crackle)):
        rows.append(
            row(
                f"{name}, encode {v.shape}",
                {f"parallel={n}": lambda n=n, p=package: p.compress(v, parallel=n) for n in (2, 1)},
                v.size,
                seconds,
            )
        )
        warm = {"out": out} if package is ck else {}
        rows.append(
            row(
                f"{name}, decode {v.shape}" + (", warm out=" if warm else ""),
                {
                    f"parallel={n}": lambda n=n, p=package, w=warm: p.decompress(
                        data, parallel=n, **w
                    )
                    for n in (2, 1)
                },
                v.size,
                seconds,
            )
        )
    side = min(128, *v.shape)
    chunks = [
        np.array(v[x : x + side, y : y + side, :side], order="F")
        for x in range(0, v.shape[0] - side + 1, side)
        for y in range(0, v.shape[1] - side + 1, side)
    ]
    streams = [ck.compress(c) for c in chunks]
    outs = [np.empty_like(c) for c in chunks]

    def encode(i: int) -> None:
        ck.compress(chunks[i], parallel=1)

    def decode(i: int) -> None:
        ck.decompress(streams[i], parallel=1, out=outs[i])

    with ThreadPoolExecutor(2) as two, ThreadPoolExecutor(1) as one:
        for what, run in (("encode", encode), ("decode", decode)):
            rows.append(
                row(
                    f"{len(chunks)} chunks of {side}^3, {what}, by Python threads",
                    {
                        f"{n} thread{'s' * (n > 1)}": lambda p=pool, run=run: list(
                            p.map(run, range(len(chunks)))
                        )
                        for n, pool in ((2, two), (1, one))
                    },
                    sum(c.size for c in chunks),
                    seconds,
                )
            )
    return rows


def pins(volumes: dict[str, Volume], seconds: float) -> list[Row]:
    """Labels as pins, both packages: speed, and bytes of each."""
    rows = []
    for name, v in volumes.items():
        for option in (1, 2):
            ours = ck.compress(v, allow_pins=option)
            theirs = crackle.compress(v, allow_pins=option)
            _equal(crackle.decompress(ours), v, f"pins {option}, {name}")
            line = row(
                f"encode {name}, allow_pins={option}",
                {
                    OURS: lambda v=v, n=option: ck.compress(v, parallel=1, allow_pins=n),
                    REFERENCE: lambda v=v, n=option: crackle.compress(v, allow_pins=n, parallel=1),
                },
                v.size,
                seconds,
            )
            line["bytes"] = {
                OURS: len(ours), REFERENCE: len(theirs), "flat": len(ck.compress(v))
            }  # fmt: skip
            rows.append(line)
    return rows
