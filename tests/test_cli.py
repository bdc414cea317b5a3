"""The command line: help, kinds of file, what is replaced and removed, errors, exit codes."""

from __future__ import annotations

import gzip
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import numcodecs_crackle as ck
from numcodecs_crackle import extras, files
from numcodecs_crackle.cli import main

pytestmark = pytest.mark.usefixtures("empty_folder")
COMMANDS = {
    "compress": ["c"], "decompress": ["d"], "convert": [], "info": ["i"], "labels": [],
    "verify": ["test", "t"], "stats": [], "meta": [], "view": [], "renumber": [], "remap": [],
    "components": ["cc"], "downsample": [], "stack": [], "split": [],
    "export": [], "import": [], "serve": [],
}  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self):
        return True


def ok(*arguments):
    assert main(list(map(str, arguments))) == 0


def stdin(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def damaged(*slices):
    """bad.ckl: cells.ckl with a byte of each of some slices changed."""
    data = bytearray(Path("cells.ckl").read_bytes())
    head = ck.header(bytes(data))
    index = np.frombuffer(data[29 : 29 + 4 * head.sz], "<u4")
    for z in slices:
        begin = 29 + head.grid_index_bytes + head.num_label_bytes + int(index[:z].sum())
        data[begin + int(index[z]) // 2] ^= 0x55
    Path("bad.ckl").write_bytes(data)


def wrong(text, *arguments, capsys):
    """A usage error that says ``text``."""
    assert main(list(arguments)) == 2
    err = capsys.readouterr().err
    assert text in err and err.startswith("usage: ")


# Help.


def test_help(capsys):
    ok("--help")
    out = capsys.readouterr().out
    for name, aliases in COMMANDS.items():
        shown = f"{name} ({', '.join(aliases)})" if aliases else name
        assert re.search(rf"^    {re.escape(shown)}\s+\w", out, re.M), name
    assert "exit codes:" in out
    ok("--version")
    assert capsys.readouterr().out.strip() == ck.__version__


@pytest.mark.parametrize(
    "name", [*COMMANDS, *(alias for names in COMMANDS.values() for alias in names)]
)
def test_help_of_commands(name, capsys):
    ok(name, "--help")
    out = capsys.readouterr().out
    official = name if name in COMMANDS else next(k for k, v in COMMANDS.items() if name in v)
    assert f"numcodecs-crackle {official} " in out.partition("example:")[2]


def test_usage_errors(cells, capsys):
    for text, *arguments in [
        ("required: COMMAND",),
        ("invalid choice", "explode"),
        ("required: FILE", "compress"),
        ("'99' is neither 0 to 15 nor auto", "compress", "-m", "99", "cells.npy"),
        ("'x' is not a number from 0 on", "compress", "-j", "x", "cells.npy"),
        ("unrecognized arguments: --zip", "compress", "cells.npy", "--zip"),
        ("unrecognized arguments: more", "view", "cells.ckl", "-q", "more"),
        ("not allowed with", "compress", "-z", "--xz", "cells.npy"),
        ("-o is for one file", "compress", "-o", "x.ckl", "cells.npy", "cells.npy"),
        ("x.npy does not end as a .ckl file", "compress", "-o", "x.npy", "cells.npy"),
        ("does not end in .gz", "compress", "-z", "-o", "x.ckl", "cells.npy"),
        ("--rm is for outputs", "compress", "--rm", "-o", "-", "cells.npy"),
        ("see convert", "decompress", "-o", "x.ckl", "cells.ckl"),
        ("x does not end as a .npy file", "decompress", "-o", "x", "cells.ckl"),
        (".nrrd files are not compressed", "decompress", "--to", "nrrd", "--xz", "cells.ckl"),
        (".nii files are not compressed", "decompress", "--to", "nii", "--xz", "cells.ckl"),
        ("are of .ckl files", "convert", "--to", "npy", "-m", "1", "cells.ckl"),
        ("give one output", "renumber", "cells.ckl"),
        ("give one output", "renumber", "cells.ckl", "a.ckl", "-o", "b.ckl"),
        ("a mapping is a", "renumber", "cells.ckl", "a.ckl", "--mapping", "m.txt"),
        ("give a --mapping", "remap", "cells.ckl", "-o", "a.ckl"),
        ("'1=x' is not OLD=NEW", "remap", "cells.ckl", "-o", "a.ckl", "1=x"),
        ("give an output", "remap", "cells.ckl", "1=2"),
        ("give an output", "components", "cells.ckl"),
        ("required", "split", "cells.ckl"),
        ("use -o FOLDER", "split", "--each", "cells.ckl", "-o", "-"),
        ("'3' is not a range", "split", "--range", "3", "cells.ckl"),
        ("neither a slice nor", "labels", "--z", "x", "cells.ckl"),
        ("'1:2:3' is not a range", "labels", "--z", "1:2:3", "cells.ckl"),
        ("--parquet needs a file", "stats", "--parquet", "-", "cells.ckl"),
        ("room for one output", "stats", "--csv", "-", "--json", "-", "cells.ckl"),
    ]:
        wrong(text, *arguments, capsys=capsys)
    assert sorted(os.listdir()) == ["cells.ckl", "cells.npy"]


# From kind to kind.


def test_compress(cells, capsys):
    os.remove("cells.ckl")
    ok("compress", "cells.npy")
    size = os.path.getsize("cells.ckl")
    before = os.path.getsize("cells.npy")
    assert capsys.readouterr() == ("", f"cells.ckl: {before:,} -> {size:,} bytes\n")
    assert Path("cells.ckl").read_bytes() == ck.compress(cells)
    for options, expected in [
        (["-m", "3"], {"markov_model_order": 3}),
        (["--markov", "auto"], {"markov_model_order": "auto"}),
        (["-p", "-j", "1"], {"allow_pins": 1}),
        (["-pp"], {"allow_pins": 2}),
        (["--pins", "-m", "2"], {"allow_pins": 1, "markov_model_order": 2}),
    ]:
        ok("c", "-f", "-q", *options, "cells.npy")
        assert Path("cells.ckl").read_bytes() == ck.compress(cells, **expected), options
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("option, suffix", [("-z", ".gz"), ("--xz", ".xz"), ("--zst", ".zst")])
def test_second_stage(cells, option, suffix):
    ok("compress", option, "cells.npy")
    assert files.load(f"cells.ckl{suffix}").tobytes("F") == cells.tobytes("F")
    os.remove("cells.npy")
    ok("decompress", option, f"cells.ckl{suffix}")
    np.testing.assert_array_equal(files.load_any(f"cells.npy{suffix}"), cells)


@pytest.mark.parametrize(
    "suffix", [".npy", ".npy.gz", ".nrrd", ".nii", ".nii.gz", ".tif", ".tiff", ".cpso", ".ckl.xz"]
)
def test_kinds(cells, suffix):
    files.save(cells, f"a{suffix}")
    ok("compress", f"a{suffix}")
    np.testing.assert_array_equal(files.load("a.ckl"), cells)
    if suffix == ".ckl.xz":
        return
    ok("decompress", "a.ckl", "-o", f"b{suffix}")
    np.testing.assert_array_equal(files.load_any(f"b{suffix}"), cells)
    kind = suffix.removesuffix(".gz")
    ok("decompress", "cells.ckl", "-f", "--to", kind[1:], *["-z"] * suffix.endswith(".gz"))
    np.testing.assert_array_equal(files.load_any(f"cells{suffix}"), cells)
    ok("convert", f"a{suffix}", "-o", "c.npy")
    np.testing.assert_array_equal(np.load("c.npy"), cells)


def test_gzip_within_nrrd(cells):
    ok("decompress", "--to", "nrrd", "-z", "cells.ckl")
    assert b"encoding: gzip" in Path("cells.nrrd").read_bytes()[:300]
    np.testing.assert_array_equal(files.load_any("cells.nrrd"), cells)


def test_streams_coded_again(cells):
    """A stream keeps its order and its bytes unless options say otherwise."""
    ok("compress", "-m", 4, "cells.npy", "-o", "m4.ckl")
    ok("convert", "m4.ckl", "-o", "same.ckl")
    assert Path("same.ckl").read_bytes() == Path("m4.ckl").read_bytes()
    ok("convert", "m4.ckl", "-o", "m0.ckl", "-m", 0)
    assert Path("m0.ckl").read_bytes() == Path("cells.ckl").read_bytes()
    ok("compress", "m4.ckl", "-o", "p.ckl", "-p")
    assert Path("p.ckl").read_bytes() == ck.compress(cells, 4, allow_pins=1)
    ok("remap", "m4.ckl", "-o", "r.ckl", *(f"{n}=1" for n in range(2, 150)))
    ok("compress", "r.ckl", "-o", "rr.ckl", "--recompress")
    expected = np.where((cells > 1) & (cells < 150), 1, cells).astype("u4")
    assert Path("rr.ckl").read_bytes() == ck.compress(np.asfortranarray(expected), 4)
    assert os.path.getsize("rr.ckl") < os.path.getsize("r.ckl")


def test_standard_output_and_names_on_stdin(cells, monkeypatch, capsysbinary):
    ok("compress", "cells.npy", "-o", "-")
    assert capsysbinary.readouterr() == (ck.compress(cells), b"")
    ok("compress", "-z", "cells.npy", "-o", "-")
    assert gzip.decompress(capsysbinary.readouterr().out) == ck.compress(cells)
    ok("decompress", "--to", "tif", "cells.ckl", "-o", "-")
    Path("a.tif").write_bytes(capsysbinary.readouterr().out)
    np.testing.assert_array_equal(files.load_any("a.tif"), cells)
    shutil.copy("cells.npy", "a b\xe4.npy")
    stdin(monkeypatch, "cells.npy\r\n\na b\xe4.npy\n".encode())
    ok("compress", "-", "-f")
    assert Path("cells.ckl").read_bytes() == Path("a b\xe4.ckl").read_bytes()
    stdin(monkeypatch, b"")
    ok("decompress", "-")
    stdin(monkeypatch, b"cells.ckl\na b\xe4.ckl")
    assert main(["decompress", "-", "-o", "x.npy"]) == 2


def test_bytes_are_not_for_terminals(cells, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    wrong("a terminal is no place", "compress", "cells.npy", "-o", "-", capsys=capsys)


def test_existing_files(cells, capsys):
    Path("cells.ckl").write_bytes(b"old")
    assert main(["compress", "cells.npy"]) == 1
    assert capsys.readouterr().err == (
        "numcodecs-crackle: cells.npy: cells.ckl exists: use --force to replace it\n"
    )
    assert Path("cells.ckl").read_bytes() == b"old"
    ok("compress", "--force", "cells.npy")
    for arguments in [["compress"], ["renumber", "-o", "cells.ckl"], ["split", "--range", ":"]]:
        if arguments[0] == "split":
            arguments += ["-o", "cells.ckl"]
        assert main([*arguments, "cells.ckl"]) == 1
        assert "the output is the file itself" in capsys.readouterr().err
    ok("compress", "-m", 2, "-f", "--rm", "cells.ckl")
    assert ck.header(Path("cells.ckl").read_bytes()).markov_model_order == 2
    np.testing.assert_array_equal(files.load("cells.ckl"), cells)


def test_checked_before_the_work(cells, monkeypatch, capsys):
    """Nothing is read of a file whose output can't be."""
    monkeypatch.setattr(files, "load_any", lambda name: pytest.fail("it was read"))
    os.mkdir("folder.ckl")
    for output, text in [
        ("cells.ckl", "cells.ckl exists"),
        ("nowhere/x.ckl", "there is no folder nowhere"),
        ("folder.ckl", "folder.ckl is a folder"),
    ]:
        assert main(["compress", "cells.npy", "-o", output]) == 1
        assert text in capsys.readouterr().err


def test_two_files_to_one(cells, capsys):
    os.remove("cells.ckl")
    files.save(cells, "cells.nrrd")
    assert main(["compress", "-q", "cells.npy", "cells.nrrd"]) == 1
    assert capsys.readouterr().err == (
        "numcodecs-crackle: cells.nrrd: cells.ckl is already made from cells.npy\n"
    )
    assert os.path.exists("cells.ckl")


def test_removing(cells):
    ok("compress", "-k", "-f", "cells.npy")
    assert os.path.exists("cells.npy")
    ok("compress", "--rm", "-f", "cells.npy")
    assert os.listdir() == ["cells.ckl"]
    ok("split", "--each", "--rm", "cells.ckl")
    assert len(os.listdir()) == 12
    ok("stack", ".", "--rm", "-o", "cells.ckl")
    assert os.listdir() == ["cells.ckl"]
    assert Path("cells.ckl").read_bytes() == ck.compress(cells)
    assert main(["compress", "--rm", "cells.ckl"]) == 1
    assert os.listdir() == ["cells.ckl"]


def test_a_source_stays_if_writing_fails(cells, monkeypatch, capsys):
    def fail(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "save", fail)
    assert main(["compress", "--rm", "cells.npy", "-o", "x.ckl"]) == 1
    assert capsys.readouterr().err == "numcodecs-crackle: cells.npy: No space left on device\n"
    assert sorted(os.listdir()) == ["cells.ckl", "cells.npy"]


# Errors.


def test_one_bad_file_among_several(cells, capsys):
    np.save("floats.npy", np.zeros((3, 3, 3)))
    Path("text.npy").write_text("no array")
    shutil.copy("cells.npy", "last.npy")
    names = ["floats.npy", "missing.npy", "text.npy", "last.npy"]
    assert main(["compress", "-q", *names]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[:2] for line in sorted(lines)] == [
        ["numcodecs-crackle", name] for name in sorted(names[:3])
    ]
    assert any("missing.npy: No such file or directory" in line for line in lines)
    assert any("floats.npy: Crackle stores integer labels" in line for line in lines)
    np.testing.assert_array_equal(files.load("last.ckl"), cells)


@pytest.mark.parametrize("command", ["info", "labels", "stats", "view", "decompress"])
def test_not_a_stream(command, capsys):
    Path("x.ckl").write_bytes(b"hello " * 20)
    Path("empty.ckl").write_bytes(b"")
    for name in ("x.ckl", "empty.ckl"):
        more = ["-o", "out.png"] if command == "view" else []
        assert main([command, name, *more]) == 1
        out, err = capsys.readouterr()
        assert re.fullmatch(rf"numcodecs-crackle: {name}: header: .*\n", err) and not out
    assert sorted(os.listdir()) == ["empty.ckl", "x.ckl"]


def test_damage_is_told_where_it_is(cells, capsys):
    damaged(7)
    assert main(["decompress", "bad.ckl"]) == 1
    assert re.fullmatch(r"numcodecs-crackle: bad.ckl: .*, slice 7: .*\n", capsys.readouterr().err)
    assert not os.path.exists("bad.npy")


def test_debug(capsys):
    assert main(["info", "--debug", "missing.ckl"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_interrupted(cells, monkeypatch):
    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "bload", interrupt)
    assert main(["info", "cells.ckl"]) == 130


def test_missing_extra(cells, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.colors", None)
    assert main(["view", "cells.ckl", "-o", "x.png"]) == 1
    assert 'pip install "numcodecs-crackle[cli]"' in capsys.readouterr().err


def test_progress(cells, monkeypatch):
    names = ["cells.npy", "missing.npy", "other.npy"]
    shutil.copy("cells.npy", "other.npy")
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert main(["compress", "-f", *names]) == 1
    shown = sys.stderr.getvalue()
    assert "compress: 100%" in shown and "bytes" not in shown
    assert shown.count("numcodecs-crackle: missing.npy: No such file") == 1
    monkeypatch.setattr(sys, "stderr", Terminal())
    ok("compress", "-f", "-q", *names[::2])
    assert sys.stderr.getvalue() == ""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    ok("compress", "-f", *names[::2])
    assert "%" not in sys.stderr.getvalue() and "cells.ckl: " in sys.stderr.getvalue()


# Processes.


def run(*arguments, **options):
    root = Path(__file__).parents[1]
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "numcodecs_crackle", *arguments],
        env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, timeout=60, **options,
    )  # fmt: skip


def test_as_a_process(cells):
    done = run("compress", "cells.npy", "-o", "-")
    assert (done.returncode, done.stdout, done.stderr) == (0, ck.compress(cells), b"")
    done = run("verify", "-", input=done.stdout[:-4])
    assert (done.returncode, done.stderr) == (1, b"")
    assert done.stdout == b"-: damaged: crack index\n"
    assert run("verify", "--nonsense", "-").returncode == 2


def test_nobody_reads_stdout():
    files.save(np.arange(10**6).reshape(100, 100, 100), "many.ckl")
    root = str(Path(__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "numcodecs_crackle", "labels", "many.ckl"],
        env=os.environ | {"PYTHONPATH": root}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == b"0\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_the_entry_point():
    import tomllib

    text = Path(__file__).parents[1].joinpath("pyproject.toml").read_text()
    project = tomllib.loads(text)["project"]
    assert project["scripts"] == {"numcodecs-crackle": "numcodecs_crackle.cli:main"}
    for module in ("tqdm", "matplotlib"):
        extras.required(module, "cli")
        assert module in project["optional-dependencies"]["cli"]
