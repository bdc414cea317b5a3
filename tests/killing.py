"""A process that lets children of itself die at any point of some work on files.

What takes long, the imports, is done once: children are forked. One dies of SIGKILL before the
n-th time that it opens a file to write, or renames or removes one; or when a file would grow
beyond a size, so that a write stops halfway. Both are the same in every run.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path
from typing import Any

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate"}


class Killer:
    """The process, as tests talk to it."""

    def __init__(self) -> None:
        # A process that forks should have one thread.
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )

    def killed(self, code: str, folder: Path, **limits: int) -> bool:
        """Run code until a limit, ``event`` or ``size``; whether it died of that."""
        assert self._process.stdin is not None and self._process.stdout is not None
        wanted = {"code": code, "folder": str(folder), "limits": limits}
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()
        status = int(self._process.stdout.readline())
        assert status in (0, -signal.SIGKILL, -signal.SIGXFSZ), "the code failed"
        return status != 0

    def deaths(self, code: str, folder: Path, sizes: int = 8) -> Iterator[str]:
        """Let the code die everywhere: before each change, and at some sizes of its files.

        Yields after each death. The folder is then put back to what it was, and the code run
        up to the next one. In the end it has been run without one.
        """
        before, after = (folder.with_name(f"{folder.name}-{w}") for w in ("before", "after"))
        shutil.copytree(folder, before)
        assert not self.killed(code, folder)
        shutil.copytree(folder, after)
        largest = max(
            path.stat().st_size
            for path in after.rglob("*")
            if path.is_file() and _changed(path, before / path.relative_to(after))
        )
        every: list[dict[str, int]] = [{"size": largest * i // sizes} for i in range(sizes)]
        for limits in chain(every, ({"event": n} for n in count())):
            shutil.rmtree(folder)
            shutil.copytree(before, folder)
            if not self.killed(code, folder, **limits):
                assert limits.get("event", 0) > 1, "nothing was written"
                break
            yield str(limits)
        shutil.rmtree(before)
        shutil.rmtree(after)

    def end(self) -> None:
        self._process.communicate()
        assert self._process.returncode == 0


def _changed(path: Path, before: Path) -> bool:
    """Whether a file, or a copy of it, has been written since."""
    return not before.is_file() or path.stat().st_mtime_ns != before.stat().st_mtime_ns


def _work(code: str, folder: str, limits: dict[str, int]) -> None:
    """In a child: run code. One thread at a time writes, so that events have an order."""
    import zarr

    from numcodecs_crackle import index

    left = limits.get("event", -1)

    def watch(event: str, args: tuple[Any, ...]) -> None:
        nonlocal left
        if event == "open":
            if not (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event not in _CHANGES:
            return
        path = os.fsdecode(args[0]) if not isinstance(args[0], int) else ""
        if os.path.isabs(path) and not path.startswith(folder):
            return
        if event == "os.mkdir" and os.path.isdir(path):
            return
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    os.fsync = lambda file: None  # a machine does not lose what a killed process has written
    os.cpu_count = lambda: 1
    index._PART_ROWS = 12  # an index of several files
    names: dict[str, Any] = {"folder": Path(folder)}
    exec("import numpy as np, zarr, numcodecs_crackle as ck", names)
    exec("from numcodecs_crackle import LabelVolume, files", names)
    with zarr.config.set({"async.concurrency": 1, "threading.max_workers": 1}):
        if "size" in limits:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (limits["size"], limits["size"]))
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        else:
            sys.addaudithook(watch)
        exec(code, names)


def main() -> None:
    # Whatever the code imports late is slow to import.
    import compresso
    import nibabel
    import nrrd
    import numpy.ma
    import pyarrow.parquet
    import tifffile
    import zstandard

    import numcodecs_crackle.files
    import numcodecs_crackle.volume
    import numcodecs_crackle.zarr_codec

    assert all((compresso, nibabel, nrrd, numpy, pyarrow, tifffile, zstandard, numcodecs_crackle))
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                _work(**json.loads(line))
                status = 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stderr.flush()
                os._exit(status)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
