"""The decoder that docs/format.md writes down decodes the frozen streams."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import crackle
import numpy as np
import pytest

import numcodecs_crackle as ck

PAGE = Path(__file__).parents[1] / "docs" / "format.md"
DATA = Path(__file__).parent / "data"
FLAT = [
    *sorted(DATA.glob("*-m0.ckl")),
    *sorted((DATA / "version0").glob("*-m0.ckl")),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The names that the page's blocks define."""
    names: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("page"))
        for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S):
            exec(compile(block, str(PAGE), "exec"), names)
    return names


def array_of(path):
    kind = re.search(r"[a-z]+-[iu]\d(?=-)", path.stem)[0]
    return np.load(DATA / f"{kind}.npy")


@pytest.mark.parametrize("path", FLAT, ids=lambda p: p.stem)
def test_the_decoder_of_the_page(page, path):
    expected = array_of(path)
    found = page["decode"](path.read_bytes())
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_the_frozen_streams_are_of_all_kinds():
    heads = [ck.load_header(path) for path in FLAT]
    kinds = {(h.format_version, int(h.crack_format)) for h in heads}
    assert kinds == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert {h.signed for h in heads} == {False, True}
    assert {h.data_width for h in heads} == {1, 2, 4, 8}


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("labels", [2, 255, 256, 300])
@pytest.mark.parametrize(
    "shape", [(254, 2, 1), (255, 2, 1), (2, 254, 1), (2, 255, 1), (15, 17, 2), (16, 16, 2)]
)
def test_widths(page, shape, labels, order):
    """Sizes and numbers of labels around those where a field takes more bytes."""
    rng = np.random.default_rng(labels)
    every = rng.permutation(np.arange(np.prod(shape)) % labels).reshape(shape)
    coarse = np.resize(np.arange(labels), shape[1:]).repeat(shape[0]).reshape(shape)
    for volume in (every, coarse):
        array = np.asarray(volume.astype(np.uint32), order=order)
        np.testing.assert_array_equal(page["decode"](ck.compress(array)), array)


def test_an_index_of_one_byte(page):
    """That of crackle-codec's blank volumes."""
    stream = crackle.zeros((3, 300, 2), np.uint8).binary
    assert len(stream) < len(ck.zeros((3, 300, 2), np.uint8).binary)
    assert not page["decode"](bytes(stream)).any()


def test_the_decoder_checks_slices(page):
    stream = bytearray((DATA / "bricks-u4-m0.ckl").read_bytes())
    stream[-1] ^= 1
    with pytest.raises(AssertionError):
        page["decode"](bytes(stream))


@pytest.mark.parametrize("path", sorted(DATA.glob("*-m3.ckl")), ids=lambda p: p.stem)
def test_the_model_of_the_page(page, path):
    """Its differences, walked to their end, are those of the stream without a model."""
    stream, plain = path.read_bytes(), path.with_stem(path.stem[:-1] + "0").read_bytes()
    head, codes = ck.header(stream), list(crack_codes(stream))
    at = head.header_bytes + head.grid_index_bytes + head.num_label_bytes
    assert head.markov_model_order == (3 if any(map(moves_of, crack_codes(plain))) else 0)
    if head.markov_model_order == 0:
        return
    lists = page["model"](stream[at : at + head.num_markov_model_bytes], 3)
    for code, other in zip(codes, crack_codes(plain), strict=True):
        packed = moves_of(other)
        expected = [byte >> shift & 3 for byte in packed for shift in (0, 2, 4, 6)]
        # Up to three of the last are padding.
        count = max(0, len(expected) - 3)
        found = page["differences"](moves_of(code), lists, 3, count)
        assert [*found] == expected[:count]


def test_the_walk_that_is_drawn(page):
    """docs/img/format-walk.svg shows the page's example, and the sides of its crack codes."""
    spec = importlib.util.spec_from_file_location("drawings", PAGE.with_name("drawings.py"))
    drawings = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawings)
    assert page["slices"] == drawings.EXAMPLE
    for z, name in enumerate(("slice0", "slice1")):
        code = page["stream"][name]
        (start,) = page["chains"](code[4:8], 4, 3)
        moves, symbols = drawings.walk(code[8:], start)
        upright = {(x, min(y, v)) for (x, y), (u, v) in moves if x == u}
        level = {(min(x, u), y) for (x, y), (u, v) in moves if y == v}
        left, above = page["sides"](code, 4, 3)
        assert upright == {(int(x), int(y)) for x, y in np.argwhere(left)}
        assert level == {(int(x), int(y)) for x, y in np.argwhere(above)}
        assert [kind for kind, _ in symbols].count("branch") == (1, 0)[z]


def crack_codes(stream):
    head = ck.header(stream)
    at = head.header_bytes + head.grid_index_bytes + head.num_label_bytes
    at += head.num_markov_model_bytes
    for length in np.frombuffer(stream, "<u4", head.sz, head.header_bytes).tolist():
        yield stream[at : at + length]
        at += length


def moves_of(code):
    return code[4 + int.from_bytes(code[:4], "little") :]
