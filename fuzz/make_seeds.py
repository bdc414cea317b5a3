"""Write the inputs that fuzzing starts from to fuzz/seeds; see common.h for their form.

``python -m fuzz.make_seeds`` from the root of the repository: needs crackle-codec, too, for
pins as other writers make them.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import crackle  # noqa: E402
from conftest import as_version_0, volume, with_false_borders  # noqa: E402

import numcodecs_crackle as ck  # noqa: E402
from fuzz.zarr_chunk import FORMS, KINDS, NAMES  # noqa: E402
from fuzz.zarr_mutate import HEAD  # noqa: E402
from fuzz.zarr_questions import layout  # noqa: E402
from numcodecs_crackle.chunks import fold  # noqa: E402
from numcodecs_crackle.sections import Sections  # noqa: E402

SEEDS = ROOT / "fuzz" / "seeds"
CHOICES = 16
SHAPES = {"small": (9, 7, 4), "wide": (70, 5, 2), "flat": (19, 13, 1), "deep": (3, 2, 19)}
# How a stream of a stored chunk is coded.
CODINGS = (
    ck.compress,
    lambda a: ck.compress(a, markov_model_order=2),
    lambda a: as_version_0(ck.compress(a)),
    lambda a: ck.compress(a, allow_pins=2),
    lambda a: bytes(ck.remap(ck.compress(a), {4: 5}, True)),
)
rng = np.random.default_rng(2026)


def array(kind: str, shape: tuple[int, int, int], dtype: str) -> np.ndarray:
    """Labels that need all of the dtype's width, of either sign if it is signed."""
    labels = volume(kind, rng, shape)
    info = np.iinfo(dtype)
    if dtype[0] == "i":
        labels = labels - 3
    labels = np.clip(labels, info.min, info.max).astype(dtype)
    labels[labels == labels.max()] = info.max
    return np.asfortranarray(labels)


def streams() -> dict[str, bytes]:
    """Streams of every kind by name."""
    made: dict[str, bytes] = {}
    for name, shape in SHAPES.items():
        for kind in ("blobs", "noise", "bricks"):
            labels = array(kind, shape, "u2")
            made[f"{name}-{kind}"] = ck.compress(labels)
            made[f"{name}-{kind}-markov"] = ck.compress(labels, markov_model_order=2)
            if shape[2] > 1:
                made[f"{name}-{kind}-pins"] = ck.compress(labels, allow_pins=2)
                made[f"{name}-{kind}-crackle-pins"] = crackle.compress(labels, allow_pins=1)
        made[f"{name}-v0"] = as_version_0(made[f"{name}-blobs"])
        made[f"{name}-v0-markov"] = as_version_0(made[f"{name}-noise-markov"])
    made["pins-v0"] = as_version_0(made["small-blobs-pins"])
    for dtype in ("u1", "u4", "u8", "i1", "i2", "i4", "i8"):
        made[f"small-{dtype}"] = ck.compress(array("blobs", SHAPES["small"], dtype))
    for name, shape in {
        "voxel": (1, 1, 1),
        "row": (130, 1, 1),
        "column": (1, 66, 2),
        "line": (1, 1, 40),
        "none": (4, 0, 3),
    }.items():
        made[name] = ck.compress(rng.integers(0, 3, shape).astype("u4"))
    made["single"] = ck.compress(np.full(SHAPES["small"], 7, "u2"))
    labels = array("bricks", SHAPES["small"], "u4")
    made["false-borders"] = with_false_borders(labels, rng)
    remapped = ck.remap(made["small-bricks"], {int(v): int(v) % 3 for v in labels.flat}, True)
    made["remapped"] = bytes(remapped)
    twice = Sections.of(made["small-u4"])
    twice.table = twice.table % np.uint32(2)
    twice.head = replace(twice.head, is_remapped=True)
    made["twice"] = twice.tobytes()
    # Labels wider than the array: cut off by a reader.
    head = replace(ck.header(made["small-u4"]), data_width=1)
    made["narrowed"] = head.tobytes() + made["small-u4"][29:]
    return made


def main() -> None:
    shutil.rmtree(SEEDS, ignore_errors=True)
    folder = SEEDS / "streams"
    folder.mkdir(parents=True)
    made = streams()
    for name, stream in made.items():
        choices = rng.integers(0, 256, CHOICES, np.uint8).tobytes()
        folder.joinpath(name).write_bytes(stream + choices + bytes(4))
    pairs = [
        ("small-blobs", "small-blobs-pins"),
        ("small-bricks", "false-borders"),
        ("small-noise", "small-noise-markov"),
        ("wide-blobs", "wide-v0"),
        ("deep-blobs", "deep-blobs-crackle-pins"),
        ("remapped", "twice"),
    ]
    for first, second in pairs:
        choices = rng.integers(0, 256, CHOICES, np.uint8).tobytes()
        folder.joinpath(f"{first}+{second}").write_bytes(
            made[first] + made[second] + choices + len(made[second]).to_bytes(4, "little")
        )
    # Shape, empty axis, dtype and order, Markov order, border of parts, labels; see roundtrip.c.
    folder = SEEDS / "arrays"
    folder.mkdir()
    for i in range(40):
        shape = [(8, 6, 3), (0, 0, 0), (129, 3, 1), (63, 20, 2), (3, 3, 30)][i % 5]
        head = (*shape, 255 if i == 39 else 0, i * 7 % 128, i % 9, i, (1, 3, 15, 255)[i // 2 % 4])
        runs = rng.integers(0, 256, 20 + 4 * i, np.uint8)
        if i % 4 < 2:
            runs[::2] %= 9
        choices = rng.integers(0, 256, CHOICES, np.uint8).tobytes()
        folder.joinpath(f"array-{i:02}").write_bytes(bytes(head) + choices + runs.tobytes())
    stored_chunks()


def stored_chunks() -> None:
    """Inputs of zarr_chunk.py: every layout, every question, streams of every kind."""
    folder = SEEDS / "zarr"
    folder.mkdir()
    rng = np.random.default_rng(2027)
    for i, name in enumerate(NAMES):
        at = layout(name)
        store = at.store
        for j, form in enumerate(FORMS[: 3 if store.shard is not None else 2]):
            which = int(rng.integers(len(at.chunks)))
            head = bytearray(rng.integers(0, 9, HEAD, np.uint8).tobytes())
            head[:4] = i, which, j, (2 * i + j) % len(KINDS)
            head[7] = (0, 1, 6, 16, 17, 32)[i % 6]
            if (i + j) % 2:
                head[8:] = bytes(HEAD - 8)  # all of the array
            body = at.sound_bytes(store.key(at.chunks[which]))
            if body.startswith(b"\x1f\x8b"):  # gzip tells the time
                body = body[:4] + bytes(4) + body[8:]
            if form == "stream":
                labels = volume("bricks", rng, store.coded_shape) % 2 + 4
                if at.array.dtype.kind == "b":
                    labels -= 4
                flat = labels.astype(store.dtype).reshape(fold(store.coded_shape)[::-1]).T
                body = CODINGS[i % len(CODINGS)](np.asfortranarray(flat))
            folder.joinpath(f"{name.replace(',', '').replace(' ', '-')}-{form}").write_bytes(
                bytes(head) + body
            )


if __name__ == "__main__":
    main()
