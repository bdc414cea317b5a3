"""Every small damage to small streams of every kind, asked everything.

Of version 1, which has checksums: an error, or exactly what the undamaged stream answers. Of
version 0, which has none: an error, or an answer of the right kind.
"""

from __future__ import annotations

from itertools import islice

import crackle
import numpy as np
import pytest
from conftest import as_version_0, volume
from damaged import damaged

import numcodecs_crackle as ck


def _streams():
    rng = np.random.default_rng(4)
    a = rng.integers(0, 9, (4, 3, 3)).repeat(2, 0).repeat(2, 1).astype("u2")
    noise = rng.integers(0, 99, (6, 5, 2)).astype("u2")
    cells = volume("blobs", np.random.default_rng(1), (9, 8, 6)).astype("u4")
    made = {
        "flat": ck.compress(np.asfortranarray(a)),
        "C order": ck.compress(np.ascontiguousarray(a)),
        "signed": ck.compress(np.asfortranarray(a.astype("i4") - 4)),
        "markov": ck.compress(np.asfortranarray(a), 2),
        "permissible": ck.compress(np.asfortranarray(noise)),
        "pins": crackle.compress(np.asfortranarray(cells), allow_pins=1, parallel=1),
        "one label": ck.compress(np.full((5, 4, 3), 7, "u8", order="F")),
        "edited": bytes(ck.remap(ck.compress(np.asfortranarray(a)), {1: 2, 3: 2}, True)),
    }
    return made | {f"{k}, version 0": as_version_0(v) for k, v in made.items() if k != "C order"}


STREAMS = _streams()
QUESTIONS = {
    "decompress": ck.decompress,
    "z range": lambda s: ck.decompress(s, z_start=1, z_end=2),
    "label": lambda s: ck.decompress(s, label=2),
    "labels": lambda s: ck.labels_for_z_range(s, 0, 2),
    "voxel_counts": ck.voxel_counts,
    "bounding_boxes": ck.bounding_boxes,
    "contacts": ck.contacts,
    "point_cloud": ck.point_cloud,
    "connectivity": ck.voxel_connectivity_graph,
    "components": lambda s: ck.decompress(ck.connected_components(s, 6)),
    "remap": lambda s: ck.decompress(ck.remap(s, {2: 5}, True)),
    "recompress": lambda s: ck.decompress(ck.recompress(s)),
    "zsplit": lambda s: ck.decompress(ck.zsplit(s, 1)[2]),
}


def _answer(question, stream):
    """What it answers, so that it can be compared; None for an error."""
    try:
        return _plain(QUESTIONS[question](stream))
    except ck.FormatError:
        return None
    except (ValueError, IndexError) as error:  # of a volume that has other sizes now
        assert stream[4] == 0, error
        return None


def _plain(found):
    if isinstance(found, dict):
        return {key: _plain(value) for key, value in found.items()}
    if isinstance(found, np.ndarray):
        return found.shape, str(found.dtype), found.tobytes()
    return found


def _damaged(stream):
    """Damage of each kind, at every place; and more than there should be."""
    yield from (made for _, made in damaged(stream))
    yield stream + stream
    yield stream + b"\0"


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("question", QUESTIONS)
def test_every_damage(name, question):
    stream = STREAMS[name]
    right = _answer(question, stream)
    assert right is not None
    # To decode is asked of each; the others in turns of three, as they read the same way.
    step, first = (1, 0) if question == "decompress" else (3, len(question) % 3)
    found = [_answer(question, damaged) for damaged in islice(_damaged(stream), first, None, step)]
    assert found.count(None) > len(stream) // step
    if stream[4]:
        assert all(answer is None or answer == right for answer in found)
