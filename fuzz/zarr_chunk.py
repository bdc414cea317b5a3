"""Fuzz target: stored chunks. Python and C together, by zarr and by `LabelVolume`.

``python fuzz/zarr_chunk.py FILE...`` replays inputs with any Python; with options of libFuzzer
(``make fuzz-zarr``) Atheris makes them.

An input is a head that chooses a layout, an object, a question, a region and more, and then
bytes: an object, a shard whose index is given its checksum here, or a stream, which is put
where the layout has it. One object of a small array becomes these; the others are sound. What
zarr then reads of the array, whole, is the truth; each question is answered by numpy, too.
"""

from __future__ import annotations

import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from zarr.core.sync import sync
from zarr.storage import MemoryStore

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
FUZZING = __name__ == "__main__" and any(arg.startswith("-") for arg in sys.argv[1:])
instrumented: Any = nullcontext()
if FUZZING:
    import atheris

    instrumented = atheris.instrument_imports(include=["numcodecs_crackle"])
with instrumented:
    import numcodecs_crackle as ck
    from fuzz.zarr_mutate import HEAD, mutated
    from fuzz.zarr_questions import (
        BY_TABLES,
        FACES,
        LAYOUTS,
        QUESTIONS,
        Asked,
        allowed,
        labels_of,
        layout,
        object_of_input,
        same,
        work_inline,
    )
    from numcodecs_crackle import _native, chunks, partial

EDITS = ("remap", "swap", "mask_labels", "recompress", "renumber")
ARRAYS = ("downsample", "connected_components")
KINDS = (*QUESTIONS, *EDITS, *ARRAYS)
FORMS = ("object", "stream", "shard")
NAMES = list(LAYOUTS)
# How much of a chunk is read first: little, so that small chunks, too, are read in parts.
FIRST_BYTES = (2048, 48, 160, 2048)


class Wrong(Exception):
    """An answer that is not the right one."""


def overlaps(region: tuple[slice, ...], other: tuple[slice, ...], margin: int = 0) -> bool:
    return all(
        max(a.start - margin, b.start) < min(a.stop + margin, b.stop)
        for a, b in zip(region, other, strict=True)
    )


class Case:
    """An input: the array with its object in it, until the layout is restored."""

    def __init__(self, data: bytes) -> None:
        head, body = data[:HEAD], data[HEAD:]
        self.at = at = layout(NAMES[head[0] % len(NAMES)])
        self.chunk = at.chunks[head[1] % len(at.chunks)]
        self.key = at.store.key(self.chunk)
        self.place = at.region_of(self.chunk)
        self.kind = KINDS[head[3] % len(KINDS)]
        self.number, self.options = head[6], head[7]
        self.data = object_of_input(at, self.chunk, FORMS[head[2] % len(FORMS)], body)
        region = []
        for n, a, b in zip(at.store.shape, head[8::2], head[9::2], strict=False):
            start, stop = sorted((a % (n + 1), b % (n + 1)))
            region.append(slice(start, stop) if a or b else slice(0, n))
        self.region = tuple(region)
        self._labels = head[4], head[5]

    def read(self) -> np.ndarray | None:
        """What zarr reads of the array, whole; None if it raises."""
        try:
            part = self.at.read(self.place)
        except allowed(self.at):
            return None
        if part.dtype.kind == "b" and part.view(np.uint8).max(initial=0) > 1:
            raise self.fail("neither False nor True")
        whole = self.at.sound.copy()
        whole[self.place] = part
        return whole

    def is_sound(self) -> bool:
        """Whether there is nothing to refuse in the object.

        All chunks decode, what stands out of the array, too; and tables are sorted if they say
        so, which who decodes need not see.
        """
        store = self.at.store
        try:
            streams = self.at.streams_in(self.data, self.chunk)
            for stream in streams or []:
                chunks.decode_flat(stream, store.coded_shape, store.dtype)
                table, _ = _native.Stream(stream).unique()
                if ck.header(stream).is_sorted and (table[1:] < table[:-1]).any():
                    return False
                if store.is_bool and ck.max(stream) > 1:
                    return False
        except ck.FormatError:
            return False
        return streams is not None

    def has_unused(self) -> bool:
        """Whether a table has labels that no voxel of the chunk has."""
        for stream in self.at.streams_in(self.data, self.chunk) or []:
            if len(ck.labels(stream)) > len(np.unique(chunks.decode_flat(stream))):
                return True
        return False

    def fail(self, what: str) -> Wrong:
        return Wrong(f"{self.at.name}, {self.kind}, {self.key}: {what}")

    def run(self) -> None:
        at = self.at
        at.put(self.key, self.data)
        truth = self.read()
        every = np.unique(at.sound if truth is None else truth).astype(at.dtype).tolist()
        most = 2 if at.store.is_bool and self.kind in EDITS else 128
        one, two = (every[i % len(every)] if i < 224 else i % most for i in self._labels)
        quick, skipping = self.options & 1, self.options & 6 == 6
        volume = at.skipping if skipping else at.quick if quick else at.volume
        volume.damaged.clear()
        asked = Asked(at, volume, self.region, one, two, self.options)
        if self.kind in EDITS:
            self.edit(asked, truth)
        elif self.kind in ARRAYS:
            self.derive(asked, truth)
        else:
            self.ask(asked, truth)

    def ask(self, asked: Asked, truth: np.ndarray | None) -> None:
        at = self.at
        if self.kind in FACES and at.name == "4D":
            self.kind = "read"
        ask, answer = QUESTIONS[self.kind]
        by_zarr = self.kind == "zarr"
        right = answer(at.sound if truth is None else truth, asked)
        touched = overlaps(self.region, self.place, margin=int(self.kind == "point_cloud"))
        may_fail = touched and not (truth is not None and self.is_sound())
        errors = allowed(at) if by_zarr else (ck.FormatError,)
        try:
            found = ask(asked)
        except errors as error:
            if not may_fail:
                raise self.fail("sound, but refused") from error
            if not by_zarr:
                self.check_error(asked, error)
            return
        for error in asked.volume.damaged:
            self.check_error(asked, error, skipped=True)
        if (truth is not None and not asked.volume.damaged) or not touched:
            if not same(found, right) and not (
                self.kind in BY_TABLES and self.has_unused() and self.includes(found, right)
            ):
                raise self.fail(f"{found!r} is not {right!r}")
            return
        if not same(found, right, values=False):
            raise self.fail(f"{found!r} is not as {right!r}")
        if self.kind in ("read", "zarr"):
            outside = np.ones(at.store.shape, np.bool_)
            outside[self.place] = False
            outside = outside[self.region]
            if found.shape != right.shape or (found != right)[outside].any():
                raise self.fail("another chunk is wrong")

    def check_error(self, asked: Asked, error: Any, skipped: bool = False) -> None:
        if error.key != self.key:
            raise self.fail(f"the error names {error.key}") from error
        if not skipped and asked.volume is self.at.skipping and self.kind in QUESTIONS:
            raise self.fail("raised what was to be skipped") from error

    def includes(self, found: Any, right: Any) -> bool:
        """Whether an answer from tables has all of the right one."""
        if self.kind == "labels":
            return found.dtype == right.dtype and set(found.tolist()) >= set(right.tolist())
        if self.kind == "contains":
            return found >= right
        return all(set(held) <= set(found.get(label, ())) for label, held in right.items())

    # ---- edits ----

    def edited(self, asked: Asked) -> Any:
        """Ask for an edit."""
        at, volume = self.at, asked.volume
        dry_run = bool(self.options & 8)
        is_bool = at.array.dtype.kind == "b"
        new = self.number % 2 if is_bool else self.number % 128
        if self.kind == "remap":
            return volume.remap({asked.label: new}, dry_run=dry_run)
        if self.kind == "swap":
            swapped = {asked.label: asked.other, asked.other: asked.label}
            return volume.remap(swapped, dry_run=dry_run)
        if self.kind == "mask_labels":
            return volume.mask_labels(asked.labels, new, dry_run=dry_run)
        if self.kind == "recompress":
            return volume.recompress(dry_run=dry_run)
        return volume.renumber(0 if at.dtype.itemsize == 1 else new, dry_run=dry_run)

    def expected(self, a: np.ndarray, asked: Asked) -> np.ndarray:
        """What an array becomes."""
        is_bool, a = a.dtype.kind == "b", labels_of(a)
        new = a.dtype.type(self.number % (2 if is_bool else 128))
        one, two = (a.dtype.type(label) for label in asked.labels)
        result = a
        if self.options & 8 or self.kind == "recompress":
            pass
        elif self.kind == "remap":
            result = np.where(a == one, new, a)
        elif self.kind == "swap":
            result = np.where(a == one, two, np.where(a == two, one, a))
        elif self.kind == "mask_labels":
            result = np.where((a == one) | (a == two), new, a)
        else:
            start = 0 if a.dtype.itemsize == 1 else int(new)
            _, numbers = np.unique(a, return_inverse=True)
            result = (numbers.reshape(a.shape) + start).astype(a.dtype)
        return result.view(np.bool_) if is_bool else result

    def edit(self, asked: Asked, truth: np.ndarray | None) -> None:
        at = self.at
        before = dict(at.objects)
        try:
            self.edited(asked)
        except ck.FormatError as error:
            # Chunks that overlap can be read, and not be replaced.
            if truth is not None and self.is_sound() and error.section != "shard index":
                raise self.fail("sound, but refused") from error
            self.check_error(asked, error)
            self.after_error(asked, before)
            return
        if self.options & 8 and at.objects != before:
            raise self.fail("a dry run wrote")
        if any(".crackle-edit" in key for key in at.objects):
            raise self.fail("the journal stays")
        if truth is None:
            if self.read() is not None:
                raise self.fail("an edit hid damage")
            at.objects["seg/" + self.key] = at.snapshot["seg/" + self.key]
            if self.kind == "renumber":
                return
            right, outside = self.expected(at.sound, asked), np.ones(at.store.shape, np.bool_)
            outside[self.place] = False
            if (at.read() != right)[outside].any():
                raise self.fail("another chunk is wrong")
            return
        found, right = at.read(), self.expected(truth, asked)
        if self.kind == "renumber" and self.has_unused():  # which have numbers, too
            found, right = (np.unique(a, return_inverse=True)[1] for a in (found, right))
        if not np.array_equal(found, right):
            raise self.fail(f"{found!r} is not {right!r}")

    def after_error(self, asked: Asked, before: dict[str, Any]) -> None:
        """What an edit that raised has left; and that it ends well when the damage is mended."""
        at = self.at
        chunks_now = {k: v for k, v in at.objects.items() if ".crackle-edit" not in k}
        changed = [k for k in before if chunks_now.get(k) is not before[k]]
        if chunks_now.keys() != before.keys() or "seg/" + self.key in changed:
            raise self.fail("a failed edit wrote what it should not")
        # Shards are edited one after the other.
        if changed and at.store.shard is None:
            raise self.fail("a failed edit wrote other chunks")
        at.objects["seg/" + self.key] = at.snapshot["seg/" + self.key]
        if self.kind == "renumber":
            asked.volume.resume()
            return
        self.edited(asked)
        if not np.array_equal(at.read(), self.expected(at.sound, asked)):
            raise self.fail("an edit did not go on as it should")

    # ---- other arrays ----

    def derive(self, asked: Asked, truth: np.ndarray | None) -> None:
        at = self.at
        if sum(n > 1 for n in at.store.shape) > 3:
            return

        def ask() -> np.ndarray:
            if self.kind == "downsample":
                made = asked.volume.downsample(MemoryStore(), 2, sparse=bool(self.options & 8))
            else:
                made = asked.volume.connected_components(MemoryStore(), (6, 26)[self.options & 1])
            result: np.ndarray = made[...]
            return result

        try:
            found = ask()
        except ck.FormatError as error:
            if truth is not None and self.is_sound():
                raise self.fail("sound, but refused") from error
            self.check_error(asked, error)
            return
        if truth is None:
            # Zarr may decode what stands out of the array, and be stopped by it.
            if not any(n % c for n, c in zip(at.store.shape, at.store.chunks, strict=True)):
                raise self.fail("made of a damaged array")
            return
        at.array[...] = truth
        if not np.array_equal(found, ask()):
            raise self.fail("not as of the same array, coded here")


def one_input(data: bytes) -> None:
    """The target."""
    if len(data) < HEAD:
        return
    first = partial.FIRST_BYTES, partial._GAP
    case = Case(data)
    partial.FIRST_BYTES = FIRST_BYTES[case.options >> 4 & 3]
    if partial.FIRST_BYTES < 2048:
        partial._GAP = 8
    # Zarr 2 does not tell its codec what a chunk is to be: memory is as the stream says.
    most = ck.set_max_voxels(1 << 17)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", "left out")
            warnings.filterwarnings("ignore", module=r"zarr\.")  # sums of a shard's index
            case.run()
    finally:
        ck.set_max_voxels(most)
        partial.FIRST_BYTES, partial._GAP = first
        case.at.restore()


def main() -> None:
    sync(work_inline())
    if FUZZING:
        atheris.Setup(sys.argv, one_input, custom_mutator=mutated)
        atheris.Fuzz()
    for path in sys.argv[1:]:
        print(path, flush=True)
        one_input(Path(path).read_bytes())
    print(f"{len(sys.argv) - 1} inputs replayed")


if __name__ == "__main__":
    main()
