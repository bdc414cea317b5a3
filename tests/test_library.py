"""What the C library refuses that the package above it never asks; and its rarer ways."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import as_version_0, blobs
from numcodecs_crackle._crackle import ffi, lib

import numcodecs_crackle as ck
from numcodecs_crackle import _native
from numcodecs_crackle.sections import Sections

SHAPE = (7, 6, 5)


@pytest.fixture(scope="module")
def volume():
    return np.asfortranarray(blobs(np.random.default_rng(3), SHAPE, cell=3).astype("u2"))


class Calls:
    """A stream, and calls of the library with what `arguments` says instead."""

    def __init__(self, binary, tolerant=False):
        self.binary = binary
        self.stream = _native.Stream(binary, tolerant)
        self.head = ck.header(binary)
        entries = len(self.stream.unique()[0]) + 1
        self.voxels = np.prod(SHAPE)
        self.group = np.arange(entries, dtype="u4")
        self.workspace = ffi.gc(lib.crackle_workspace_new(), lib.crackle_workspace_free)
        self.other = ffi.gc(lib.crackle_workspace_new(), lib.crackle_workspace_free)
        self.array = np.zeros(self.voxels, "u2")
        self.long = np.zeros(4 * self.voxels, "u8")
        self.labels = np.arange(entries, dtype="u8")

    def said(self, call, **instead):
        """The exception of a call, or None."""
        error = ffi.new("struct crackle_error *")
        status = getattr(self, call)(error, **instead)
        if not status:
            return None
        assert error.status == status
        with pytest.raises((ValueError, ck.FormatError)) as raised:
            _native._raise(error)
        return raised.value

    def range(self, z0=0, z1=SHAPE[2]):
        return self.stream._stream, self.workspace, z0, z1

    def numbers(self, kind="uint64_t[]", of=None):
        return ffi.from_buffer(kind, self.long if of is None else of)

    def groups(self):
        return self.numbers("uint32_t[]", self.group)

    def decode(self, error, z0=0, z1=SHAPE[2], out=None, out_z0=0, out_z1=SHAPE[2]):
        size = self.array.nbytes if out is None else out
        return lib.crackle_decode(
            *self.range(z0, z1),
            ffi.NULL,
            ffi.from_buffer(self.array),
            size,
            out_z0,
            out_z1,
            0,
            error,
        )

    def check(self, error, z0=0, z1=SHAPE[2]):
        return lib.crackle_check_slices(*self.range(z0, z1), self.numbers("uint8_t[]"), error)

    def labels_in(self, error, z0=0, z1=SHAPE[2]):
        stream, _, z0, z1 = self.range(z0, z1)
        out = ffi.new("uint64_t *"), ffi.new("int *")
        return lib.crackle_labels_in(stream, z0, z1, ffi.NULL, *out, error)

    def slices_with(self, error, z0=0, z1=SHAPE[2], label=1):
        stream, _, z0, z1 = self.range(z0, z1)
        flags = self.numbers("uint8_t[]")
        return lib.crackle_slices_with(stream, label, z0, z1, flags, ffi.new("int *"), error)

    def measure(self, error, z0=0, z1=SHAPE[2]):
        return lib.crackle_measure(
            *self.range(z0, z1), ffi.NULL, self.groups(), self.numbers(), ffi.NULL, ffi.NULL, error
        )

    def contacts(self, error, z0=0, z1=SHAPE[2]):
        pairs, count = ffi.new("struct crackle_pair **"), ffi.new("size_t *")
        status = lib.crackle_contacts(*self.range(z0, z1), self.groups(), pairs, count, error)
        lib.crackle_free(pairs[0])
        return status

    def overlay(self, error, with_=None, z0=0, z1=SHAPE[2]):
        other = with_ or self
        pairs, count = ffi.new("struct crackle_pair **"), ffi.new("size_t *")
        status = lib.crackle_overlay(
            self.stream._stream, self.workspace, self.groups(),
            other.stream._stream, self.other, other.groups(), z0, z1, 0, pairs, count, error,
        )  # fmt: skip
        lib.crackle_free(pairs[0])
        return status

    def same_borders(self, error, z0=0, z1=SHAPE[2]):
        return lib.crackle_same_borders(
            self.stream._stream, self.workspace, self.groups(),
            self.stream._stream, self.other, self.groups(), z0, z1, ffi.new("int *"), error,
        )  # fmt: skip

    def surface(self, error, z0=0, z1=SHAPE[2], room=None, width=2):
        self.long[:] = 0
        points = np.zeros(3 * self.voxels, "u2")
        where = ffi.NULL if room is None else ffi.from_buffer(points)
        return lib.crackle_surface(
            *self.range(z0, z1), self.groups(), self.numbers(), where, room or 0, width, error
        )

    def graph(self, error, z0=0, z1=SHAPE[2], connectivity=6, size=None):
        size = int(self.voxels) if size is None else size
        out = self.numbers("uint8_t[]")
        return lib.crackle_connectivity_graph(
            *self.range(z0, z1), self.groups(), connectivity, out, size, error
        )

    def link(self, error, z0=0, z1=SHAPE[2], connectivity=26):
        parent = np.arange(self.voxels, dtype="u4")
        return lib.crackle_link(
            *self.range(z0, z1), self.groups(), connectivity,
            self.numbers("uint32_t[]", parent), error,
        )  # fmt: skip

    def keys(self, error, z0=0, z1=SHAPE[2]):
        return lib.crackle_keys(*self.range(z0, z1), self.numbers("uint32_t[]"), error)

    def points(self, error, z=(0, 1), pixel=(0, 0)):
        z, pixel = np.array(z, "u4"), np.array(pixel, "u4")
        return lib.crackle_points(
            self.stream._stream, self.workspace, len(z), self.numbers("uint32_t[]", z),
            self.numbers("uint32_t[]", pixel), self.numbers("uint32_t[]"), error,
        )  # fmt: skip

    def checksums(self, error, z0=0, z1=SHAPE[2]):
        out = self.numbers("uint32_t[]")
        return lib.crackle_component_checksums(*self.range(z0, z1), out, error)

    def pin(self, error, effort=1):
        made, size = ffi.new("uint8_t **"), ffi.new("size_t *")
        where = self.stream._stream, self.workspace
        status = lib.crackle_pin(*where, effort, ffi.NULL, made, size, error)
        lib.crackle_free(made[0])
        return status

    def part(self, error, recode, z0, z1, **params):
        fields = dict(zip(("sx", "sy", "sz"), SHAPE, strict=True)) | {"data_width": 2} | params
        made = ffi.new("struct crackle_params *", fields)
        if recode:
            how = ffi.new(
                "struct crackle_recode *",
                {"labels": self.numbers(of=self.labels), "group": self.groups()},
            )
            part = lib.crackle_recode_part(
                made, self.stream._stream, how, z0, z1, 0, self.workspace, error
            )
        else:
            part = lib.crackle_encode_part(
                made, ffi.from_buffer(self.array), z0, z1, 0, self.workspace, error
            )
        return made, part

    def encode(self, error, recode=False, z0=0, z1=SHAPE[2], **params):
        _, part = self.part(error, recode, z0, z1, **params)
        lib.crackle_part_free(part)
        return 0 if part else error.status

    def join(self, error, ranges=((0, SHAPE[2]),), **params):
        made = [self.part(error, False, *r) for r in ranges]
        parts = ffi.new("struct crackle_part *[]", [part for _, part in made] or 1)
        for name, value in params.items():
            setattr(made[0][0], name, value)
        stream, size = ffi.new("uint8_t **"), ffi.new("size_t *")
        status = lib.crackle_join(made[0][0], parts, len(made), 0, stream, size, error)
        lib.crackle_free(stream[0])
        for _, part in made:
            lib.crackle_part_free(part)
        return status


FOLDS = (
    "measure", "contacts", "overlay", "same_borders", "surface", "link", "keys", "checksums",
)  # fmt: skip
RANGES = (*FOLDS, "check", "labels_in", "slices_with", "decode")
BAD = [
    *((call, {"z0": 3, "z1": 2}) for call in RANGES),
    *((call, {"z1": 6}) for call in RANGES),
    ("decode", {"out": 3}), ("decode", {"out_z0": 1}), ("decode", {"out_z1": 4}),
    ("surface", {"room": 1}), ("surface", {"width": 3}),
    ("graph", {"connectivity": 5}), ("graph", {"size": 3}), ("graph", {"z0": 5, "z1": 4}),
    ("link", {"connectivity": 8}),
    ("points", {"z": (1, 0)}), ("points", {"z": (5, 5)}), ("points", {"pixel": (0, 42)}),
    ("pin", {"effort": 0}), ("pin", {"effort": 3}),
    ("encode", {"z0": 3, "z1": 2}), ("encode", {"z1": 6}), ("encode", {"data_width": 3}),
    ("encode", {"markov_order": 16}), ("encode", {"recode": True, "sx": 8}),
    ("join", {"ranges": ((0, 2), (3, 5))}), ("join", {"ranges": ((0, 2),)}),
    ("join", {"data_width": 5}),
]  # fmt: skip


@pytest.mark.parametrize("call, instead", BAD)
def test_bad_arguments_are_refused(volume, call, instead):
    calls = Calls(ck.compress(volume))
    assert calls.said(call) is None
    refused = calls.said(call, **instead)
    assert type(refused) is ValueError


@pytest.mark.parametrize("call", [*FOLDS, "labels_in", "slices_with", "decode", "points"])
def test_a_stream_with_damaged_labels_answers_nothing(volume, call):
    binary = bytearray(ck.compress(volume))
    head = ck.header(bytes(binary))
    binary[head.header_bytes + head.grid_index_bytes] ^= 0x80
    calls = Calls(bytes(binary), tolerant=True)
    assert calls.stream.damaged == {"labels"}
    assert calls.said("check") is None
    assert isinstance(calls.said(call), ck.FormatError)


def test_slices_of_other_sizes_are_not_overlaid(volume):
    first, second = Calls(ck.compress(volume)), Calls(ck.compress(volume[:-1]))
    assert type(first.said("overlay", with_=second)) is ValueError


def test_no_part_of_slices_that_none_can_read(volume):
    refused = Calls(ck.compress(volume)).said("encode", sx=2**15, sy=2**15, z1=1)
    assert isinstance(refused, ck.UnsupportedError)


def test_no_pins_of_keys_that_are_not_there(volume):
    sections = Sections.of(ck.compress(volume))
    sections.rest = bytearray(sections.rest)
    sections.rest[-1] = len(sections.table)
    calls = Calls(sections.tobytes())
    assert isinstance(calls.said("pin"), ck.FormatError)


def test_ranges_without_slices_or_voxels(volume):
    calls = Calls(ck.compress(volume))
    for call in RANGES:
        assert calls.said(call, z0=2, z1=2) is None
    empty = _native.Stream(ck.compress(np.zeros((0, 4, 3), "u2")))
    used, exact = empty.labels_in(0, 3)
    assert used.size == 0 and exact


def test_slices_of_a_range_with_a_label_of_pins():
    volume = np.zeros((4, 4, 6), "u1", order="F")
    volume[1:3, 1:3, 1:5] = 3
    volume[0, 0, 5] = 3
    binary = ck.compress(volume, allow_pins=2)
    assert ck.header(binary).label_format == 2
    calls = Calls(binary)
    for z1 in range(1, 7):
        assert calls.said("slices_with", label=3, z1=z1) is None
        flags = calls.long.view("u1")[:z1].astype(bool)
        assert flags[(volume == 3).any(axis=(0, 1))[:z1]].all()


def test_checksums_as_stored_are_those_of_components(volume):
    binary = ck.compress(volume)
    stored = _native.Stream(binary).component_checksums()
    made = _native.Stream(as_version_0(binary)).component_checksums()
    np.testing.assert_array_equal(stored, made)


def test_a_c_order_array_that_fits_no_cache(cpu):
    """Of 16 MiB and more the lines ahead are asked for."""
    rng = np.random.default_rng(cpu)
    small = rng.integers(0, 9, (2, 2, 262144 + 8), "u8")
    array = np.ascontiguousarray(np.repeat(np.repeat(small, 2, 0), 2, 1))
    assert array.nbytes >= 2**24
    binary = ck.compress(array)
    np.testing.assert_array_equal(ck.decompress(binary), array)


def test_long_runs_have_their_faces():
    """Runs of more than two words of 64 pixels."""
    array = np.zeros((300, 3, 3), "u1", order="F")
    array[20:280, 1, 1] = 1
    found = ck.point_cloud(ck.compress(array), skip_background=False)
    assert len(found[1]) == 260
    assert len(found[0]) == array.size - 260 - 2 * 18  # all but what has zeros around


@pytest.mark.parametrize("order", [10, 11])
def test_orders_with_tables_and_without(order):
    array = np.asfortranarray(blobs(np.random.default_rng(order), (40, 40, 3)).astype("u2"))
    binary = ck.compress(array, markov_model_order=order)
    assert ck.header(binary).markov_model_order == order
    np.testing.assert_array_equal(ck.decompress(binary), array)
