"""Work on many chunks: in threads, processes or a cluster, a few at a time, in order."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, TypedDict, TypeVar

from zarr.core.sync import iothread

from numcodecs_crackle import limits
from numcodecs_crackle.extras import required

__all__ = ["How", "in_process", "options_of", "run"]

T = TypeVar("T")
R = TypeVar("R")


class How(TypedDict, total=False):
    """Where the chunks of a volume are worked on: keywords of every operation of a `LabelVolume`.

    Memory is bounded by the chunks that are worked on at once, and by what is returned, such as
    the list of chunks that an edit changes.

    Attributes
    ----------
    executor : concurrent.futures.Executor
        What the work is sent to, some chunks at a time: a process pool, or a dask cluster's
        ``client.get_executor()``. By default threads, one for each core, and at least 8 where
        chunks come over a network.
    progress : bool
        Show a tqdm progress bar.
    """

    executor: Executor | None
    progress: bool


def options_of(how: How, executor: Executor | None = None) -> How:
    """All of the options, of which some may be given. TypeError for those that there are not."""
    if unknown := set(how) - How.__optional_keys__:
        raise TypeError(f"there is no such option: {', '.join(sorted(unknown))}")
    return {
        "executor": how.get("executor") or executor,
        "progress": how.get("progress", False),
    }


def run(
    function: Callable[[T], R],
    items: Iterable[T],
    text: str,
    total: int | None = None,
    weight: Callable[[T], int] = lambda item: 1,
    *,
    executor: Executor | None = None,
    progress: bool = False,
    threads: int | None = None,
) -> Generator[R, None, None]:
    """function(item) for each, in order, with a bounded number in flight.

    ``total`` and ``weight`` are of the progress bar: all there is to do, and an item's part.
    ``threads``: how many, without an executor; else one for each core.
    If the caller stops early or anything raises, what has not begun is cancelled, and what
    has is waited for.
    """
    if iothread[0] is threading.current_thread():
        raise RuntimeError("zarr's own event loop can't wait for itself: call from another thread")
    bar: Any = nullcontext()
    if progress:
        bar = required("tqdm", "cli").tqdm(total=total, desc=text)
    own = (
        ThreadPoolExecutor(threads or os.cpu_count()) if executor is None else nullcontext(executor)
    )
    with bar, own as pool:
        ahead = 2 * _workers(pool) + 1
        waiting: deque[tuple[int, Future[R]]] = deque()
        left = iter(items)
        try:
            while True:
                while len(waiting) < ahead and (item := next(left, _END)) is not _END:
                    waiting.append((weight(item), pool.submit(_expecting, function, item)))
                if not waiting:
                    return
                done, future = waiting.popleft()
                result = future.result()
                if progress:
                    bar.update(done)
                yield result
        finally:
            for _, future in waiting:
                future.cancel()
            for _, future in waiting:
                if not future.cancelled():
                    future.exception()


_END: Any = object()


def _expecting(function: Callable[[T], R], item: T) -> R:
    """Chunks have the array's shape, which whoever reads them makes sure of."""
    with limits.max_voxels(limits.EXPECTED):
        return function(item)


def _workers(pool: Executor) -> int:
    """How many items a pool works on at once."""
    client = getattr(pool, "_client", None)
    if client is not None:  # dask's
        return max(1, sum(map(int, client.nthreads().values())))
    return int(getattr(pool, "_max_workers", None) or os.cpu_count() or 1)


def in_process(executor: Executor | None) -> bool:
    """Whether work is done in this process."""
    if executor is None or isinstance(executor, ThreadPoolExecutor):
        return True
    return bool(executor.submit(os.getpid).result() == os.getpid())
