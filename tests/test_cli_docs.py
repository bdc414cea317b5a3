"""The session in docs/cli.md prints what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

DOC = Path(__file__).parents[1] / "docs" / "cli.md"


def session() -> list[tuple[str, str]]:
    """Commands, and what they print."""
    (block,) = re.findall(r"```console\n(.*?)```", DOC.read_text(), re.S)
    parts = re.split(r"^\$ (.*)\n", block, flags=re.M)
    assert parts[0] == ""
    return list(zip(parts[1::2], parts[2::2], strict=True))


def run(folder: Path) -> list[tuple[str, str]]:
    """What the commands really print, in a shell where the program is installed."""
    root, programs = DOC.parents[1], folder / "bin"
    programs.mkdir()
    for name, what in (("numcodecs-crackle", "-m numcodecs_crackle"), ("python", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {what} "$@"\n')
        program.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(root),
    }
    work = folder / "work"
    work.mkdir()
    result = []
    for command, _ in session():
        done = subprocess.run(
            command, shell=True, cwd=work, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
        )  # fmt: skip
        result.append((command, done.stdout))
    return result


def test_session(tmp_path):
    assert len(session()) >= 10
    assert run(tmp_path) == session()


if __name__ == "__main__":  # brings the page up to date
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        text = "".join(f"$ {command}\n{said}" for command, said in run(Path(name)))
    page = re.sub(
        r"```console\n.*?```", lambda _: f"```console\n{text}```", DOC.read_text(), flags=re.S
    )
    DOC.write_text(page)
