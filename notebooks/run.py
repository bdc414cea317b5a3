"""Execute the notebooks anew: ``python notebooks/run.py [NOTEBOOK ...]``; by default all.

Each runs by this very Python, in a temporary folder, and is kept with its outputs, without
what differs from run to run though nothing has changed.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Or jupyter_core warns of folders that it is to use some day.
os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

__all__ = [
    "NOTEBOOKS",
    "WIDGET",
    "CellExecutionError",
    "executed",
    "main",
    "normal",
    "varies",
]

NOTEBOOKS = sorted(Path(__file__).parent.glob("*.ipynb"))
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results.json"
# The tag of cells of which outputs differ from run to run.
_VARIES = "varies"
WIDGET = "application/vnd.jupyter.widget-view+json"
_SECONDS = 120  # that a cell may take on the slowest of machines


class _ThisPython(KernelSpecManager):
    """Knows one kernel, whatever is installed: the Python that runs this."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        command = [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher"]
        quiet = "--log-level=ERROR"  # it warns that others of this machine might listen
        return KernelSpec(
            argv=[*command, quiet, "-f", "{connection_file}"],
            display_name="Python 3",
            language="python",
        )


class _Kernel(AsyncKernelManager):
    def __init__(self, **options: Any) -> None:
        super().__init__(kernel_spec_manager=_ThisPython(), **options)


@contextmanager
def _apart(folder: Path) -> Iterator[None]:
    """What IPython and Jupyter keep goes to a folder, and what a user has set does not count."""
    ours = {name: str(folder / name) for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR")}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def executed(path: Path) -> Any:
    """A notebook with new outputs, `normal`. CellExecutionError if a cell raises."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as name, _apart(Path(name)):
        work = Path(name) / "work"
        # Where it is for a notebook that is opened in a clone.
        (work / "benchmarks").mkdir(parents=True)
        shutil.copy(RESULTS, work / "benchmarks")
        client = NotebookClient(
            notebook, kernel_manager_class=_Kernel, timeout=_SECONDS,
            iopub_timeout=_SECONDS, raise_on_iopub_timeout=True,  # or outputs are lost
            coalesce_streams=True, resources={"metadata": {"path": str(work)}},
        )  # fmt: skip
        client.execute()
    return normal(notebook)


def normal(notebook: Any) -> Any:
    """The notebook without times, versions of the kernel, and numbers of widgets."""
    notebook.metadata = nbformat.from_dict({
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    })  # fmt: skip
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        for output in cell.get("outputs", ()):
            if "metadata" in output:
                output.metadata = nbformat.from_dict({})
            if "image/png" in output.get("data", ()):  # is there in place of the widget
                output.data.pop(WIDGET, None)
    return notebook


def varies(cell: Any) -> bool:
    """Whether the outputs of a cell may differ from run to run."""
    return _VARIES in cell.metadata.get("tags", ())


def _settled(notebook: Any) -> list[Any]:
    """What is the same in each run; of outputs that differ, whether there are any."""
    return [
        (cell.source, cell.metadata, bool(found) if varies(cell) else found)
        for cell in notebook.cells
        for found in [cell.get("outputs")]
    ]


def main(names: list[str]) -> None:
    for path in [Path(name) for name in names] or NOTEBOOKS:
        begin = time.perf_counter()
        before, after = nbformat.read(path, as_version=4), executed(path)
        same = _settled(before) == _settled(after) and before.metadata == after.metadata
        if not same:
            nbformat.write(after, path)
        seconds = time.perf_counter() - begin
        print(f"{path.name}: {seconds:.1f} s, {'as it was' if same else 'changed'}")


if __name__ == "__main__":
    main(sys.argv[1:])
