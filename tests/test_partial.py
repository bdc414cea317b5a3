"""Reading some slices: what comes back, and which bytes are read for it."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import zarr
from conftest import CODINGS, blobs, coded, labels_of_any_kind, volume
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import MemoryStore, WrapperStore

import numcodecs_crackle as ck
from numcodecs_crackle import _native, chunks, partial

FUSED = hasattr(zarr.core.codec_pipeline, "FusedCodecPipeline")


class Recording(WrapperStore):
    """Notes what is read: key, first byte, bytes."""

    def __init__(self, store):
        super().__init__(store)
        self.reads = []

    def _note(self, key, byte_range, found):
        start = 0 if byte_range is None else getattr(byte_range, "start", None)
        self.reads.append((key, start, 0 if found is None else len(found)))
        return found

    async def get(self, key, prototype, byte_range=None):
        return self._note(key, byte_range, await super().get(key, prototype, byte_range))

    def get_sync(self, key, *, prototype=None, byte_range=None):
        found = self._store.get_sync(key, prototype=prototype, byte_range=byte_range)
        return self._note(key, byte_range, found)

    def bytes_read(self):
        return sum(n for key, _, n in self.reads if "/c/" in f"/{key}")


def decoded(data, a, zs, verify=True):
    found = partial.local(partial.slices_of(zs, verify=verify), data)
    out = np.zeros(a.size, ck.header(data).dtype)
    partial.decode_slices(found, out)
    return out.reshape(a.shape, order="F")


@settings(max_examples=80, deadline=None)
@given(labels_of_any_kind(), st.sampled_from(CODINGS), st.data())
def test_any_slices(a, coding, data):
    s = coded(a, coding)
    picked = data.draw(st.sets(st.integers(0, a.shape[2] - 1), min_size=1))
    zs = np.array(sorted(picked), np.intp)
    for verify in (True, False):
        array = decoded(s, a, zs, verify)
        np.testing.assert_array_equal(array[:, :, zs], a[:, :, zs])


def test_what_is_not_there():
    plan = partial.slices_of(np.array([0]))
    next(plan)
    with pytest.raises(StopIteration) as end:
        plan.send([None])
    assert end.value.value is None


@pytest.mark.parametrize("order", [0, 2])
def test_damage(order):
    """In what is read: an error, or the same labels."""
    a = np.asfortranarray(volume("bricks", np.random.default_rng(0), (9, 8, 5)).astype("u2"))
    s = ck.compress(a, order)
    zs = np.array([1, 3])
    whole = 0
    for i in range(len(s)):
        for flip in (1, 128):
            damaged = bytearray(s)
            damaged[i] ^= flip
            with contextlib.suppress(ck.FormatError):
                array = decoded(bytes(damaged), a, zs)
                np.testing.assert_array_equal(array[:, :, zs], a[:, :, zs])
                whole += 1
            with contextlib.suppress(ck.FormatError):  # other labels, but the same borders
                array = decoded(bytes(damaged), a, zs, verify=False)
                for axis in (0, 1):
                    borders = np.diff(array[:, :, zs].astype(int), axis=axis) != 0
                    there = np.diff(a[:, :, zs].astype(int), axis=axis) != 0
                    assert not (borders & ~there).any()
    assert 0 < whole < len(s)  # the codes of other slices are not looked at
    for n in range(len(s)):
        with contextlib.suppress(ck.FormatError):
            np.testing.assert_array_equal(decoded(s[:n], a, zs)[:, :, zs], a[:, :, zs])
            assert n > len(s) - 8  # but for the checksum of the last slice
    blamed = bytearray(s)
    blamed[-4 * 5 + 4 * 3] ^= 1
    with pytest.raises(ck.FormatError, match="slice 3"):
        decoded(bytes(blamed), a, zs)


def volume_and_array(shape, chunk, dtype="u4", store=None, **options):
    rng = np.random.default_rng(5)
    a = volume("bricks", rng, shape).astype(dtype)
    options = {"serializer": ck.CrackleCodec(), "compressors": None} | options
    z = zarr.create_array(
        store=store if store is not None else MemoryStore(), name="c0",
        shape=shape, chunks=chunk, dtype=dtype, **options,
    )  # fmt: skip
    z[...] = a
    return a, z


@pytest.fixture(params=["batched", "fused"] if FUSED else ["batched"])
def pipeline(request):
    name = "FusedCodecPipeline" if request.param == "fused" else "BatchedCodecPipeline"
    with zarr.config.set({"codec_pipeline.path": f"zarr.core.codec_pipeline.{name}"}):
        yield request.param


@pytest.mark.parametrize(
    ("shape", "chunk", "options"),
    [
        ((20, 15, 13), (8, 7, 13), {}),
        ((20, 15, 13), (8, 7, 13), {"compressors": zarr.codecs.ZstdCodec()}),
        ((24, 16, 13), (4, 8, 13), {"shards": (12, 16, 13)}),
        ((6, 9, 8, 7), (3, 4, 8, 7), {}),
        ((20, 1, 15, 13), (8, 1, 7, 13), {"dtype": "bool"}),
        ((20, 15, 13), (8, 7, 13), {"dtype": ">i2"}),
        ((15, 13), (8, 7), {}),
        ((40,), (7,), {}),
    ],
)
def test_every_form_of_selection(shape, chunk, options, pipeline):
    a, z = volume_and_array(shape, chunk, **options)
    rng = np.random.default_rng(1)
    for _ in range(60):
        index = []
        for n in shape:
            form = rng.integers(0, 4)
            if form == 0:
                index.append(int(rng.integers(0, n)))
            elif form == 1:
                start, stop = sorted(rng.integers(0, n + 1, 2).tolist())
                index.append(slice(start, stop, int(rng.integers(1, 4))))
            else:
                index.append(slice(None))
        np.testing.assert_array_equal(z[tuple(index)], a[tuple(index)])
    arrays = [np.sort(rng.choice(n, max(1, n // 3), replace=False)) for n in shape]
    np.testing.assert_array_equal(z.oindex[tuple(arrays)], a[np.ix_(*arrays)])
    flags = rng.random(shape[0]) < 0.3
    np.testing.assert_array_equal(z.oindex[flags], a[flags])
    points = tuple(rng.integers(0, n, 30) for n in shape)
    np.testing.assert_array_equal(z.vindex[points], a[points])
    mask = rng.random(shape) < 0.05
    np.testing.assert_array_equal(z.vindex[mask], a[mask])
    np.testing.assert_array_equal(z[...], a)
    z[1:3] = a[2:4]  # reads what it changes part of
    a[1:3] = a[2:4].copy()
    np.testing.assert_array_equal(z[...], a)


def test_chunks_that_are_not_stored(pipeline):
    z = zarr.create_array(
        store=MemoryStore(), shape=(20, 9, 8), chunks=(10, 9, 8), dtype="u2", fill_value=7,
        serializer=ck.CrackleCodec(), compressors=None,
    )  # fmt: skip
    assert (z[3] == 7).all()
    z[12, 3, 4] = 9
    assert z[12].max() == 9
    assert (z[3:12] == 7).all()


def test_one_slice_of_many(pipeline):
    """Moves less than a tenth of the chunk, and the label section."""
    rng = np.random.default_rng(0)
    a = blobs(rng, (128, 96, 96), cell=24).astype("u4")
    store = Recording(MemoryStore())
    z = zarr.create_array(
        store=store, shape=a.shape, chunks=a.shape, dtype="u4",
        serializer=ck.CrackleCodec(), compressors=None,
    )  # fmt: skip
    z[...] = a
    stream = ck.compress(np.asfortranarray(a.T))
    table = ck.header(stream).num_label_bytes
    for index, slices in ((77, 1), (slice(10, 14), 4), ((slice(None, None, 50), 3), 3)):
        store.reads.clear()
        np.testing.assert_array_equal(z[index], a[index])
        assert store.bytes_read() < table + slices * len(stream) / 10
        assert len(store.reads) <= 4 + slices
    store.reads.clear()
    np.testing.assert_array_equal(z[...], a)
    assert store.bytes_read() == len(stream)
    assert len(store.reads) == 1


def test_damage_names_the_slice(tmp_path):
    a, z = volume_and_array((20, 9, 8), (20, 9, 8), store=tmp_path / "x.zarr")
    file = tmp_path / "x.zarr" / "c0" / "c" / "0" / "0" / "0"
    data = bytearray(file.read_bytes())
    data[-4 * 20 + 4 * 12] ^= 1
    file.write_bytes(data)
    np.testing.assert_array_equal(z[5], a[5])
    with pytest.raises(ck.FormatError, match="slice 12"):
        z[12]


def test_which_slices():
    shape = (4, 1, 5, 6, 7)
    whole = (slice(0, 4), slice(0, 1), slice(0, 5), slice(0, 6), slice(0, 7))
    assert chunks.slices_in(whole, shape) is None
    one = (2, 0, slice(1, 5, 2), slice(0, 6), slice(0, 7))
    assert chunks.slices_in(one, shape).tolist() == [11, 13]
    flags = (np.array([True, False, False, True]), 0, 3, slice(0, 6), 0)
    assert chunks.slices_in(flags, shape).tolist() == [3, 18]
    twice = (np.array([3, 0, 3]).reshape(3, 1), 0, 3, slice(0, 6), 0)
    assert chunks.slices_in(twice, shape).tolist() == [3, 18]
    assert chunks.slices_in((slice(0, 0), *whole[1:]), shape) is None
    assert chunks.slices_in((3, slice(0, 4)), (5, 4)) is None


@pytest.mark.parametrize("size", [0x7F, 0xFF])
@pytest.mark.parametrize("at", [20, 29])
def test_sizes_are_not_believed(at, size):
    """A label section, or a crack code, of any length is asked for no further than is sane."""
    a = np.asfortranarray(volume("bricks", np.random.default_rng(0), (9, 8, 5)).astype("u2"))
    s = bytearray(ck.compress(a))
    s[at + 3 if at == 29 else at + 7] = size  # 2^31 bytes and more
    s[28] = _native.crc8(bytes(s[5:28]))
    s[49:53] = _native.crc32c(bytes(s[29:49])).to_bytes(4, "little")
    plan = partial.slices_of(np.array([1, 3]))
    wanted, asked = next(plan), []
    with contextlib.suppress(StopIteration, ck.FormatError):
        while True:
            asked += wanted
            wanted = plan.send([bytes(s)[a:b] for a, b in wanted])
    assert asked == [(0, partial.FIRST_BYTES), (0, None)]
    with pytest.raises(ck.FormatError):
        decoded(bytes(s), a, np.array([1, 3]))
