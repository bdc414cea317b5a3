"""Writes that fail, that are killed, and where they go."""

from __future__ import annotations

import builtins
import io
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import volume
from test_files import check_same, labels_of, only

import numcodecs_crackle as ck
from numcodecs_crackle import fileio, files


class StopError(Exception):
    pass


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("error", [StopError, KeyboardInterrupt])
def test_failed_writes_leave_nothing(tmp_path, old, error):
    path = tmp_path / "x.ckl"
    if old:
        path.write_bytes(old)
    with pytest.raises(error), files.atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert Path(file.name).read_bytes() == b"new"
        assert Path(file.name).parent == tmp_path
        assert file.name.endswith("x.ckl")
        raise error
    only(tmp_path, *["x.ckl"] * bool(old))
    assert old is None or path.read_bytes() == old


@pytest.mark.parametrize("suffix", [".npy", ".npy.gz", ".npy.zst", ".nii.gz", ".nrrd", ".tif"])
@pytest.mark.parametrize("order", "CF")
def test_saves_that_fail_midway(tmp_path, monkeypatch, suffix, order):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"old")
    a = np.random.default_rng(0).integers(0, 99, (64, 64, 64)).astype("u8")
    binary = ck.compress(np.asarray(a, order=order))
    if suffix.startswith(".npy"):
        decompress = ck.decompress

        def failing(*args, **kwargs):
            if kwargs["z_start"] >= 5:
                raise StopError
            return decompress(*args, **kwargs)

        monkeypatch.setattr(files.stream, "decompress", failing)
    else:

        def opening(file, mode="r", *args, **kwargs):
            opened = open_file(file, mode, *args, **kwargs)
            return Full(opened.detach()) if mode == "x+b" else opened

        class Full(io.BufferedRandom):
            def write(self, data):
                if self.tell() + memoryview(data).nbytes > 40_000:
                    raise StopError
                return super().write(data)

        open_file = builtins.open
        monkeypatch.setattr(fileio, "open", opening, raising=False)
    with pytest.raises(StopError):
        files.save(binary, path, **({"block_size": 9999} if ".npy" in suffix else {}))
    only(tmp_path, path.name)
    assert path.read_bytes() == b"old"


def test_on_disk_before_it_counts(tmp_path, monkeypatch):
    path, calls = tmp_path / "x.ckl.gz", []
    path.write_bytes(b"old")
    fsync, replace = os.fsync, os.replace

    def watched_fsync(number):
        calls.append(os.fstat(number).st_size)
        fsync(number)

    def watched_replace(temporary, target):
        assert path.read_bytes() == b"old"
        assert calls == [os.stat(temporary).st_size]
        replace(temporary, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    files.save(labels_of("u4"), path)
    assert calls == [path.stat().st_size]
    check_same(files.load(path), labels_of("u4"))


CHILD = """
import itertools, os, signal, sys
import numpy as np
from numcodecs_crackle import files, stream
decompress, calls = stream.decompress, itertools.count()
def killed(*args, **kwargs):
    if next(calls) == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return decompress(*args, **kwargs)
stream.decompress = killed
files.save(files.bload(sys.argv[1]), sys.argv[2], block_size=1 << 20)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize("order", "CF")
def test_killed_midway(tmp_path, order):
    a = volume("bricks", np.random.default_rng(0), (128, 128, 128)).astype("u8")
    files.save(np.asarray(a, order=order), tmp_path / "x.ckl")
    folder = tmp_path / "folder"
    folder.mkdir()
    old = labels_of("i2")
    files.save(old, folder / "x.npy")
    arguments = [sys.executable, "-c", CHILD, str(tmp_path / "x.ckl"), str(folder / "x.npy")]
    root = str(Path(files.__file__).parent.parent)
    child = subprocess.run(arguments, check=False, env={**os.environ, "PYTHONPATH": root})
    assert child.returncode == -signal.SIGKILL
    check_same(np.load(folder / "x.npy"), old)
    left = [p for p in folder.iterdir() if p.name != "x.npy"]
    assert [p.stat().st_size > 4 << 20 for p in left] == [True]  # it had come that far
    files.save(files.bload(tmp_path / "x.ckl"), folder / "x.npy")
    check_same(np.load(folder / "x.npy"), a)


@pytest.mark.skipif(os.name != "posix", reason="permissions and links as POSIX has them")
def test_permissions_links_and_pipes(tmp_path, monkeypatch):
    a = labels_of("u1")
    before = os.umask(0o027)
    try:
        files.save(a, tmp_path / "new.ckl")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new.ckl").stat().st_mode) == 0o640
    os.chmod(tmp_path / "new.ckl", 0o604)
    files.save(a, tmp_path / "new.ckl")
    assert stat.S_IMODE((tmp_path / "new.ckl").stat().st_mode) == 0o604

    (tmp_path / "deep").mkdir()
    for target in ("deep/there.ckl", "deep/dangling.ckl"):
        if "there" in target:
            (tmp_path / target).write_bytes(b"old")
        link = tmp_path / f"link-{Path(target).name}"
        link.symlink_to(target)
        files.save(a, link)
        assert link.is_symlink()
        check_same(files.load(tmp_path / target), a)
    only(tmp_path / "deep", "there.ckl", "dangling.ckl")

    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        files.save(a, tmp_path / "pipe")
        assert os.read(reader, 1 << 16) == ck.compress(a)
    finally:
        os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    with pytest.raises(IsADirectoryError):
        files.save(a, tmp_path / "deep")
    with pytest.raises(FileNotFoundError):
        files.save(a, tmp_path / "none" / "x.ckl")
    monkeypatch.chdir(tmp_path)
    name = "n" * 251 + ".ckl"  # as long as names may be
    files.save(a, name)
    check_same(files.load(name), a)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError):
        files.save(a, "new.ckl")


def test_equal_data_equal_files(tmp_path):
    for suffix in ("ckl.gz", "npy.gz", "npy.xz", "npy.zst", "nii.gz"):
        a, b = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
        files.save(labels_of("u4"), a)
        files.save(labels_of("u4"), b)
        assert a.read_bytes() == b.read_bytes()
