"""The commands for Bloscpack files."""

from __future__ import annotations

import json
import os

import blpk
import numpy as np
import pytest
from numcodecs import blosc

from numcodecs_crackle import bloscpack as bp
from numcodecs_crackle import cli, files

theirs = blpk.imported()
DATA = np.random.default_rng(0).integers(0, 9, 30_000, dtype=np.uint8).tobytes()


@pytest.fixture
def run(empty_folder, capsys):
    """Run ``blosc`` with arguments: the exit code, and what is printed."""
    with open("a.dat", "wb") as file:
        file.write(DATA)

    def run(*arguments: str):
        before = blosc.get_nthreads()
        code = cli.main(["blosc", *arguments])
        assert blosc.get_nthreads() == before
        return code, *capsys.readouterr()

    return run


def content(name: str) -> bytes:
    with open(name, "rb") as file:
        return file.read()


def test_there_and_back(run):
    assert run("compress", "a.dat")[0] == 0
    assert theirs.unpack_bytes_from_file("a.dat.blp") == (DATA, None)
    code, _, said = run("decompress", "a.dat.blp")
    assert code == 1 and "a.dat exists: use --force" in said
    assert run("d", "a.dat.blp", "b.dat")[0] == 0 and content("b.dat") == DATA
    os.remove("a.dat")
    assert run("d", "a.dat.blp", "-q")[:3] == (0, "", "") and content("a.dat") == DATA
    assert run("d", "-f", "a.dat.blp")[0] == 0


def test_options_of_bloscpack(run):
    with open("m.json", "w") as file:
        file.write('{"a": [1, 2]}\n')
    line = "--nthreads 1 --typesize 4 --level 3 --no-shuffle --codec lz4 --chunk-size 4K"
    line += " --checksum sha256 --no-offsets --metadata m.json --force --verbose --debug"
    options = line.split()
    code, _, said = run("c", *options, "a.dat", "out.blp")
    assert code == 0 and "sha256" in said and "chunk_size:      4,096" in said
    with bp.BloscpackFile("out.blp") as file:
        head, first = file.header, file.chunks.blosc_header(0)
        assert (head.offsets, head.checksum.name, head.chunk_size) == (False, "sha256", 4096)
        assert (head.typesize, first.typesize, file.metadata) == (4, 4, {"a": [1, 2]})
        assert first.named_flags()["codec"] == "lz4" and not first.named_flags()["byte_shuffle"]
    assert theirs.unpack_bytes_from_file("out.blp") == (DATA, {"a": [1, 2]})
    code, _, said = run("d", "out.blp", "b.dat")
    assert code == 0 and 'metadata: {"a": [1, 2]}' in said
    line = "c a.dat -n 2 -t 1 -l 9 -s -c zlib -z max -k None -o -m m.json -f -v out.blp"
    assert run(*line.split())[0] == 0
    assert bp.unpack_bytes_from_file("out.blp") == (DATA, {"a": [1, 2]})


def test_append(run):
    run("c", "a.dat", "-z", "8K")
    before = os.path.getsize("a.dat.blp")
    code, _, said = run("a", "a.dat.blp", "a.dat", "-c", "zstd", "-v")
    assert code == 0 and f"a.dat.blp: {before:,} -> " in said and "nchunks:         8" in said
    assert theirs.unpack_bytes_from_file("a.dat.blp") == (DATA + DATA, None)
    run("c", "-f", "-t", "4", "-z", "8K", "a.dat")
    for options, typesize in (([], 4), (["-t", "2"], 2)):
        run("a", "a.dat.blp", "a.dat", *options)
        with bp.BloscpackFile("a.dat.blp") as file:
            assert file.chunks.blosc_header(file.chunks.count - 1).typesize == typesize
    run("c", "-f", "a.dat")
    run("a", "a.dat.blp", "a.dat")
    code, _, said = run("append", "a.dat", "a.dat")
    assert code == 2 and "does not end in .blp" in said
    os.rename("a.dat.blp", "b")
    assert run("a", "-e", "b", "a.dat")[0] == 0 and bp.unpack_bytes_from_file("b")[0] == DATA * 3
    run("c", "-f", "--no-offsets", "a.dat")
    code, _, said = run("a", "a.dat.blp", "a.dat")
    assert code == 1 and "without offsets" in said
    with open("m.json", "w") as file:
        file.write("[1]")
    run("c", "-f", "-m", "m.json", "a.dat")
    with open("m.json", "w") as file:
        file.write("[2]")
    assert run("a", "a.dat.blp", "a.dat", "-m", "m.json")[0] == 0
    assert theirs.unpack_bytes_from_file("a.dat.blp") == (DATA + DATA, [2])


def test_info_tells_what_bloscpack_tells(run):
    with open("m.json", "w") as file:
        file.write('{"a": 1}')
    run("c", "a.dat", "-z", "1K", "-m", "m.json")
    code, told, _ = run("i", "a.dat.blp")
    assert code == 0 and told.startswith("a.dat.blp\n")
    whole = content("a.dat.blp")
    from bloscpack import headers

    for head, at in ((headers.BloscpackHeader, 0), (headers.MetadataHeader, 32)):
        for key, value in head.decode(whole[at : at + 32]).items():
            value = value.decode() if isinstance(value, bytes) else value
            line = next(line for line in told.splitlines() if line.strip().startswith(key + ":"))
            got = line.partition(":")[2].replace(",", "").removesuffix(" bytes").strip()
            assert got == str(value)
    assert 'metadata: {"a": 1}' in told and "codec:           blosclz" in told
    file = bp.BloscpackFile(whole)
    first = ", ".join(str(file.chunks.place(i)) for i in range(5))
    assert f"offsets: {first}, ...\n" in told
    code, told, said = run("info", "--json", "a.dat.blp", "a.dat")
    assert code == 1 and "begin with blpk" in said
    found = json.loads(told)
    assert found["bytes"] == len(DATA) and found["first_chunk_flags"]["byte_shuffle"] is True
    assert found["offsets"] == [file.chunks.place(i) for i in range(file.header.nchunks)]


def test_options_before_the_command(run):
    """As Bloscpack has them; those behind it work all the same."""
    assert run("-n", "1", "-f", "c", "a.dat")[0] == 0
    assert run("c", "a.dat")[0] == 1
    assert run("--force", "-v", "compress", "-t", "4", "a.dat")[0] == 0
    assert bp.BloscpackFile("a.dat.blp").header.typesize == 4
    code, _, said = run("-n", "1")
    assert code == 2 and "COMMAND" in said
    assert run("-z", "c", "a.dat", "c")[0] == 2  # a chunk size is no option of all


def test_refusals(run):
    run("c", "a.dat")
    before = content("a.dat.blp")
    code, _, said = run("c", "a.dat")
    assert code == 1 and "a.dat.blp exists: use --force" in said
    assert content("a.dat.blp") == before
    wrong = [
        (["d", "a.dat"], "does not end in .blp"), (["d", "-e", "a.dat"], "needs OUT"),
        (["c", "a.dat", "b", "c"], "give one OUT"), (["a", "a.dat.blp"], "give one NEW"),
        (["c", "-z", "x", "a.dat"], "is not a size"),
        (["c", "-z", "0", "a.dat"], "chunk_size must"),
        (["c", "-l", "10", "a.dat"], "from 0 to 9"), (["c", "-n", "0", "a.dat"], "from 1 to 256"),
        (["c", "-t", "256", "a.dat"], "from 1 to 255"), (["c", "-k", "md6", "a.dat"], "invalid"),
        (["c", "-c", "gzip", "a.dat"], "invalid choice"), ([], "COMMAND"),
    ]  # fmt: skip
    for arguments, text in wrong:
        code, _, said = run(*arguments)
        assert code == 2 and text in said, arguments
    for arguments, text in [
        (["c", "none"], "No such file"), (["d", "none.blp", "x"], "No such file"),
        (["a", "a.dat.blp", "none"], "No such file"), (["i", "none"], "No such file"),
        (["d", "-e", "a.dat", "x"], "begin with blpk"),
        (["c", "-m", "a.dat", "a.dat", "x"], "no JSON"),
    ]:  # fmt: skip
        code, _, said = run(*arguments)
        assert code == 1 and text in said, arguments
    assert sorted(os.listdir()) == ["a.dat", "a.dat.blp"]
    assert run("c", "--help")[0] == 0


def test_blp_in_convert(cells, capsys):
    assert cli.main(["convert", "cells.npy", "-o", "x.ckl.blp"]) == 0
    np.testing.assert_array_equal(files.load("x.ckl.blp"), cells)
    assert cli.main(["convert", "x.ckl.blp", "-o", "y.npy"]) == 0
    np.testing.assert_array_equal(np.load("y.npy"), cells)
    assert cli.main(["compress", "--blp", "cells.npy"]) == 0
    assert cli.main(["labels", "--count", "--z", "3", "cells.ckl.blp"]) == 0
    assert capsys.readouterr().out == f"{len(np.unique(cells[:, :, 3]))}\n"
    assert cli.main(["verify", "cells.ckl.blp"]) == 0
    assert cli.main(["stats", "--top", "1", "cells.ckl.blp"]) == 0
    assert cli.main(["convert", "cells.ckl.blp", "--to", "npy", "--blp"]) == 0
    np.testing.assert_array_equal(files.load_any("cells.npy.blp"), cells)
