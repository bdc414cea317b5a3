"""``python -m benchmarks [--data FILE] [--quick] [--only CASE] [--report-only]``."""

from __future__ import annotations

import argparse
import datetime
import gzip
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs import Zstd
from tqdm import tqdm

from benchmarks import (
    OURS,
    REFERENCE,
    extras,
    memory,
    packed,
    plots,
    report,
    toolbox,
    volumes,
    zarr_arrays,
)
from benchmarks.cases import CROPS, Volume, cases, sparse, voronoi
from benchmarks.contenders import contenders
from benchmarks.timing import interleaved, ratio, summary
from numcodecs_crackle import demo

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results.json"
PACKAGES = [
    "numcodecs-crackle", "crackle-codec", "numcodecs", "zarr", "numpy", "compresso",
    "compressed-segmentation", "bloscpack",
]  # fmt: skip


def machine() -> dict[str, Any]:
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.split(":")[1].strip()
                break
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"CPU": cpu, "cores": os.cpu_count(), "Python": platform.python_version(), **versions}


def measure_case(name: str, volume: Volume, seconds: float, rounds: int) -> dict[str, Any]:
    """Speed and size of every contender on one volume, results checked."""
    rows: dict[str, dict[str, Any]] = {}
    encodes, decodes = {}, {}
    for c in contenders():
        try:
            data = c.encode(volume)
        except (TypeError, ValueError) as refused:
            rows[c.name] = {"refused": str(refused).strip().splitlines()[0]}
            continue
        if not c.limit and not np.array_equal(c.decode(data, volume), volume):
            raise SystemExit(f"{c.name}, {name}: came back different")
        size = 0 if c.limit else len(data)
        raw = b"" if c.limit else bytes(data)
        rows[c.name] = {
            "bytes": size,
            "gzip": len(gzip.compress(raw, 6)) if raw else 0,
            "zstd": len(Zstd(level=3).encode(raw)) if raw else 0,
        }
        encodes[c.name] = lambda c=c: c.encode(volume)
        decodes[c.name] = lambda c=c, data=data: c.decode(data, volume)
    result: dict[str, Any] = {
        "name": name, "voxels": volume.size, "dtype": str(volume.dtype), "rows": rows
    }  # fmt: skip
    for way, runs in (("encode", encodes), ("decode", decodes)):
        times = interleaved(runs, seconds, rounds)
        result[f"{way}_ratio"] = ratio(times, OURS, REFERENCE)
        for contender, t in times.items():
            rows[contender][way] = summary(t, volume.size / 1e6)
    return result


def measure(path: str | None, quick: bool, only: str) -> dict[str, Any]:
    real = demo.load(path).T
    volume = "real data: " + Path(path).name if path else "no real data: made cells for it"
    if real.shape[0] < 512 or min(real.shape) < 328:  # the made one: as large as the crops
        real = np.tile(real, [-(-512 // n) for n in real.shape])[:512, :512, :512]
    seconds, rounds = (0.05, 3) if quick else (0.4, 5)
    results: dict[str, Any] = {
        "date": datetime.date.today().isoformat(), "volume": volume, "quick": quick,
        "machine": machine(), "cases": [],
    }  # fmt: skip
    for name, v in tqdm(cases(real, only), desc="cases", total=None):
        results["cases"].append(measure_case(name, v, seconds, rounds))
    if only:
        return results
    medium = real[CROPS["256x256x64"]]
    pinned = {f"real {n}": np.asfortranarray(real[w]) for n, w in CROPS.items()}
    pinned |= {"sparse": np.asfortranarray(sparse(medium)), "Voronoi": voronoi((256, 256, 64))}
    steps = {
        "measures": lambda: toolbox.measures(real, seconds),
        "edits": lambda: toolbox.edits(real, seconds),
        "markov": lambda: extras.markov(real, seconds),
        "masks": lambda: extras.masks(real, seconds),
        "memory_kind": lambda: extras.memory_kind(real, seconds),
        "threads": lambda: extras.threads(real, seconds),
        "pins": lambda: extras.pins(pinned, seconds),
        "memory": lambda: memory.measure(real),
        "bloscpack": lambda: packed.measure(real, quick),
        "volumes": lambda: volumes.measure(real, seconds, 2 if quick else 3),
        "remote": lambda: volumes.remote(real),
        "zarr": lambda: zarr_arrays.measure(real, seconds, 2 if quick else 3),
    }
    for key, run in tqdm(steps.items(), desc="other sections"):
        results[key] = run()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--data", help="real data: .ckl, .ckl.gz, or .npy of axes z, y, x")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, for a first look")
    parser.add_argument("--only", default="", help="only cases whose name has this in it")
    parser.add_argument("--report-only", action="store_true", help="draw the last results")
    options = parser.parse_args()
    if options.report_only:
        results = json.loads(RESULTS.read_text())
    else:
        results = measure(options.data, options.quick, options.only)
        if not options.only and not options.quick:
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(report.ratios(results))
    if options.report_only or not (options.only or options.quick):
        report.write_page(results, ROOT / "docs" / "benchmarks.md")
        plots.plot(results, ROOT / "docs" / "img")
        print(f"the whole report: {ROOT / 'docs' / 'benchmarks.md'}")
    elif options.only:
        print(report.page(results))


if __name__ == "__main__":
    main()
