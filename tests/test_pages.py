"""Code in README.md and on the pages of docs/ runs as written, and prints what is written.

Blocks of a page run in order, in one namespace and one folder. Sessions (```console) are
compared with what the commands print.
`python tests/test_pages.py` brings sessions, and pictures that blocks draw, up to date.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import matplotlib
import pytest
from matplotlib import pyplot

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# What is drawn by a page's blocks and shown on the page.
PICTURES = {"docs/tutorial.md": {"slice.png": "docs/img/tutorial-slice.png"}}
# Of the other kinds of block nothing runs: what can run is python or console.
KINDS = {"python", "console", "", "text", "sh", "json", "sql", "{toctree}", "{eval-rst}"}

matplotlib.use("agg")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, kind: str) -> list[str]:
    """Blocks of a kind, after as many empty lines as make their line numbers the page's."""
    text = page.read_text()
    found = re.finditer(rf"^```{kind}\n(.*?)^```$", text, re.M | re.S)
    return ["\n" * text.count("\n", 0, m.start(1)) + m[1] for m in found]


SCRIPTS = {name_of(page): blocks(page, "python") for page in PAGES if blocks(page, "python")}
SESSIONS = {name_of(page): page for page in PAGES if blocks(page, "console")}


def execute(name: str, folder: Path) -> None:
    namespace: dict[str, object] = {"__name__": "a page"}
    with chdir(folder):
        for block in SCRIPTS[name]:
            exec(compile(block, str(ROOT / name), "exec"), namespace)


@pytest.mark.parametrize("name", SCRIPTS)
def test_blocks(name, tmp_path):
    execute(name, tmp_path)
    for picture in PICTURES.get(name, {}):
        assert (tmp_path / picture).stat().st_size
    pyplot.close("all")


def session(page: Path) -> list[tuple[str, str]]:
    """Commands, and what they print; those of several blocks after each other."""
    result = []
    for block in blocks(page, "console"):
        parts = re.split(r"^\$ (.*)\n", block.lstrip("\n"), flags=re.M)
        assert parts[0] == ""
        result += zip(parts[1::2], parts[2::2], strict=True)
    return result


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


@pytest.mark.skipif(os.name != "posix", reason="sessions of a POSIX shell")
@pytest.mark.parametrize("name", SESSIONS)
def test_session(name, tmp_path):
    page = SESSIONS[name]
    assert session(page)
    assert run(page, tmp_path) == session(page)


def test_nothing_is_passed_over():
    for page in PAGES:
        fences = re.findall(r"^[ \t>]*(?:`{3,}|~{3,})(.*)$", page.read_text(), re.M)
        opened = [kind.strip().split(" ")[0] for kind in fences[::2]]
        assert not any(fences[1::2]), f"{page}: a block that is not closed"
        assert set(opened) <= KINDS, page
        for kind in ("python", "console"):
            assert opened.count(kind) == len(blocks(page, kind)), page
    assert {"README.md", "docs/cli.md", "docs/volumes.md"} <= {*SESSIONS, *SCRIPTS}
    assert len(session(SESSIONS["docs/cli.md"])) >= 7


def main() -> None:
    import tempfile

    for page in SESSIONS.values():
        with tempfile.TemporaryDirectory() as folder:
            said = iter(run(page, Path(folder)))

        def renewed(match: re.Match[str], said: Iterator[tuple[str, str]] = said) -> str:
            commands = re.findall(r"^\$ .*\n", match[0], re.M)
            pairs = [next(said) for _ in commands]
            return "```console\n" + "".join(f"$ {c}\n{text}" for c, text in pairs) + "```"

        text = re.sub(r"^```console\n.*?^```$", renewed, page.read_text(), flags=re.M | re.S)
        page.write_text(text)
    for name, drawn in PICTURES.items():
        with tempfile.TemporaryDirectory() as folder:
            execute(name, Path(folder))
            for source, target in drawn.items():
                shutil.copyfile(Path(folder) / source, ROOT / target)


if __name__ == "__main__":
    main()
