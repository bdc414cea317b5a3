"""Streams that lie where their checksums are right: each is refused, in little time and memory."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
import zarr
from crafted import Crafted, blank, blank_crc, chains, code, number, packed
from test_claims import stream_of_pins

import numcodecs_crackle as ck
from numcodecs_crackle import _native, blockwise, limits
from numcodecs_crackle.bloscpack import BloscpackFile, pack_bytes
from numcodecs_crackle.file_array import FileArray

MOST = 2**32 - 1
SX, SY = 5, 4


def line(path="dddd" + "du", rows=((0, [2]),)):
    """The crack code of 5 x 4 pixels whose left 2 columns are one component."""
    return code(chains(rows, SX, SY), packed(path))


def ids():
    made = np.zeros((SX, SY), "<u4", order="F")
    made[2:] = 1
    return _native.crc32c(made.tobytes(order="F"))


HONEST = Crafted((SX, SY, 1), [line()], (7, 9), counts=(2,), keys=(0, 1), crcs=(ids(),))
ONE = Crafted((SX, SY, 2), [blank(SY)] * 2)


def walk(path):
    return HONEST.with_(codes=[line(path)])


def index(made):
    return HONEST.with_(codes=[code(made, packed("dddd" + "du"))])


def section(made):
    return HONEST.with_(labels=made)


def head(base=HONEST, **fields):
    return base.with_(head=fields)


def markov(order):
    """Order 1 to 15 with a model of rank orders that don't exist."""
    size = (5 * 4**order + 7) // 8
    return HONEST.with_(model=b"\xff" * size, head={"markov_model_order": order})


def pins(widths=2 | 2 << 2 | 2 << 4, counts=1, number_of=1, depth=0, at=0, single=None):
    """5 x 4 x 3 voxels, pins of one label; the last argument names a component."""
    made = b"\1" + number(1, 8) + b"\7" + bytes([counts]) * 3 + bytes([widths])
    made += number(number_of, 4) + number(at, 1) * 1 + number(depth, 4)
    made += number(0 if single is None else 1, 4)
    made += b"" if single is None else number(single, 4)
    return Crafted((SX, SY, 3), [blank(SY)] * 3, labels=made, head={"label_format": 2})


LIES = {
    "sx": head(sx=MOST), "sy": head(sy=MOST), "sz": head(sz=MOST),
    "sizes": head(sx=2**16, sy=2**16),
    "all sizes": head(sx=2**20, sy=2**20, sz=2**20), "sx one more": head(sx=SX + 1),
    "sy one less": head(sy=SY - 1), "no voxels": head(sx=0),
    "label bytes": head(num_label_bytes=2**64 - 1),
    "label bytes, 2^63": head(num_label_bytes=2**63),
    "no label bytes": head(num_label_bytes=0),
    "labels wrap around": section(number(2**61 + 1, 8) + HONEST.label_section()[8:]),
    "labels 2^64 - 1": section(number(2**64 - 1, 8) + HONEST.label_section()[8:]),
    "no number of labels": section(b"\1\0"), "pins cut off": head(section(b"\1"), label_format=2),
    "no labels": section(number(0, 8) + HONEST.label_section()[8:]),
    "a label too many": section(number(3, 8) + HONEST.label_section()[8:]),
    "no components": HONEST.with_(counts=(0,), keys=(0, 1)),
    "a component too many": HONEST.with_(counts=(3,), keys=(0, 1, 1)),
    "a component too few": HONEST.with_(counts=(1,), keys=(0,)),
    "more components than pixels": HONEST.with_(counts=(21,), keys=(0,) * 21),
    "components without keys": HONEST.with_(counts=(20,), keys=(0, 1)),
    "a key too large": HONEST.with_(keys=(0, 2)), "key 255": HONEST.with_(keys=(255, 1)),
    "more keys than components": HONEST.with_(keys=(0, 1, 1)),
    "slices of other slices": ONE.with_(counts=(2, 1), keys=(0, 0, 0)),
    "crack codes of 2^32": HONEST.with_(lengths=(MOST,)),
    "crack codes that add up beyond 2^32": ONE.with_(lengths=(MOST, MOST)),
    "a crack code of no bytes": ONE.with_(lengths=(0, 10)),
    "a crack code of three bytes": ONE.with_(lengths=(3, 7)),
    "another slice's crack code": ONE.with_(lengths=(6, 4)),
    "an index of chains of 2^32": HONEST.with_(codes=[number(MOST, 4) + line()[4:]]),
    "an index a byte longer": HONEST.with_(codes=[number(len(line()) - 3, 4) + line()[4:]]),
    "255 rows": index(b"\xff" + chains([(0, [2])], SX, SY)[1:]),
    "255 chains": index(b"\1\0\xff\2"), "a row too many": index(b"\2\0\1\2"),
    "more index than rows": index(chains([(0, [2])], SX, SY) + b"\0"),
    "a chain below": index(chains([(5, [2])], SX, SY)),
    "rows that add up": index(chains([(4, [0]), (255, [0])], SX, SY)),
    "a chain to the right": index(chains([(0, [6])], SX, SY)),
    "chains that add up": index(chains([(0, [2, 255])], SX, SY)),
    "chains, and no moves": HONEST.with_(codes=[line(path="")]),
    "moves, and no chain": HONEST.with_(codes=[blank(SY) + packed("dd")]),
    "up and out": walk("u" + "du"), "down and out": walk("ddddd" + "du"),
    "along the border": walk("lldd" + "du"), "right and out": walk("drrrrr" + "du"),
    "out and in again": walk("duuldd" + "du"), "far out": walk("d" + "r" * 300 + "du"),
    "no end": walk("dddd"), "an end too many": walk("dddd" + "du" + "du"),
    "more moves behind the end": walk("dddd" + "du" + "rrrrrrrr"),
    "a branch that does not end": walk("ud" + "dddd" + "du"),
    "branches only": walk("ud" * 4000), "ends only": walk("du" * 4000),
    "branches that end": walk("ud" + "udlr" * 2000 + "du" * 3000),
    "a deep stack": HONEST.with_(codes=[line("d" + "ud" * 60_000 + "du" * 59_999)]),
    "no border where one is": HONEST.with_(codes=[blank(SY)]),
    "another border": HONEST.with_(codes=[line(rows=[(0, [3])])]),
    "another checksum": HONEST.with_(crcs=(0,)),
    "a model of no rank orders": markov(1), "a model of order 8": markov(8),
    "a model that is not there": head(markov_model_order=15),
    "a Markov order of blank slices": head(ONE, markov_model_order=4),
    "noise that is none": head(crack_format=1),
    "fixed pins": head(label_format=1), "label format 3": head(label_format=3),
    "flat labels as pins": head(label_format=2),
    "several grids": head(grid_size=2), "a grid of 2^200": head(grid_size=2**200),
    "a pin too deep": pins(depth=3), "a pin of 2^32": pins(depth=MOST),
    "a pin behind the volume": pins(at=60), "a pin that ends behind it": pins(at=41, depth=1),
    "2^32 pins": pins(number_of=MOST), "a pin too many": pins(number_of=2),
    "a single behind the volume": pins(single=3), "a single of 2^32": pins(single=MOST),
    "pins of no components": pins(counts=0), "pins of too many components": pins(counts=21),
    "pins, other widths": pins(widths=3 | 3 << 2 | 3 << 4),
    "pins, a reserved bit": pins(widths=2 | 2 << 2 | 2 << 4 | 64),
    "components that pins can't tell apart": Crafted(
        (2000, 2000, 1), [blank(2000)],
        labels=b"\1" + number(1, 8) + b"\7" + number(4_000_000, 4) + b"\0\0\0",
        head={"label_format": 2, "crack_format": 1},
    ),
}  # fmt: skip
QUESTIONS = {
    "decompress": ck.decompress,
    "voxel_counts": ck.voxel_counts,
    "contacts": ck.contacts,
    "recompress": ck.recompress,
}


def test_honest():
    """What the lies were made from is right, and is what the array becomes."""
    array = np.full((SX, SY, 1), 7, "u1", order="F")
    array[2:] = 9
    assert HONEST.tobytes() == ck.compress(array)
    assert ONE.tobytes() == ck.compress(np.full((SX, SY, 2), 7, "u1", order="F"))
    assert (ck.decompress(pins(depth=1).tobytes())[0, 0] == [7, 7, 1]).all()
    assert (ck.decompress(pins(single=2).tobytes())[0, 0] == [7, 1, 7]).all()


@pytest.fixture
def cheap(ends):
    """It ends, and takes less than 64 MB besides what is there."""
    before = _memory("VmRSS", reset=True)
    yield
    assert _memory("VmHWM") - before < 64 << 20


def _memory(what, reset=False):
    if sys.platform != "linux" or "LD_PRELOAD" in os.environ:  # sanitizers take some, too
        return 0
    if reset:  # the most, from now on
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    with open("/proc/self/status") as file:
        return next(int(row.split()[1]) << 10 for row in file if row.startswith(what))


@pytest.mark.parametrize("name", LIES)
def test_refused(cheap, name):
    binary = LIES[name].tobytes()
    for question in QUESTIONS.values():
        with pytest.raises(ck.FormatError):
            question(binary)
    assert not ck.ok(binary)


BLANK = Crafted((32_000, 32_000, 1), [blank(32_000)], crcs=(blank_crc(32_000**2),))


def test_a_large_slice_of_few_bytes(cheap):
    """Valid, of 10^9 voxels: nothing is done until somebody says that it may be."""
    binary = BLANK.tobytes()
    assert len(binary) == 65
    others = (ck.check, ck.voxel_connectivity_graph, ck.connected_components)
    for question in (*QUESTIONS.values(), *others):
        with pytest.raises(ck.FormatError, match="1024000000 voxels are claimed by 65 bytes"):
            question(binary)
    assert ck.labels(binary).tolist() == [7] and ck.contains(binary, 7)
    assert ck.decompress(binary, z_start=1, z_end=1).size == 0


def test_a_large_slice_that_is_damaged(cheap):
    """If it may be, its checksum tells before memory is taken for it."""
    before = ck.set_max_voxels(2**30)
    try:
        for question in QUESTIONS.values():
            with pytest.raises(ck.FormatError, match="match their crc32c"):
                question(BLANK.with_(crcs=(1,)).tobytes())
    finally:
        assert ck.set_max_voxels(before) == 2**30


TALL = 300_000  # rows of 56 pixels: more than 2^24 vertices, which are walked bit by bit
WALKS = {
    "down and out": ("d" * (TALL + 1) + "du", "leave the slice"),
    "up and out": ("u" + "du", "leave the slice"),
    "along the border": ("lldd" + "du", "leave the slice"),
    "right and out": ("d" + "r" * 55 + "du", "leave the slice"),
    "no end": ("dddd", "within a chain"),
    "branches": ("d" + "lrud" * 1000, "within a chain"),
    "more behind the end": ("d" * TALL + "du" + "rrrrrrrr", "goes on after"),
    "a component too many": ("d" * (TALL - 1) + "du", "another number of components"),
    "another checksum": ("d" * TALL + "du", "match their crc32c"),
}


@pytest.mark.parametrize("name", WALKS)
def test_lies_about_large_slices(cheap, name):
    path, reason = WALKS[name]
    split = code(chains([(0, [2])], 56, TALL), packed(path))
    binary = Crafted((56, TALL, 1), [split], (7, 9), counts=(2,), keys=(0, 1)).tobytes()
    for question in QUESTIONS.values():
        with pytest.raises(ck.FormatError, match=reason):
            question(binary)


@pytest.mark.parametrize("name", ["branches", "cells", "noise"])
def test_large_slices(name):
    """What is walked bit by bit is what was compressed."""
    rng = np.random.default_rng(3)
    if name == "branches":
        array = np.full((56, TALL, 1), 7, "u1", order="F")
        array[2:, :, 0] = 9
        array[2, 5], array[5:40, 9:7000:3], array[0, -1] = 8, 3, 1
    elif name == "cells":
        array = rng.integers(0, 99, (600, 600, 1)).repeat(7, 0).repeat(7, 1).astype("u1")
        array = np.asfortranarray(np.where(rng.random((4200, 1, 1)) < 0.1, 7, array).astype("u1"))
    else:
        array = np.asfortranarray(rng.integers(0, 2, (4200, 4200, 1)).astype("u1"))
    binary = ck.compress(array)
    assert (ck.decompress(binary) == array).all()
    labels, counts = np.unique(array, return_counts=True)
    assert ck.voxel_counts(binary) == dict(zip(labels.tolist(), counts.tolist(), strict=True))


def test_many_slices(cheap):
    """A megabyte of slices that say little: 2^31 voxels, all right or not."""
    side, sz = 200, 50_000
    small = Crafted((side, side, sz), [blank(side)] * sz, counts=(1,) * sz)
    assert len(small.tobytes()) < 1 << 20
    assert ck.voxel_counts(small.tobytes()) == {7: side**2 * sz}
    with pytest.raises(ck.FormatError):
        ck.voxel_counts(small.with_(crcs=(blank_crc(side**2),) * (sz - 1) + (1,)).tobytes())
    assert ck.check(small.with_(crcs=(1,) * sz).tobytes())["z"] == list(range(sz))
    wide = head(small.with_(counts=(1, 0) * sz, keys=(0,) * sz), sx=2**14, sy=2**13)
    for question in QUESTIONS.values():  # counts of 4 bytes now
        with pytest.raises(ck.FormatError, match="are claimed by"):
            question(wide.tobytes())


def test_max_voxels():
    array = np.arange(60, dtype="u2").reshape(5, 4, 3, order="F") // 7
    binary = ck.compress(array)
    assert (ck.decompress(binary, max_voxels=60) == array).all()
    with pytest.raises(ck.FormatError, match="60 voxels, and max_voxels is 59"):
        ck.decompress(binary, max_voxels=59)
    # of what is asked for
    assert (ck.decompress(binary, z_end=1, max_voxels=20) == array[:, :, :1]).all()
    for bad, error in ((-1, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="max_voxels must"):
            ck.decompress(binary, max_voxels=bad)
        with pytest.raises(error, match="max_voxels must"):
            ck.CrackleArray(binary, max_voxels=bad)
        with pytest.raises(error, match="max_voxels must"):
            ck.set_max_voxels(bad)


def test_max_voxels_of_an_array(tmp_path):
    array = np.arange(60, dtype="u2").reshape(5, 4, 3, order="F") // 7
    ck.save(array, tmp_path / "a.ckl")
    few = ck.aload(tmp_path / "a.ckl", max_voxels=20)
    assert (few[:, :, 1] == array[:, :, 1]).all() and few.labels().size == 9
    for refused in (
        lambda: few[:, :, ::2],
        lambda: few[:, :, :2],
        few.numpy,
        few.voxel_counts,
        lambda: few + 1 == few,
        lambda: few.remap({0: 5}, preserve_missing_labels=True).recompress(),
        lambda: few.save(tmp_path / "a.npy"),
        lambda: ck.load(tmp_path / "a.ckl", max_voxels=20),
    ):
        with pytest.raises(ck.FormatError, match=r"^header: [46]0 voxels, and max_voxels is 20$"):
            refused()
    assert not (tmp_path / "a.npy").exists()
    few[:, :, 0] = 3  # a slice at a time
    assert few.max_voxels == 20 and (few[:, :, 0] == 3).all()


def test_max_voxels_everywhere():
    array = np.arange(60, dtype="u2").reshape(5, 4, 3, order="F") // 7
    binary = ck.compress(array)
    before = ck.set_max_voxels(59)
    try:
        walking = (ck.point_cloud, ck.mode_pooling_2x2x1, ck.connected_components)
        for question in (*QUESTIONS.values(), *walking):
            with pytest.raises(ck.FormatError, match="max_voxels is 59"):
                question(binary)
        assert ck.labels(binary).size == 9 and len(ck.zshatter(binary)[0])
        assert (ck.decompress(binary, max_voxels=60) == array).all()
        assert (ck.decompress(binary, out=np.empty_like(array)) == array).all()
        assert ck.compress(array, allow_pins=1)  # what is one's own
    finally:
        ck.set_max_voxels(before)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_expected_shapes(zarr_format):
    """Chunks are of the array's shape, whatever ``max_voxels`` is."""
    labels = np.arange(6 * 5 * 4, dtype="u2").reshape(6, 5, 4) // 7
    how = {"compressors": ck.Crackle()}
    if zarr_format == 3:
        how = {"serializer": ck.CrackleCodec(), "compressors": None}
    array = zarr.create_array(
        {}, shape=labels.shape, dtype="u2", chunks=(3, 5, 4), zarr_format=zarr_format, **how
    )
    array[:] = labels
    volume = ck.LabelVolume(array)
    before = ck.set_max_voxels(10)
    try:
        if zarr_format == 3:
            assert (array[:] == labels).all() and (array[1] == labels[1]).all()
        else:
            with pytest.raises(ck.FormatError, match="max_voxels is 10"):
                array[:]
        assert (volume.read() == labels).all() and (volume.read(np.s_[1:5]) == labels[1:5]).all()
        values, counts = np.unique(labels[:, 1:], return_counts=True)
        found = volume.voxel_counts(region=np.s_[:, 1:])
        assert found == dict(zip(values.tolist(), counts.tolist(), strict=True))
        assert volume.contacts() and volume.point_cloud(3).size and volume.mask(3)[1].any()
        assert volume.remap({3: 4}).chunks and volume.recompress()
        parts = volume.connected_components({}, connectivity=6)
        assert (ck.LabelVolume(parts).read() > 0).any()
        volume.downsample({}, factors=(1, 2, 2))
    finally:
        ck.set_max_voxels(before)
    assert (array[:] == np.where(labels == 3, 4, labels)).all()


def test_labels_that_would_collide(cheap):
    """Multiples of the inverse of a factor to hash by are as good as any labels."""
    inverse = pow(0x9E3779B97F4A7C15, -1, 2**64)
    labels = np.array([inverse * i % 2**64 for i in range(1, 280**2 + 1)], "u8")
    array = labels.reshape(280, 280, 1, order="F")
    binary = ck.compress(array)
    assert len(binary) < 1 << 20
    assert ck.recompress(binary) == binary and (ck.decompress(binary) == array).all()


def test_no_voxels_shattered():
    """An empty volume may claim 2^32 slices: they are not made."""
    binary = head(Crafted((0, 5, 0), [], labels=b""), sx=0, sy=5, sz=MOST).tobytes()[:29]
    with pytest.raises(ck.FormatError, match="4294967295 slices"):
        ck.zshatter(binary)


def test_pins_of_many_slices(cheap):
    binary = stream_of_pins(20_000, [[(0, 19_999)]])
    assert ck.voxel_counts(binary) == {7: 20_000}


OPERATIONS = {
    "slices": lambda a: a[:, :, ::2], "voxels": lambda a: a[[1], [2], [3]],
    "slice set": lambda a: a.__setitem__(np.s_[:, :, 3], 5),
    "noise set": lambda a: a.__setitem__(np.s_[:, :, 2:4], np.arange(40).reshape(5, 4, 2) % 9),
    "voxel_counts": lambda a: a.voxel_counts(), "point_cloud": lambda a: a.point_cloud(),
    "contacts": lambda a: a.contacts(), "each": lambda a: list(a.each()),
    "each, many": lambda a: list(a.each(multi=True)),
    "components": lambda a: a.connected_components(),
    "order": lambda a: a.copy("C").numpy(), "remap": lambda a: a.remap({7: 8}, True).numpy(),
    "recompress": lambda a: a.recompress().numpy(), "mask": lambda a: a.mask_except([3]).numpy(),
    "pooling": lambda a: a.mode_pooling_2x2x1().numpy(), "zrange": lambda a: a.zrange(1, 5).numpy(),
    "scalar": lambda a: (a + 1).numpy(), "operator": lambda a: bool(a == a),
    "reencode": lambda a: ck.reencode(a, 4), "compressa": lambda a: ck.compressa(a, 5).numpy(),
    "zstack": lambda a: ck.zstack([a, a]), "zstack, order": lambda a: ck.zstack([a, a], 5),
    "zsplit": lambda a: ck.zsplit(a, 3), "labels": lambda a: a.labels(slice(1, 3)),
    "check": lambda a: ck.check(a),
}  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"allow_pins": 1}, {"markov_model_order": 3}], ids=str)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_array_that_may_have_its_voxels(name, options):
    """Its own limit holds for all that is made of it on the way to a result."""
    array = np.zeros((5, 4, 6), "u2", order="F")
    array[1:3, 2:, 1:], array[4, :2] = 7, 3
    binary = ck.compress(array, **options)
    before = ck.set_max_voxels(10)
    try:
        OPERATIONS[name](ck.CrackleArray(binary, max_voxels=120))
        OPERATIONS[name](FileArray(BloscpackFile(pack_bytes(binary)), max_voxels=120))
        if name not in ("slices", "voxels", "labels", "zsplit", "zstack", "zrange"):
            with pytest.raises(ck.FormatError, match="max_voxels is 9"):
                OPERATIONS[name](ck.CrackleArray(binary, max_voxels=9))
    finally:
        ck.set_max_voxels(before)


def test_parts_of_a_large_stream(monkeypatch):
    """An edit believes them by the bytes of all: of a blank slice there are few."""
    monkeypatch.setattr(limits, "SLICE", 300)
    monkeypatch.setattr(limits, "PER_BYTE", 1)
    monkeypatch.setattr(blockwise, "BLOCK_VOXELS", 1)
    labels = np.full((20, 20, 4), 7, "u1", order="F")
    labels[:, :, 1:] = np.random.default_rng(0).integers(0, 2, (20, 20, 3))
    with pytest.raises(ck.FormatError, match="are claimed by"):
        ck.decompress(ck.compress(labels[:, :, :1]))
    for order in (0, 1):
        array = ck.CrackleArray(ck.compress(labels, markov_model_order=order))
        assert (array.apply_binary_mask(array).numpy() == labels).all()
        array[:3, :3, 1] = 3
        assert (array.numpy()[:3, :3, 1] == 3).all() and (array[:, :, 0] == 7).all()
