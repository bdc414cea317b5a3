"""What the benchmark says of its times, and that its page keeps what is not its own."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import OURS, REFERENCE, cases, report, timing


def test_rounds_are_interleaved_and_counted():
    calls: list[str] = []
    runs = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    times = timing.interleaved(runs, 0, 4)
    assert [len(t) for t in times.values()] == [4, 4, 4]
    assert len(calls) == 15  # a round to warm up
    assert [sorted(calls[i : i + 3]) for i in range(0, 15, 3)] == [["a", "b", "c"]] * 5
    assert len({calls[i] for i in range(3, 15, 3)}) == 3  # who comes first changes


def test_ratio_and_summary():
    times = {"fast": [1.0, 2.0, 1.0], "slow": [4.0, 4.0, 5.0]}
    assert timing.ratio(times, "fast", "slow") == 4
    assert timing.summary(times["slow"], 20) == {"median": 5, "best": 5, "n": 3}


def test_voronoi_has_nearest_seeds():
    v = cases.voronoi((64, 48, 3))
    assert v.shape == (64, 48, 3) and v.dtype == np.uint32
    pixels = v.shape[0] * v.shape[1] / len(np.unique(v[..., 0]))
    assert 20 < pixels < 45
    assert 0.5 < (v[..., 0] == v[..., 1]).mean() < 1


def test_sparse_keeps_a_tenth():
    v = np.arange(1, 1001, dtype=np.uint32).reshape(10, 10, 10)
    s = cases.sparse(v)
    assert s.dtype == v.dtype
    assert 50 < np.count_nonzero(s) < 150
    assert ((s == 0) | (s == v)).all()


def test_every_case_comes_in_both_orders():
    real = np.zeros((512, 512, 328), np.uint32, order="F")
    names = []
    for name, v in cases.cases(real, "real"):
        names.append(name)
        assert v.flags.f_contiguous if name.endswith("F") else v.flags.c_contiguous
        assert v.dtype.itemsize == (8 if "u64" in name else 4)
    assert len(names) == 16 and len(set(names)) == 16


@pytest.fixture
def results():
    stats = {"median": 5.0, "best": 6.0, "n": 3}
    row = {"bytes": 10, "gzip": 9, "zstd": 8, "encode": stats, "decode": stats}
    case = {
        "name": "real 64^3 F", "voxels": 100, "dtype": "uint32",
        "encode_ratio": 7.25, "decode_ratio": 5.0,
        "rows": {OURS: row, REFERENCE: {**row, "bytes": 12}, "weak": {"refused": "too wide"}},
    }  # fmt: skip
    return {"date": "today", "volume": "made", "machine": {"CPU": "x"}, "cases": [case]}


def test_page_keeps_what_is_around_it(tmp_path, results):
    path = tmp_path / "benchmarks.md"
    path.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write_page(results, path)
    once = path.read_text()
    report.write_page(results, path)
    assert path.read_text() == once
    assert once.startswith("before\n") and once.endswith("after\n") and "old" not in once
    assert "| real 64^3 F | 5.0 | 7.2 | 10 | 12 |" in once
    assert "weak: too wide." in once  # a contender that can't is not hidden
