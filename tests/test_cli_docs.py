"""The sessions in README.md and docs/cli.md print what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "docs" / "cli.md"]


def session(page: Path) -> list[tuple[str, str]]:
    """Commands, and what they print."""
    (block,) = re.findall(r"```console\n(.*?)```", page.read_text(), re.S)
    parts = re.split(r"^\$ (.*)\n", block, flags=re.M)
    assert parts[0] == ""
    return list(zip(parts[1::2], parts[2::2], strict=True))


def run(page: Path, folder: Path) -> list[tuple[str, str]]:
    """What the commands really print, in a shell where the program is installed."""
    programs = folder / "bin"
    programs.mkdir()
    for name, what in (("numcodecs-crackle", "-m numcodecs_crackle"), ("python", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {what} "$@"\n')
        program.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    work = folder / "work"
    work.mkdir()
    result = []
    for command, _ in session(page):
        done = subprocess.run(
            command, shell=True, cwd=work, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
        )  # fmt: skip
        result.append((command, done.stdout))
    return result


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_session(page, tmp_path):
    assert len(session(page)) >= 7
    assert run(page, tmp_path) == session(page)


if __name__ == "__main__":  # brings the pages up to date
    import tempfile

    for page in PAGES:
        with tempfile.TemporaryDirectory() as name:
            text = "".join(f"$ {command}\n{said}" for command, said in run(page, Path(name)))
        block = f"```console\n{text}```"
        page.write_text(
            re.sub(r"```console\n.*?```", lambda _, b=block: b, page.read_text(), flags=re.S)
        )
