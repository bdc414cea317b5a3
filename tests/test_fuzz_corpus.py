"""The fuzz targets on their seeds, and on what once failed: with any C compiler, and without."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FUZZ = ROOT / "fuzz"
TARGETS = {"decode": "streams", "measure": "streams", "edit": "streams", "roundtrip": "arrays"}
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
# The sanitizers of the process that runs the tests, if any, are not those of the targets.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"} | {
    "ASAN_OPTIONS": "abort_on_error=0:detect_leaks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}


def run(command: list[str], folder: Path, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, input=text, capture_output=True, text=True, env=ENVIRONMENT
    )


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A compiler's command, and a folder with the objects that all targets are linked with."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("replay")
    folder.joinpath("empty.c").write_text("int main(void) { return 0; }\n")
    command = [compiler, "-std=c11", "-g1"]
    if run([*command, *SANITIZE, "empty.c", "-o", "empty"], folder).returncode == 0 and (
        run(["./empty"], folder).returncode == 0
    ):
        command += SANITIZE
    shared = [FUZZ / f"{name}.c" for name in ("main", "common", "queries")]
    sources = sorted(map(str, [*ROOT.joinpath("csrc").glob("*.c"), *shared]))
    built = run([*command, "-c", *sources], folder)
    assert built.returncode == 0, built.stderr
    return command, folder


def inputs_of(target: str, seeds: str) -> list[Path]:
    places = (FUZZ / "seeds" / seeds, FUZZ / "regressions" / target)
    found = [path for place in places for path in sorted(place.glob("[!.]*"))]
    assert len(found) >= 40
    return found


@pytest.mark.parametrize("target", TARGETS)
def test_replay(compiled, target):
    command, folder = compiled
    objects = sorted(map(str, folder.glob("*.o")))
    built = run([*command, "-o", target, str(FUZZ / f"{target}.c"), *objects], folder)
    assert built.returncode == 0, built.stderr
    inputs = inputs_of(target, TARGETS[target])
    replayed = run([f"./{target}"], folder, "".join(f"{path}\n" for path in inputs))
    assert replayed.returncode == 0, replayed.stdout[-300:] + replayed.stderr
    assert replayed.stdout.endswith(f"{len(inputs)} inputs replayed\n")


def test_replay_of_stored_chunks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from fuzz.zarr_chunk import KINDS, NAMES, one_input

    inputs = [path.read_bytes() for path in inputs_of("zarr", "zarr")]
    for data in inputs:
        one_input(data)
    assert {data[0] % len(NAMES) for data in inputs} == set(range(len(NAMES)))
    assert {data[3] % len(KINDS) for data in inputs} == set(range(len(KINDS)))
