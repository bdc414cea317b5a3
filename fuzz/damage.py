"""What becomes of damaged streams, here and in crackle-codec: ``python fuzz/damage.py``.

Writes docs/damage.md's tables. Each library decodes the same streams, in children of a process
that has loaded nothing else; one that crashes or hangs is followed by another. What is right
tells `referee`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pickle
import resource
import select
import signal
import subprocess
import sys
from collections import Counter
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

LIBRARIES = {"numcodecs-crackle": "numcodecs_crackle", "crackle-codec": "crackle"}
OUTCOMES = ("detected", "harmless", "wrong", "crash", "hang")
SECONDS = 1.0  # of decoding what takes a few microseconds
BYTES = 4 << 30  # so that a lie does not take all of the machine's memory


def digest(array: Any) -> str:
    about = f"{array.shape} {array.dtype} ".encode()
    return blake2b(about + array.tobytes(order="F"), digest_size=16).hexdigest()


def answers(module: str, streams: list[bytes]) -> list[str]:
    """What a library makes of streams: digests, or "detected", "crash", "hang"."""
    command = [sys.executable, "-W", "ignore", __file__, "--library", module]
    done = subprocess.run(command, input=pickle.dumps(streams), stdout=subprocess.PIPE, check=True)
    found: list[str] = pickle.loads(done.stdout)
    assert len(found) == len(streams)
    return found


def library(module: str, streams: list[bytes]) -> list[str]:
    """The same, in the process that has the library."""
    decompress = importlib.import_module(module).decompress
    found: list[str] = []
    while len(found) < len(streams):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            for stream in streams[len(found) :]:
                try:
                    answer = digest(decompress(stream, parallel=1))
                except Exception:
                    answer = "detected"
                os.write(writer, answer.encode() + b"\n")
            os._exit(0)
        os.close(writer)
        text = ""
        while len(found) < len(streams):
            if not select.select([reader], [], [], SECONDS)[0]:
                os.kill(child, signal.SIGKILL)
                found.append("hang")
                break
            data = os.read(reader, 1 << 16)
            if not data:
                found.append("crash")
                break
            *lines, text = (text + data.decode()).split("\n")
            found += lines
        os.close(reader)
        os.waitpid(child, 0)
    return found


def count(found: list[str], right: list[str | None]) -> Counter[str]:
    """Outcomes. ``right``: the digest of what is right, None where nothing is."""
    return Counter(
        f if f in OUTCOMES else "harmless" if f == r else "wrong"
        for f, r in zip(found, right, strict=True)
    )


def table(cases: dict[str, list[tuple[bytes, str | None]]]) -> str:
    rows = ["| | streams | | " + " | ".join(OUTCOMES) + " |", "|---|---:|---|" + "---:|" * 5]
    for kind, every in cases.items():
        streams, right = [stream for stream, _ in every], [answer for _, answer in every]
        for i, (name, module) in enumerate(LIBRARIES.items()):
            of = count(answers(module, streams), right)
            head = f"| {kind} | {len(every):,} |" if i == 0 else "| | |"
            shares = (share(of[o], len(every)) for o in OUTCOMES)
            rows.append(f"{head} {name} | " + " | ".join(shares) + " |")
            print(rows[-1], flush=True)
    return "\n".join(rows) + "\n"


def share(n: int, total: int) -> str:
    if n == 0:
        return "0"
    return f"{100 * n / total:.1f} %" if n >= total / 1000 else f"{n} of {total:,}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", help=argparse.SUPPRESS)
    parser.add_argument("--write", help="the page to write the tables to")
    options = parser.parse_args()
    if options.library:
        found = library(options.library, pickle.load(sys.stdin.buffer))
        sys.stdout.buffer.write(pickle.dumps(found))
        return

    import referee
    from damaged import damaged, lies, originals, without_checksums

    def right(stream: bytes) -> str | None:
        try:
            return digest(referee.decode(stream))
        except referee.Refused:
            return None

    of: dict[str, dict[str, list[tuple[bytes, str | None]]]] = {"version 1": {}, "version 0": {}}
    of["lies"] = {}
    for made in originals():
        for name, stream in (("version 1", made), ("version 0", without_checksums(made))):
            whole = right(stream)
            assert {answers(m, [stream])[0] for m in LIBRARIES.values()} == {whole}
            for kind, bytes_ in damaged(stream):
                of[name].setdefault(kind, []).append((bytes_, whole))
        for what, lie in lies(made):
            of["lies"].setdefault(what, []).append((lie, right(lie)))
    number = sum(len(every) for cases in of.values() for every in cases.values())
    text = f"{number:,} streams, crackle-codec {version('crackle-codec')}.\n"
    print(text)
    tables = {name: table(cases) for name, cases in of.items()}
    if options.write:
        page = Path(options.write)
        said = page.read_text()
        for name, made_table in {"number": text, **tables}.items():
            begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
            before, rest = said.split(begin)
            said = f"{before}{begin}\n\n{made_table}\n{end}{rest.split(end)[1]}"
        page.write_text(said)


if __name__ == "__main__":
    main()
