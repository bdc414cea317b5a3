"""Calls that fail: they hold no buffer afterwards, keep no memory, and touch nothing too early."""

from __future__ import annotations

import ctypes
import gc
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tqdm
import zarr
from conftest import as_version_0, volume
from zarr.storage import MemoryStore

import numcodecs_crackle as ck
from numcodecs_crackle import chunks

A = volume("bricks", np.random.default_rng(2), (12, 10, 8)).astype("u4", order="F")
SLICE = 4
LABEL = int(A[0, 0, SLICE])
STREAMS = {
    "flat": ck.compress(A),
    "markov": ck.compress(A, 3),
    "pins": ck.compress(np.asfortranarray(np.repeat(A[:, :, :1], 8, 2)), allow_pins=1),
    "version 0": as_version_0(ck.compress(A)),
}


def damaged(section: str, kind: str = "flat") -> bytearray:
    """A stream with a damage that is found in a section."""
    data = bytearray(STREAMS[kind])
    head = ck.header(STREAMS[kind])
    index = head.header_bytes
    labels = index + head.grid_index_bytes
    if section == "cut off":
        return data[:-1]
    if section == "slice":
        lengths = np.frombuffer(data[index : index + 4 * head.sz], "<u4")
        model = (5 * 4**head.markov_model_order + 7) // 8 if head.markov_model_order else 0
        at = labels + head.num_label_bytes + model + int(lengths[:SLICE].sum())
        if head.format_version:
            data[len(data) - 4 * (head.sz - SLICE)] ^= 1  # its checksum
        else:
            data[at : at + 4] = b"\xff\xff\xff\xff"  # the length of its chain starts
        return data
    data[{"header": 9, "index": index, "labels": labels + 9}[section]] ^= 1
    return data


def view(**keywords) -> np.ndarray:
    """Something to decode to, which is not fit for it unless nothing is said."""
    shape, dtype = keywords.get("shape", A.shape), keywords.get("dtype", "u4")
    made = np.full(shape, 77, dtype, order="F")
    made = made[::2] if keywords.get("strided") else made
    made.flags.writeable = not keywords.get("read_only")
    return made


def raising(*args, **kwargs):
    raise KeyboardInterrupt


class Bar:
    """A progress bar that is interrupted at its second step."""

    def __init__(self, items, desc):
        self.items = items

    def __iter__(self):
        for i, item in enumerate(self.items):
            if i == 1:
                raise KeyboardInterrupt
            yield item


SECTIONS = [
    *(damaged(section) for section in ("cut off", "header", "index", "labels", "slice")),
    *(damaged("slice", kind) for kind in ("markov", "pins", "version 0")),
    damaged("labels", "pins"),
]
FEW = damaged("slice")
GOOD = bytearray(STREAMS["flat"])
PINS = bytearray(STREAMS["pins"])
NOISE = np.arange(600, dtype="u8").reshape(10, 10, 6)
# What fails, with the data that it must let go of.
CALLS = {
    **{
        f"decompress {i}": (lambda d: ck.decompress(d, parallel=1), data)
        for i, data in enumerate(SECTIONS)
    },
    **{
        f"Crackle.decode {i}": (lambda d: ck.Crackle().decode(d), data)
        for i, data in enumerate(SECTIONS)
    },
    "decode to out": (lambda d: ck.Crackle().decode(d, np.empty(A.size, "u4")), FEW),
    "out too small": (lambda d: ck.Crackle().decode(d, np.empty(7, "u4")), GOOD),
    "out read only": (lambda d: ck.decompress(d, out=view(read_only=True)), GOOD),
    "out of another shape": (lambda d: ck.decompress(d, out=view(shape=(2, 2, 2))), GOOD),
    "out of another dtype": (lambda d: ck.decompress(d, out=view(dtype="u8")), GOOD),
    "out strided": (lambda d: ck.decompress(d, out=view(shape=(24, 10, 8), strided=True)), GOOD),
    "z range": (lambda d: ck.decompress(d, z_start=5, z_end=99), GOOD),
    "label": (lambda d: ck.decompress(d, label=LABEL), FEW),
    "text": (lambda d: ck.decompress(d, label="7"), GOOD),
    "another chunk": (lambda d: chunks.decode_flat(d, (8, 10, 13), np.dtype("u4")), GOOD),
    "labels_for_z_range": (lambda d: ck.labels_for_z_range(d, 5, 99), GOOD),
    "labels_for_z_range of pins": (
        lambda d: ck.labels_for_z_range(d, 3, 6), damaged("slice", "pins"),
    ),
    "voxel_counts": (ck.voxel_counts, FEW),
    "voxel_counts of none": (lambda d: ck.voxel_counts(d, 12345), GOOD),
    "centroids": (ck.centroids, FEW),
    "bounding_boxes": (ck.bounding_boxes, FEW),
    "contacts": (ck.contacts, FEW),
    "point_cloud": (ck.point_cloud, FEW),
    "connectivity": (ck.voxel_connectivity_graph, FEW),
    "connected_components": (ck.connected_components, FEW),
    "interrupted": (lambda d: ck.connected_components(d, progress=True), GOOD),
    "array_equal": (lambda d: ck.array_equal(d, STREAMS["markov"]), FEW),
    "structure_equal": (lambda d: ck.structure_equal(d, STREAMS["markov"]), FEW),
    "points": (lambda d: ck.scattered_points(d, [[1, 1, SLICE]]), FEW),
    "remap": (lambda d: ck.remap(d, {}), GOOD),
    "remap of damage": (lambda d: ck.remap(d, {LABEL: 3}, True), damaged("labels")),
    "renumber": (lambda d: ck.renumber(d, 2**64), GOOD),
    "astype": (lambda d: ck.astype(d, "f4"), GOOD),
    "recompress": (lambda d: ck.recompress(ck.remap(d, {LABEL: 3}, True)), FEW),
    "reencode": (lambda d: ck.reencode(d, 5), FEW),
    "zsplit": (lambda d: ck.zsplit(d, 99), GOOD),
    "zstack": (lambda d: ck.zstack([d, ck.compress(A[:3])]), GOOD),
    "pins": (lambda d: ck.zstack([d, damaged("slice", "pins")]), PINS),
    "array": (lambda d: ck.CrackleArray(d)[:, :, SLICE], FEW),
    "array's place": (lambda d: ck.CrackleArray(d)[99], GOOD),
    "operator": (lambda d: ck.CrackleArray(d) * ck.CrackleArray(ck.compress(A[:3])), GOOD),
    "pooling": (ck.mode_pooling_2x2x1, FEW),
    "header": (ck.header, damaged("header")),
    "compress": (lambda d: ck.compress(np.frombuffer(d[:96], "f4")), GOOD),
    "encode": (lambda d: ck.Crackle().encode(np.frombuffer(d, "u1")[:64].reshape(8, 8)[::2]), GOOD),
    "Markov order": (lambda d: ck.compress(np.frombuffer(d, "u1"), 99), GOOD),
}  # fmt: skip


@pytest.fixture
def interrupted(monkeypatch):
    monkeypatch.setattr(tqdm, "tqdm", Bar)
    monkeypatch.setattr("numcodecs_crackle.components._STEP", 2)


def fails(call, data) -> str:
    """Let it fail; what it says. The exception is not kept."""
    try:
        call(data)
    except (ValueError, TypeError, LookupError, OverflowError, KeyboardInterrupt) as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("it did not fail")


def taken() -> int:
    """Bytes that C has allocated; 0 where that can't be told."""

    class Info(ctypes.Structure):
        _fields_ = [(name, ctypes.c_size_t) for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks",
            "uordblks", "fordblks", "keepcost")]  # fmt: skip

    tell = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if tell is None:
        return 0
    tell.restype = Info
    found = tell()
    return int(found.hblkhd) + int(found.uordblks)


@pytest.mark.parametrize("name", CALLS)
def test_nothing_is_held(name, interrupted):
    """The data can be resized and its views released, at once, not when garbage is collected."""
    call, stream = CALLS[name]
    data = bytearray(stream)
    gc.collect()
    gc.disable()
    try:
        fails(call, data)
        data.append(0)
        with memoryview(data[:-1]) as part:
            fails(call, part)
    finally:
        gc.enable()


def test_nothing_is_held_by_threads():
    """Of several that decode one fails."""
    a = np.full((1024, 1024, 4), 5, "u1", order="F")
    data = bytearray(ck.compress(a))
    data[-1] ^= 1
    gc.collect()
    gc.disable()
    try:
        fails(lambda d: ck.decompress(d, parallel=2), data)
        data.append(0)
    finally:
        gc.enable()


def test_memory_stays(interrupted):
    """Not a call keeps memory when it fails: 600 of each, in C and in Python."""
    kept = {}
    gc.collect()
    gc.freeze()  # what was there before is not looked through each time
    for name, (call, data) in CALLS.items():
        tell = bytearray(data)
        for _ in range(20):
            fails(call, tell)
        gc.collect()
        before, blocks = taken(), sys.getallocatedblocks()
        for _ in range(600):
            fails(call, tell)
        gc.collect()
        kept[name] = taken() - before, sys.getallocatedblocks() - blocks
    gc.unfreeze()
    # Not 100 bytes a call, nor one object.
    assert {name: n for name, n in kept.items() if n[0] > 60_000 or n[1] > 500} == {}


@pytest.mark.parametrize("section", ["cut off", "header", "index", "labels"])
@pytest.mark.parametrize("order", "CF")
def test_out_is_untouched(section, order):
    """What is refused before a slice is decoded leaves out as it was."""
    data = damaged(section)
    out = np.full(A.shape, 77, "u4", order=order)
    fails(lambda d: ck.decompress(d, out=out), data)
    fails(lambda d: ck.decompress(d, label=LABEL, out=out.view("?")[:12]), data)
    fails(lambda d: ck.Crackle().decode(d, out), data)
    flat = out.reshape(-1, order="A").view("u1")
    fails(lambda d: chunks.decode_flat(d, out=flat), data)
    assert (out == 77).all()


@pytest.mark.parametrize(
    "keywords",
    [{"shape": (2, 2, 2)}, {"dtype": "i4"}, {"shape": (24, 10, 8), "strided": True},
     {"read_only": True}, {"dtype": ">u4"}],
)  # fmt: skip
def test_unfit_out_is_untouched(keywords):
    out = view(**keywords)
    says = fails(lambda d: ck.decompress(d, out=out), GOOD)
    assert (out == 77).all()
    assert says.startswith("ValueError: out is"), says


def test_out_after_a_damaged_slice():
    """Then it has what was decoded so far, or not: only its owner's memory is written to."""
    around = np.full(A.size + 32, 77, "u4")
    out = around[16:-16].reshape(A.shape, order="F")
    fails(lambda d: ck.decompress(d, out=out), FEW)
    fails(lambda d: ck.Crackle().decode(d, around[16:-16]), FEW)
    assert (around[:16] == 77).all() and (around[-16:] == 77).all()


def test_out_of_part_of_the_slices():
    """Slices that are not asked for may be damaged."""
    out = np.empty((12, 10, SLICE), "u4", order="F")
    ck.decompress(FEW, z_end=SLICE, out=out)
    np.testing.assert_array_equal(out, A[:, :, :SLICE])


def collect():
    for _ in range(3):  # Python without a global lock does not see all at once
        gc.collect()


@pytest.mark.parametrize("layout", [{"shards": (16, 10, 12)}, {}])
def test_zarr(layout):
    """A chunk that can't be read: the same error at each try, and memory stays."""
    store = MemoryStore()
    z = zarr.create_array(
        store, shape=(16, 10, 12), chunks=(8, 10, 12), dtype="u4",
        serializer=ck.CrackleCodec(), compressors=None, **layout,
    )  # fmt: skip
    z[:8] = A.T
    (key,) = (k for k in store._store_dict if k.startswith("c/"))
    whole = store._store_dict[key].to_bytes()
    at = whole.index(STREAMS["flat"])
    bad = bytearray(whole)
    bad[at : at + len(FEW)] = FEW
    store._store_dict[key] = z.store_path.store._store_dict[key].from_bytes(bytes(bad))
    said = {fails(lambda z: z[...], z) for _ in range(20)}
    assert len(said) == 1 and f"slice {SLICE}" in said.pop()
    collect()
    before = taken()
    for _ in range(300):
        fails(lambda z: z[:8, 3:5], z)
    collect()
    assert taken() - before < 300 * A.nbytes // 8  # threads keep some of what they used
    np.testing.assert_array_equal(z[SLICE - 1], A[:, :, SLICE - 1].T)


NO_MEMORY = """
import resource
import numpy as np
import numcodecs_crackle as ck
a = np.zeros((4096, 4096, 1), "u1", order="F")
a[:2048] = 1
stream, out = bytearray(ck.compress(a)), np.full_like(a, 77, order="F")
ck.decompress(bytes(ck.compress(a[:64])))
used = 1024 * int(next(l for l in open("/proc/self/status") if l.startswith("VmSize")).split()[1])
resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 20), resource.RLIM_INFINITY))
failed = 0
for call in (
    lambda: ck.decompress(stream, out=out, parallel=1),
    lambda: ck.compress(a, parallel=1),
    lambda: ck.voxel_counts(stream, parallel=1),
    lambda: ck.contacts(stream, parallel=1),
    lambda: ck.recompress(stream),
    lambda: ck.decompress(stream, parallel=1),
):
    for _ in range(50):
        try:
            call()
        except MemoryError:
            failed += 1
        stream.append(0)
        del stream[-1:]
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
assert (ck.decompress(stream) == a).all()
print(failed)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells of memory so")
@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="sanitizers map more than that")
def test_no_memory():
    """MemoryError as often as asked, and all is well when there is some again."""
    done = in_a_child("-c", NO_MEMORY)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 150


def in_a_child(*arguments: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(ck.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )


WARNINGS = """
import importlib, sys
from pathlib import Path
for name in sys.argv[2:]:
    importlib.import_module(f"numcodecs_crackle.{name}")
import numpy as np, zarr
import numcodecs_crackle as ck
from numcodecs_crackle import cli, files
folder = Path(sys.argv[1])
a = np.arange(4096, dtype="u4").reshape(16, 16, 16) // 50
np.save(folder / "a.npy", a)
def run(*words):
    status = cli.main([str(folder / w) if "." in w else w for w in words])
    return status or 0
assert run("compress", "a.npy") == run("stats", "a.ckl") == run("verify", "a.ckl") == 0
assert run("convert", "a.ckl", "-o", "a.nii.gz") == run("meta", "a.ckl") == 0
data = bytearray((folder / "a.ckl").read_bytes())
data[-3] ^= 1
(folder / "bad.ckl").write_bytes(data)
assert run("verify", "bad.ckl") != 0 and run("decompress", "bad.ckl") != 0
(folder / "bad.ckl.gz").write_bytes(b"no gzip")
for call in (files.load, files.load_header, files.load_num_labels, ck.aload):
    for name in ("bad.ckl", "bad.ckl.gz"):
        try:
            call(folder / name)
        except ck.FormatError:
            pass
array = zarr.create_array(
    folder / "a.zarr", data=a, chunks=(8, 8, 8), serializer=ck.CrackleCodec(), compressors=None
)
volume = ck.LabelVolume(array)
volume.build_index(folder / "index")
volume.remap({3: 4})
assert volume.voxel_counts(4) == 100
(folder / "index" / "part-000000.parquet").write_bytes(b"no parquet")
try:
    ck.LabelVolume(array, index=folder / "index")
except ck.FormatError:
    print("end")
"""


@pytest.mark.parametrize("options", [("-W", "error"), ("-W", "error", "-X", "dev")], ids=len)
def test_no_warnings(tmp_path, options):
    """Of modules that are imported and files that are opened: every one is closed again."""
    names = [m.name for m in pkgutil.iter_modules(ck.__path__) if m.name != "__main__"]
    done = in_a_child(*options, "-c", WARNINGS, str(tmp_path), *names)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("end\n")
    assert "Warning" not in done.stderr, done.stderr
