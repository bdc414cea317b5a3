"""The commands that ask, edit and draw, one by one."""

from __future__ import annotations

import gzip
import json
import os
import re
from pathlib import Path

import crackle
import matplotlib
import numpy as np
import pyarrow.parquet as pq
import pytest
from matplotlib.image import imread
from test_cli import damaged, ok, stdin

import numcodecs_crackle as ck
from numcodecs_crackle import cli_edit, files, picture
from numcodecs_crackle.cli import main

pytestmark = pytest.mark.usefixtures("empty_folder")
DATA = Path(__file__).parent / "data"
SHAPE = (40, 30, 12)


# Questions.


def test_info(cells, capsys):
    files.save(cells, "cells.ckl.gz")
    ok("i", "--json", "cells.ckl", "cells.ckl.gz")
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    data = Path("cells.ckl").read_bytes()
    assert first["shape"] == list(SHAPE) and first["dtype"] == "uint32"
    assert first["labels"] == np.unique(cells).size
    assert first["file_bytes"] == len(data) and second["file_bytes"] < len(data)
    assert first["ratio"] == round(cells.nbytes / len(data), 2)
    assert sum(first["sections"].values()) == len(data)
    assert second["sections"] == first["sections"]
    index = np.frombuffer(data[29 : 29 + 4 * SHAPE[2]], "<u4")
    assert first["sections"]["crack_codes"] == index.sum()
    ok("info", "cells.ckl")
    out = capsys.readouterr().out
    assert out.startswith("cells.ckl\n  shape                  40 x 30 x 12\n")
    assert re.search(r"\n    crack codes +[\d,]+ bytes\n", out)


@pytest.mark.parametrize("path", sorted(DATA.glob("*.ckl")), ids=lambda p: p.stem)
def test_sections_of_golden_streams(path, capsys):
    ok("info", "--json", path)
    found = json.loads(capsys.readouterr().out)
    head = ck.load_header(path)
    index = np.frombuffer(path.read_bytes()[head.header_bytes :][: 4 * head.sz], "<u4")
    codes = found["sections"]["markov_model"] + found["sections"]["crack_codes"]
    assert codes == index.sum() + head.num_markov_model_bytes
    assert sum(found["sections"].values()) == path.stat().st_size


def test_no_voxels(capsys):
    files.save(np.zeros((3, 0, 2), "u2"), "none.ckl")
    ok("info", "--json", "none.ckl")
    assert json.loads(capsys.readouterr().out)["sections"] == {"header": 29}
    ok("labels", "none.ckl")
    ok("verify", "none.ckl")
    ok("stats", "none.ckl")
    assert capsys.readouterr().out.splitlines()[0] == "none.ckl: ok"
    ok("decompress", "-q", "none.ckl")
    assert np.load("none.npy").shape == (3, 0, 2)


def test_labels(cells, capsys):
    def printed(*arguments):
        ok("labels", *arguments)
        return list(map(int, capsys.readouterr().out.split()))

    assert printed("cells.ckl") == np.unique(cells).tolist()
    assert printed("cells.npy") == np.unique(cells).tolist()
    for text, index in [("3", 3), ("-1", -1), ("2:5", slice(2, 5)), (":2", slice(2)),
                        ("9:", slice(9, None))]:  # fmt: skip
        assert printed(f"--z={text}", "cells.ckl") == np.unique(cells[:, :, index]).tolist()
    assert printed("-z", "4:4", "cells.ckl") == []
    assert printed("--count", "cells.ckl") == [np.unique(cells).size]
    ok("labels", "--count", "cells.ckl", "--z", "0", "cells.npy")
    count = np.unique(cells[:, :, 0]).size
    assert capsys.readouterr().out == f"cells.ckl: {count}\ncells.npy: {count}\n"
    ok("labels", "--json", "cells.ckl")
    assert json.loads(capsys.readouterr().out) == {
        "file": "cells.ckl", "labels": np.unique(cells).tolist()
    }  # fmt: skip
    assert main(["labels", "--z", "12", "cells.ckl"]) == 1
    assert "slice 12 is out of bounds" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["verify", "test", "t"])
def test_verify(cells, command, capsys):
    damaged(3)
    assert main([command, "cells.ckl", "bad.ckl"]) == 1
    assert capsys.readouterr().out == "cells.ckl: ok\nbad.ckl: damaged: slice 3\n"
    assert main([command, "--json", "bad.ckl", "cells.ckl"]) == 1
    bad, good = map(json.loads, capsys.readouterr().out.splitlines())
    assert (bad["ok"], bad["z"], bad["labels"]) == (False, [3], True)
    assert (good["ok"], good["z"]) == (True, [])


def test_verify_names_sections(cells, capsys):
    data = Path("cells.ckl").read_bytes()
    flipped = bytearray(data)
    flipped[29 + 4 * SHAPE[2] + 4 + 9] ^= 1  # in the table of labels
    zipped = gzip.compress(data)
    for name, content, said in [
        ("head.ckl", b"\0" + data[1:], "header"),
        ("table.ckl", bytes(flipped), "labels"),
        ("short.ckl", data[:-5], "crack index"),
        ("zip.ckl.gz", zipped[:-20], "stream: zip.ckl.gz is damaged as a .gz file"),
    ]:
        Path(name).write_bytes(content)
        assert main(["verify", name]) == 1
        out = capsys.readouterr().out
        assert out.startswith(f"{name}: damaged: ") and said in out
    damaged(4, 5, 6, 9)
    assert main(["verify", "bad.ckl"]) == 1
    assert capsys.readouterr().out == "bad.ckl: damaged: slices 4-6, 9\n"
    assert main(["verify", "missing.ckl"]) == 1
    assert capsys.readouterr() == (
        "", "numcodecs-crackle: missing.ckl: No such file or directory\n"
    )  # fmt: skip


@pytest.mark.parametrize("command", ["info", "labels", "verify", "stats"])
def test_a_stream_on_stdin(cells, command, monkeypatch, capsys):
    ok(command, "cells.ckl")
    expected = capsys.readouterr().out.replace("cells.ckl", "-")
    stdin(monkeypatch, Path("cells.ckl").read_bytes())
    ok(command, "-")
    assert capsys.readouterr().out == expected
    stdin(monkeypatch, b"hello")
    assert main([command, "-"]) == 1


def test_stats(cells, capsys):
    counts = {int(k): int(v) for k, v in zip(*np.unique(cells, return_counts=True), strict=True)}
    largest = sorted(counts, key=lambda label: (-counts[label], label))
    ok("stats", "--top", 3, "cells.ckl")
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["label", "voxels", "x", "y", "z", "centroid"]
    assert [int(row.split()[0]) for row in rows] == largest[:3]
    where = np.argwhere(cells == largest[0])
    low, high, mean = where.min(0), where.max(0), where.mean(0)
    boxes = [f"{a}-{b}" for a, b in zip(low, high, strict=True)]
    expected = [str(largest[0]), f"{len(where):,}", *boxes, *(f"{m:.1f}" for m in mean)]
    assert rows[0].split() == expected

    ok("stats", "cells.ckl", "--csv", "s.csv", "--json", "s.json", "--parquet", "s.parquet")
    assert capsys.readouterr() == ("", "")
    table = pq.read_table("s.parquet")
    assert table.column("label").to_pylist() == largest
    assert json.loads(Path("s.json").read_text()) == table.to_pylist()
    lines = Path("s.csv").read_text().splitlines()
    assert lines[0] == ",".join(table.column_names) and len(lines) == len(counts) + 1
    assert table.sort_by("label").equals(ck.to_parquet(Path("cells.ckl").read_bytes()))

    label = largest[2]
    ok("stats", "--label", label, "cells.ckl", "--json", "-")
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["label"], row["voxel_count"]) == (label, counts[label])
    ok("stats", "-l", largest[4], "-l", label, "cells.npy", "--csv", "-")
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == [label, largest[4]]
    assert main(["stats", "-l", "123456", "cells.ckl"]) == 1
    assert main(["stats", "-l", "123456", "-l", str(label), "cells.ckl"]) == 1
    assert "123456" in capsys.readouterr().err
    assert main(["stats", "cells.ckl", "--csv", "s.csv"]) == 1
    assert "s.csv exists" in capsys.readouterr().err


def test_meta(cells, monkeypatch, capsys):
    files.save(np.zeros((4, 4, 4), "u1"), "dark.ckl")
    ok("meta", "--skip-empty", "cells.ckl", "dark.ckl")
    path = "cells.ckl.meta.parquet"
    assert not os.path.exists("dark.ckl.meta.parquet")
    data = Path("cells.ckl").read_bytes()
    assert files.load_sidecar("cells.ckl", data).equals(ck.to_parquet(data))
    capsys.readouterr()
    ok("meta", "cells.ckl")  # it is up to date
    assert capsys.readouterr() == ("", "")
    ok("stats", "cells.ckl")
    expected = capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(ck.measure, "totals", lambda *a, **k: pytest.fail("measured again"))
        ok("stats", "cells.ckl")
        assert capsys.readouterr().out == expected
    ok("meta", "--print", "cells.ckl")
    assert capsys.readouterr().out == expected
    ok("compress", "-f", "-q", "-m", 1, "cells.npy")
    assert main(["meta", "cells.ckl"]) == 1  # of the stream that was there
    ok("meta", "-f", "cells.ckl")
    assert files.load_sidecar("cells.ckl", Path("cells.ckl").read_bytes()) is not None
    stdin(monkeypatch, b"dark.ckl\n")
    ok("meta", "-")
    assert os.path.exists("dark.ckl.meta.parquet") and os.path.exists(path)


# Edits.


def test_renumber(cells, capsys):
    values = np.unique(cells)
    for n, suffix in enumerate(["csv", "json", "parquet"]):
        ok("renumber", "--start", 5, "cells.ckl", f"r{n}.ckl", "--mapping", f"m.{suffix}")
        back = {label: 5 + i for i, label in enumerate(values.tolist())}
        assert cli_edit.load_mapping(f"m.{suffix}") == back
    expected = np.searchsorted(values, cells) + 5
    got = files.load("r0.ckl")
    np.testing.assert_array_equal(got, expected)
    assert got.dtype == np.min_scalar_type(int(expected.max()))
    ok("renumber", "cells.npy", "-o", "r.ckl.gz", "-z")
    np.testing.assert_array_equal(files.load("r.ckl.gz"), expected - 5)
    assert main(["renumber", "cells.ckl", "new.ckl", "--mapping", "m.csv"]) == 1
    assert "m.csv exists" in capsys.readouterr().err and not os.path.exists("new.ckl")


def test_mappings_of_large_labels():
    mapping = {1: 3, 2**64 - 1: 0, 2**63: 1}
    for suffix in ("csv", "json", "parquet"):
        cli_edit.save_mapping(mapping, f"m.{suffix}")
        assert cli_edit.load_mapping(f"m.{suffix}") == mapping
    cli_edit.save_mapping({-1: -(2**63)}, "n.parquet")
    assert cli_edit.load_mapping("n.parquet") == {-1: -(2**63)}


def test_remap(cells, capsys):
    values = np.unique(cells).tolist()
    a, b, c = values[1:4]
    mapping = {a: 7, b: a, 999: 4}
    table = np.array([mapping.get(label, label) for label in values])
    expected = table[np.searchsorted(values, cells)]
    Path("plain.csv").write_text("".join(f"{k}, {v}\n" for k, v in mapping.items()))
    for suffix in ("csv", "json", "parquet"):
        cli_edit.save_mapping(mapping, f"m.{suffix}")
    for name in ("plain.csv", "m.csv", "m.json", "m.parquet"):
        ok("remap", "-f", "cells.ckl", "-o", "r.ckl", "--mapping", name)
        np.testing.assert_array_equal(files.load("r.ckl"), expected)
    pairs = [f"{k}={v}" for k, v in mapping.items()]
    ok("remap", "-f", "cells.ckl", *pairs[:1], "--recompress", "-o", "r.ckl", *pairs[1:])
    assert Path("r.ckl").read_bytes() == ck.compress(np.asfortranarray(expected.astype("u4")))
    ok("remap", "-f", "cells.ckl", "-o", "r.ckl", f"{c}=1", "--mapping", "m.csv")
    np.testing.assert_array_equal(files.load("r.ckl"), np.where(cells == c, 1, expected))
    os.remove("r.ckl")
    assert main(["remap", "--strict", "cells.ckl", "-o", "r.ckl", "--mapping", "m.csv"]) == 1
    assert "label 0 is not in the mapping" in capsys.readouterr().err
    ok("remap", "--strict", "cells.ckl", "-o", "r.ckl", *(f"{n}={n + 1}" for n in values))
    np.testing.assert_array_equal(files.load("r.ckl"), cells + 1)


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("m.csv", "old,new\n1,2\n3\n", "is not a pair of integers"),
        ("m.csv", "1,2\nx,3\n", "is not a pair of integers"),
        ("m.csv", "1,2\n1,3\n", "1 becomes both 2 and 3"),
        ("m.json", '{"1": 2.5}', "is not a pair of integers"),
        ("m.json", '{"1": true}', "is not a pair of integers"),
        ("m.json", '{"1": 2, "1": 3}', "1 becomes both 2 and 3"),
        ("m.json", "7", "is not an object"),
        ("m.json", "[1, 2]", "is not a pair of integers"),
        ("m.json", "{", "m.json: "),
        ("m.csv", "\xff", "m.csv: "),
        ("m.parquet", "PAR1", "m.parquet: "),
    ],
)
def test_bad_mappings(cells, name, text, said, capsys):
    Path(name).write_bytes(text.encode("latin-1"))
    assert main(["remap", "cells.ckl", "-o", "r.ckl", "--mapping", name]) == 1
    err = capsys.readouterr().err
    assert err.startswith("numcodecs-crackle: cells.ckl: ") and said in err
    assert err.count("\n") == 1 and not os.path.exists("r.ckl")


def test_mappings_that_lack(cells, capsys):
    import pyarrow as pa

    files.save_table(pa.table({"old": [1], "other": [2]}), "m.parquet")
    for name, said in [
        ("m.parquet", "m.parquet has no columns old and new"),
        ("missing.csv", "No such file or directory: missing.csv"),
    ]:
        assert main(["remap", "cells.ckl", "-o", "r.ckl", "--mapping", name]) == 1
        assert said in capsys.readouterr().err


def test_components(cells):
    for connectivity in (6, 18, 26):
        ok("cc", "-q", "--connectivity", connectivity, "cells.ckl", "-o", f"{connectivity}.ckl")
        expected = ck.connected_components(ck.compress(cells), connectivity)
        assert Path(f"{connectivity}.ckl").read_bytes() == expected
    ok("components", "--binary-image", "-m", 2, "cells.npy", "-o", "b.ckl")
    assert ck.header(Path("b.ckl").read_bytes()).markov_model_order == 2
    assert files.load("b.ckl").max() < files.load("26.ckl").max()


def test_downsample(cells):
    ok("downsample", "cells.ckl")
    once = ck.mode_pooling_2x2x1(ck.compress(cells))
    assert Path("downsampled.ckl").read_bytes() == once
    ok("downsample", "--sparse", "-n", 2, "cells.ckl", "-o", "d.ckl")
    twice = ck.compress(cells)
    for _ in range(2):
        twice = ck.mode_pooling_2x2x1(twice, sparse=True)
    assert Path("d.ckl").read_bytes() == twice
    ok("downsample", "-z", "cells.ckl")
    assert gzip.decompress(Path("downsampled.ckl.gz").read_bytes()) == once


def test_split_and_stack(cells, capsys):
    ok("split", "--z", 4, "cells.ckl")
    for name, z in (("before", slice(4)), ("middle", slice(4, 5)), ("after", slice(5, None))):
        np.testing.assert_array_equal(files.load(f"cells_{name}.ckl"), cells[:, :, z])
    ok("stack", *(f"cells_{name}.ckl" for name in ("before", "middle", "after")))
    assert Path("merged.ckl").read_bytes() == Path("cells.ckl").read_bytes()
    ok("split", "--z=-1", "cells.ckl", "-o", "last")
    assert sorted(os.listdir("last")) == ["cells_before.ckl", "cells_middle.ckl"]
    ok("split", "--range", "3:6", "--gzip", "-m", 1, "cells.npy")
    np.testing.assert_array_equal(files.load("cells_z3-6.ckl.gz"), cells[:, :, 3:6])
    ok("split", "--range=-2:", "cells.ckl", "-o", "two.ckl")
    np.testing.assert_array_equal(files.load("two.ckl"), cells[:, :, -2:])
    for arguments, said in [
        (["--z", "12"], "12 is outside the range"),
        (["--range", "5:5"], "there are no such slices"),
    ]:
        assert main(["split", *arguments, "cells.ckl"]) == 1
        assert said in capsys.readouterr().err
    assert main(["split", "--each", "cells.ckl", "-o", "cells.npy"]) == 1


def test_stack_a_folder(cells, capsys):
    ok("split", "--each", "cells.ckl", "-o", "slices")
    assert sorted(os.listdir("slices")) == [f"cells_z{z:02}.ckl" for z in range(SHAPE[2])]
    for z in range(SHAPE[2]):  # 2 comes before 10
        os.rename(f"slices/cells_z{z:02}.ckl", f"slices/s{z}.ckl")
    Path("slices/notes.txt").write_text("not a slice")
    Path("slices/x.nrrd.gz").write_text("not a slice")
    Path("slices/.half-written.ckl").write_text("not a slice")
    for _ in range(2):
        ok("stack", "slices", "-f", "-o", "slices/all.ckl")
        np.testing.assert_array_equal(files.load("slices/all.ckl"), cells)
    ok("stack", "cells.npy", "slices/all.ckl", "-m", 3, "-o", "m.ckl")
    np.testing.assert_array_equal(files.load("m.ckl"), np.concatenate([cells, cells], 2))
    assert ck.header(Path("m.ckl").read_bytes()).markov_model_order == 3
    os.mkdir("empty")
    assert main(["stack", "empty"]) == 1
    assert "empty: there are no .ckl files" in capsys.readouterr().err
    files.save(np.zeros((3, 3, 3), "u4"), "other.ckl")
    assert main(["stack", "cells.ckl", "other.ckl"]) == 1
    assert "same width and height" in capsys.readouterr().err
    assert main(["stack", "cells.ckl", "missing.ckl"]) == 1
    assert not os.path.exists("merged.ckl")


def test_edits_from_stdin_to_stdout(cells, monkeypatch, capsysbinary):
    data = Path("cells.ckl").read_bytes()
    for arguments, expected in [
        (["renumber", "-", "-"], ck.renumber(data)[0]),
        (["remap", "-", "-o", "-", "1=2"], ck.remap(data, {1: 2}, True)),
        (["downsample", "-", "-o", "-"], ck.mode_pooling_2x2x1(data)),
        (["cc", "-", "-o", "-"], ck.connected_components(data)),
        (["stack", "-", "cells.ckl", "-o", "-"], ck.zstack([data, data])),
        (["split", "-", "--range", "2:3", "-o", "-"], ck.zsplit(data, 2)[1]),
    ]:
        stdin(monkeypatch, data)
        ok(*arguments)
        assert capsysbinary.readouterr() == (expected, b""), arguments


# Pictures.


def test_view(cells, capsysbinary):
    def picture_of(*arguments):
        ok("view", "-f", "-q", "cells.ckl", "-o", "v.png", *arguments)
        return np.rint(imread("v.png") * 255).astype(np.uint8)[..., :3]

    by_label = dict(zip(np.unique(cells).tolist(), picture.colours(np.unique(cells)), strict=True))
    assert tuple(by_label[0]) == (0, 0, 0)
    assert len({tuple(c) for c in by_label.values()}) == len(by_label)
    for arguments, image in [
        ([], cells[:, :, 6]),
        (["-z", "2"], cells[:, :, 2]),
        (["--axis", "x"], cells[20]),
        (["--axis", "y", "--z", "29"], cells[:, 29]),
    ]:
        got = picture_of(*arguments)
        assert got.shape == (*image.T.shape, 3)
        expected = np.array([[by_label[v] for v in row] for row in image.T.tolist()])
        np.testing.assert_array_equal(got, expected)
    white = (picture_of("--borders") == 255).all(axis=2)
    image = cells[:, :, 6].T
    assert (white[:, 1:] >= (image[:, 1:] != image[:, :-1])).all()
    assert not white[0, 0] and 0 < white.sum() < white.size / 2
    ok("view", "cells.ckl", "-o", "-")
    assert capsysbinary.readouterr().out[:8] == b"\x89PNG\r\n\x1a\n"
    assert main(["view", "cells.ckl", "--z", "12", "-o", "w.png"]) == 1
    assert main(["view", "cells.ckl", "-o", "v.png"]) == 1


def test_colours_are_stable():
    labels = np.array([0, 1, 2, 2**63], np.uint64)
    assert picture.colours(labels).tolist() == picture.colours(labels[::-1])[::-1].tolist()
    assert (picture.colours(np.array([1], np.int8)) == picture.colours(labels[1:2])).all()
    many = np.unique(picture.colours(np.arange(10_000)), axis=0)
    assert len(many) > 9_900


def test_a_window_needs_a_screen(cells, monkeypatch, capsys):
    matplotlib.use("agg")
    assert main(["view", "cells.ckl"]) == 1
    assert "there is no screen for a window" in capsys.readouterr().err


def test_a_window(cells, monkeypatch):
    """What it has; agg stands for a screen."""
    matplotlib.use("agg")
    from matplotlib import pyplot
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    shown = []
    monkeypatch.setattr(FigureCanvasAgg, "required_interactive_framework", "some")
    monkeypatch.setattr(pyplot, "show", lambda: shown.append(pyplot.gcf()))
    ok("view", "cells.ckl", "--axis", "y", "-z", "2", "--borders")
    (figure,) = shown
    (image,) = figure.slices.axes.get_images()
    expected = picture.draw(cells[:, 2].T, borders=True)
    assert (np.asarray(image.get_array()) == expected).all()
    figure.slices.slider.set_val(29)
    assert (figure.slices.labels == cells[:, 29].T).all()
    pyplot.close("all")


# crackle-codec.


def test_files_of_crackle_codec(cells, capsys):
    theirs = np.asfortranarray(cells)
    crackle.save(theirs, "theirs.ckl.gz")
    ok("decompress", "theirs.ckl.gz")
    np.testing.assert_array_equal(np.load("theirs.npy"), cells)
    ok("labels", "theirs.ckl.gz")
    assert list(map(int, capsys.readouterr().out.split())) == np.unique(cells).tolist()
    ok("verify", "theirs.ckl.gz")
    for options in (["-z"], ["-m", "5", "-p"]):
        ok("compress", "-f", *options, "cells.npy")
    for name in ("cells.ckl", "cells.ckl.gz"):
        np.testing.assert_array_equal(crackle.load(name), cells)
    ok("meta", "cells.ckl.gz")
    table = crackle.aload("cells.ckl.gz").to_parquet()
    mine = pq.read_table("cells.ckl.meta.parquet")
    assert set(table.column_names) <= set(mine.column_names)
