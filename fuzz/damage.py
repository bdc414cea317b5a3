"""What becomes of damaged streams, here and in crackle-codec: ``python fuzz/damage.py``.

Writes docs/damage.md's table. Each library decodes the same streams in a process of its own, which
is begun anew when it crashes or hangs.
"""

from __future__ import annotations

import argparse
import importlib
import json
import selectors
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np
from tqdm import tqdm

import numcodecs_crackle as ck
from numcodecs_crackle import _native

BEGIN, END = "<!-- generated: begin -->", "<!-- generated: end -->"
LIBRARIES = {"numcodecs-crackle": "numcodecs_crackle", "crackle-codec": "crackle"}
OUTCOMES = ("detected", "harmless", "wrong", "crash", "hang")
SECONDS = 2.0
Case = tuple[bytes, bytes]  # a stream, and what it was made from


def originals() -> list[bytes]:
    """Small streams of each kind that both libraries read."""
    rng = np.random.default_rng(4)
    a = rng.integers(0, 9, (4, 3, 3)).repeat(2, 0).repeat(2, 1).astype("u2")
    noise = rng.integers(0, 99, (6, 5, 2)).astype("u2")
    wide = rng.integers(0, 2**33, (3, 3, 2)).repeat(3, 0).repeat(3, 1).astype("u8")
    arrays = [np.asfortranarray(x) for x in (a, noise, wide)]
    made = [ck.compress(x) for x in arrays]
    made += [ck.compress(arrays[0], 2), ck.compress(np.ascontiguousarray(a))]
    made += [ck.compress(np.asfortranarray(a.astype("u4")), allow_pins=1)]
    return made


def without_checksums(stream: bytes) -> bytes:
    """The same stream in format version 0."""
    sz = ck.header(stream).sz
    end = 29 + 4 * sz
    return b"crkl\0" + stream[5:24] + stream[29:end] + stream[end + 4 : -4 - 4 * sz]


def sections(stream: bytes) -> list[bytes]:
    head = ck.header(stream)
    at = [0, head.header_bytes, head.header_bytes + head.grid_index_bytes]
    at += [at[-1] + head.num_label_bytes, len(stream) - (4 * head.sz + 4) * head.format_version]
    return [stream[a:b] for a, b in zip(at, [*at[1:], len(stream)], strict=True)]


def kinds(stream: bytes) -> Iterator[tuple[str, bytes]]:
    """Damaged streams of one, by kind of damage."""
    for i, byte in enumerate(stream):
        for bit in range(8):
            yield "one bit", stream[:i] + bytes([byte ^ 1 << bit]) + stream[i + 1 :]
        for value in {0, 255} - {byte}:
            yield "a byte 00 or FF", stream[:i] + bytes([value]) + stream[i + 1 :]
    for n in range(len(stream)):
        yield "cut off", stream[:n]
    parts = sections(stream)
    for i in range(1, len(parts)):
        for j in range(1, i):
            order = list(parts)
            order[i], order[j] = order[j], order[i]
            if b"".join(order) != stream:
                yield "sections swapped", b"".join(order)
    rng = np.random.default_rng(len(stream))
    for _ in range(200):
        damaged = bytearray(stream)
        at, n = rng.integers(5, len(stream)), rng.integers(2, 33)
        damaged[at : at + n] = rng.bytes(len(damaged[at : at + n]))
        if damaged != stream:
            yield "2 to 32 bytes of noise", bytes(damaged)


def lies(stream: bytes) -> Iterator[bytes]:
    """Streams that say something else, with valid checksums."""
    rng = np.random.default_rng(len(stream))
    for _ in range(600):
        parts = [bytearray(part) for part in sections(stream)]
        which = int(rng.integers(0, 3))
        part = parts[which]
        first, last = (5, 28) if which == 0 else (0, len(part) - 4 * (which == 1))
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(first, last))
            value = int(rng.choice([0, 1, 127, 128, 255, int(rng.integers(256))]))
            part[at] = value
        parts[0][28] = _native.crc8(bytes(parts[0][5:28]))
        parts[1][-4:] = _native.crc32c(bytes(parts[1][:-4])).to_bytes(4, "little")
        parts[4][:4] = _native.crc32c(bytes(parts[2])).to_bytes(4, "little")
        made = b"".join(parts)
        if made != stream:
            yield made


class Child:
    """A process that decodes what it is sent, and tells a digest or that there was an error."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, stream: bytes) -> str:
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-W", "ignore", __file__, "--child", self._module]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            self._line()
        process = self._process
        assert process.stdin is not None
        process.stdin.write(len(stream).to_bytes(8, "little") + stream)
        process.stdin.flush()
        return self._line()

    def _line(self) -> str:
        process = self._process
        assert process is not None and process.stdout is not None
        with selectors.DefaultSelector() as waiting:
            waiting.register(process.stdout, selectors.EVENT_READ)
            if not waiting.select(SECONDS):
                self.end()
                return "hang"
        line = process.stdout.readline().decode().strip()
        if not line:
            self.end()
            return "crash"
        return line

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def serve(module: str) -> None:
    """The child's side. Memory is limited, so that a lie does not take the machine's."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    decompress = importlib.import_module(module).decompress
    print("ready", flush=True)
    while size := sys.stdin.buffer.read(8):
        stream = sys.stdin.buffer.read(int.from_bytes(size, "little"))
        try:
            found = decompress(stream, parallel=1)
            about = f"{found.shape} {found.dtype} ".encode()
            print(blake2b(about + found.tobytes(order="F")).hexdigest(), flush=True)
        except Exception:
            print("error", flush=True)


def outcomes(module: str, cases: list[Case]) -> Counter[str]:
    child, count = Child(module), Counter[str]()
    for stream, original in tqdm(cases, desc=module, leave=False):
        found = child.ask(stream)
        if found == "error":
            count["detected"] += 1
        elif found in ("crash", "hang"):
            count[found] += 1
        else:
            count["harmless" if found == child.ask(original) else "wrong"] += 1
    child.end()
    return count


def corpus() -> dict[str, list[Case]]:
    """Cases by version and kind of damage."""
    result: dict[str, list[Case]] = {}
    for made in originals():
        for version, stream in ((1, made), (0, without_checksums(made))):
            for kind, damaged in kinds(stream):
                result.setdefault(f"version {version}, {kind}", []).append((damaged, stream))
        for lie in lies(made):
            key = "version 1, another stream with valid checksums"
            result.setdefault(key, []).append((lie, made))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--write", help="the page to write the table to")
    options = parser.parse_args()
    if options.child:
        serve(options.child)
        return
    rows = ["| | streams | | " + " | ".join(OUTCOMES) + " |", "|---|---:|---|" + "---:|" * 5]
    for kind, cases in corpus().items():
        for i, (name, module) in enumerate(LIBRARIES.items()):
            count = outcomes(module, cases)
            head = f"| {kind} | {len(cases):,} |" if i == 0 else "| | |"
            shares = (f"{100 * count[o] / len(cases):.1f} %" if count[o] else "0" for o in OUTCOMES)
            rows.append(f"{head} {name} | " + " | ".join(shares) + " |")
            print(json.dumps({"kind": kind, "library": name, **count}), flush=True)
    table = "\n".join(rows) + "\n"
    print(table)
    if options.write:
        page = Path(options.write)
        before, rest = page.read_text().split(BEGIN)
        page.write_text(f"{before}{BEGIN}\n\n{table}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
