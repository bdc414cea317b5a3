"""Every notebook runs, and shows what its committed outputs show."""

from __future__ import annotations

import base64
import io
import json
import re
import sys
import tempfile
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from notebooks import run
from numcodecs_crackle.demo import CountingStore

pytest.importorskip("matplotlib")
from matplotlib.image import imread

# Most bytes of a notebook with its pictures.
MOST = 400_000
# What differs from machine to machine: an address, a place.
PLACES = "|".join(re.escape(place) for place in (str(Path.home()), tempfile.gettempdir()))
PRIVATE = re.compile(rf"0x[0-9a-f]{{6,}}|/home/|{PLACES}")


def texts(cell):
    """What a cell says, without pictures."""
    return [
        output.text if output.output_type == "stream" else output.data.get("text/plain")
        for output in cell.get("outputs", ())
    ]


def pictures(cell):
    return [
        imread(io.BytesIO(base64.b64decode(output.data["image/png"])))
        for output in cell.get("outputs", ())
        if "image/png" in output.get("data", ())
    ]


def coarse(picture):
    """Means of the parts of a picture (16, 16, 3): text of another font changes them little."""
    rows, columns = (np.linspace(0, n, 17).astype(int) for n in picture.shape[:2])
    parts = np.add.reduceat(np.add.reduceat(picture[..., :3], rows[:-1], 0), columns[:-1], 1)
    return parts / (np.diff(rows)[:, None, None] * np.diff(columns)[:, None])


@pytest.mark.parametrize("path", run.NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook(path):
    kept, new = nbformat.read(path, as_version=4), run.executed(path)
    assert [cell.source for cell in kept.cells] == [cell.source for cell in new.cells]
    for before, after in zip(kept.cells, new.cells, strict=True):
        for output in (*before.get("outputs", ()), *after.get("outputs", ())):
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text
            assert not PRIVATE.search(json.dumps(output.get("text") or output.data["text/plain"]))
        drawn, again = pictures(before), pictures(after)
        assert len(drawn) == len(again), before.source
        if run.varies(before):
            continue
        assert texts(before) == texts(after)
        for one, other in zip(drawn, again, strict=True):
            np.testing.assert_allclose(one.shape, other.shape, rtol=0.05)
            assert np.abs(coarse(one) - coarse(other)).mean() < 0.03


@pytest.mark.parametrize("path", run.NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_committed(path):
    """Normal, small, run from top to bottom, with pictures; it says what to install."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    text = nbformat.writes(run.normal(nbformat.read(path, as_version=4))) + "\n"
    assert text == path.read_text(encoding="utf-8")
    assert path.stat().st_size < MOST
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert any(pictures(cell) for cell in code)
    first = notebook.cells[0]
    assert first.cell_type == "markdown" and 'pip install "numcodecs-crackle[' in first.source


def test_there_are_notebooks():
    assert len(run.NOTEBOOKS) == 5


def test_normal():
    both = {"image/png": "", run.WIDGET: {"model_id": "1f"}, "text/plain": "x"}
    cell = new_code_cell("1", metadata={"tags": ["varies"], "execution": {"iopub.execute": "now"}})
    cell.outputs = [new_output("display_data", both, metadata={"needs_background": "light"})]
    found = run.normal(new_notebook(cells=[cell], metadata={"widgets": {"a": 1}}))
    assert set(found.metadata) == {"kernelspec", "language_info"}
    assert found.cells[0].metadata == {"tags": ["varies"]} and run.varies(found.cells[0])
    assert set(found.cells[0].outputs[0].data) == {"image/png", "text/plain"}
    assert not found.cells[0].outputs[0].metadata


def test_a_run_again_leaves_what_is_the_same(tmp_path, capsys):
    """But for cells that are said to vary; those alone do not make a new file."""
    path = tmp_path / "x.ipynb"
    cells = [
        new_code_cell(f"import sys; print(sys.executable == {sys.executable!r})"),
        new_code_cell("import os; print(os.getpid(), os.getcwd())", metadata={"tags": ["varies"]}),
    ]
    nbformat.write(new_notebook(cells=cells), path)
    run.main([str(path)])
    once = path.read_bytes()
    assert nbformat.reads(once.decode(), 4).cells[0].outputs[0].text == "True\n"
    run.main([str(path)])
    assert path.read_bytes() == once
    notebook = nbformat.read(path, 4)
    notebook.cells[0].outputs[0].text = "other\n"
    nbformat.write(notebook, path)
    run.main([str(path)])
    assert texts(nbformat.read(path, 4).cells[0]) == ["True\n"]
    notebook = nbformat.read(path, 4)
    notebook.metadata["toc"] = {}
    nbformat.write(notebook, path)
    run.main([str(path)])
    assert "toc" not in nbformat.read(path, 4).metadata
    assert [line.split(", ")[1] for line in capsys.readouterr().out.splitlines()] == [
        "changed", "as it was", "changed", "changed",
    ]  # fmt: skip


def test_an_error_in_a_cell_stops(tmp_path):
    nbformat.write(new_notebook(cells=[new_code_cell("1 / 0")]), tmp_path / "x.ipynb")
    with pytest.raises(run.CellExecutionError, match="ZeroDivisionError"):
        run.executed(tmp_path / "x.ipynb")


def test_a_store_that_counts():
    import zarr
    from zarr.storage import MemoryStore

    from numcodecs_crackle import CrackleCodec, LabelVolume

    store = CountingStore(MemoryStore())
    labels = np.arange(64, dtype="u4").reshape(4, 4, 4) // 9
    array = zarr.create_array(
        store, data=labels, chunks=(2, 4, 4), serializer=CrackleCodec(), compressors=None
    )
    assert store.writes >= 3 and store.written >= array.nbytes_stored()
    volume = LabelVolume(array)
    store.reset()
    plan = volume.remap({1: 0}, dry_run=True)
    assert len(plan.chunks) == 1 and (store.writes, store.written) == (0, 0)
    chunks = sum(len(store._store._store_dict[key]) for key in ("c/0/0/0", "c/1/0/0"))
    assert store.read == chunks  # both are short enough to be read at once
    store.reset()
    volume.remap({1: 0})
    assert store.writes == 1 and store.written == len(store._store._store_dict["c/0/0/0"])


def test_parts_of_shards_are_counted():
    """Which zarr does not ask for by `get` alone."""
    import zarr
    from zarr.storage import MemoryStore

    store = CountingStore(MemoryStore())
    labels = np.arange(64, dtype="u4").reshape(4, 4, 4) // 9
    array = zarr.create_array(store, data=labels, chunks=(2, 4, 4), shards=(4, 4, 4))
    shard = store._store._store_dict["c/0/0/0"].to_bytes()
    index = 2 * 16 + 4
    chunk = int.from_bytes(shard[-index + 8 : -index + 16], "little")
    assert 0 < chunk < len(shard) - index
    store.reset()
    assert (array[:2] == labels[:2]).all()
    assert (store.requests, store.read) == (2, index + chunk)
